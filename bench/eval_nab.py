"""Runs the general metric detector on the Numenta Anomaly Benchmark, and writes its block of the page.

make eval-nab DATA=../shared/data
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.eval import nab_page, nab_plots
from bench.eval.nab import PROFILES, Series, read
from bench.eval.nab_disturbed import disturbed
from bench.eval.nab_page import EVERY_ROW, OURS
from bench.eval.nab_rivals import RIVALS, Detector, Metric
from bench.eval.nab_runs import Run, drawn, run_all
from bench.eval.page import PAGE, publish
from bench.machine import RESULTS

ARCHIVE = Path("nab") / "nab.tar.gz"
PREFACE = """\
The detector for any numeric series, `detectors/sequential/metric.py`: latency, cost and `evaluation` values
of any name. The data are those of numenta/NAB (MIT)."""
DRAWN = 30
FACTOR = 2.0
NOISE_ROWS = 10_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs everything and writes the page, the figures and the pictures. 1 when the data are not there."""
    parser = argparse.ArgumentParser(prog="python -m bench.eval_nab", description=__doc__)
    parser.add_argument("data", type=Path, help=f"folder with {ARCHIVE}")
    parser.add_argument("--drawn", type=int, default=DRAWN, help="how many sets of parameters to draw")
    parser.add_argument("--noise-rows", type=int, default=NOISE_ROWS, help="rows of a series of noise")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--figures", type=Path, default=RESULTS / "eval_nab.json")
    parser.add_argument("--pictures", type=Path, default=PAGE.parent / "nab")
    options = parser.parse_args(arguments)
    try:
        corpus = read(options.data / ARCHIVE)
    except FileNotFoundError:
        print(f"no {ARCHIVE} in {options.data}: give the folder that holds it", file=sys.stderr)
        return 1
    ours = Metric()
    fixed: dict[str, Detector] = {OURS: ours, EVERY_ROW: Metric(episodes=False), **RIVALS}
    other = dict(drawn(options.drawn, FACTOR))
    runs = _run(corpus, fixed | other | disturbed())
    longest = max(corpus, key=lambda series: len(series.values))
    standard = runs[OURS].outcomes(corpus)["standard"]
    sections = {
        "scores": nab_page.scores(corpus, {name: runs[name] for name in fixed}, ours.state_bytes(longest)),
        "tuning": nab_page.tuning(corpus, [runs[name] for name in other], FACTOR),
        "disturbed": nab_page.disturbances(corpus, {name: runs[name] for name in disturbed()}),
        "categories": nab_page.categories(standard, corpus),
        "noise": nab_page.noise(options.noise_rows),
    }
    pictures = nab_plots.draw(corpus, runs[OURS].scores, standard, options.pictures)
    publish("nab", sections, preface=PREFACE, page=options.page, figures=options.figures)
    for name in PROFILES:
        print(f"{name}: {sections['scores'].figures[OURS][name]['score']}")
    print(options.page, options.figures, *pictures, sep="\n")
    return 0


def _run(corpus: list[Series], detectors: dict[str, Detector]) -> dict[str, Run]:
    """All runs, with a bar on a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("detectors over the corpus", total=len(detectors))
        return run_all(corpus, detectors, lambda _: progress.advance(task))


if __name__ == "__main__":
    sys.exit(main())
