"""Shows the engine real model swaps with the model hidden, and writes its block of docs/evaluation.md.

make eval-traces DATA=../shared/data
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from bench.eval import refusals, swaps, swaps_page, swaps_plots
from bench.eval.page import PAGE, Section, publish
from bench.machine import RESULTS

PLOT = PAGE.parent / "traces" / "swaps.png"
PREFACE = """\
LLMDrift (Chen, Zaharia and Zou, "How Is ChatGPT's Behavior Changing over Time?", 2023): two models of
two families answer the same questions. An agent asks the old model a random half or more of the
questions once, then all of them of the new one (control: of the old one again), in seeded orders, one
session a question. The engine is shown latency, dollars, output tokens and the client's refusal flag,
not the model's name, and what an owner may have set up: a quarter of the answers judged where the data
say what is right, ten canaries every 25 calls, and hashed words as an embedding.

![Signals, swaps and alarms of one run each](traces/swaps.png)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Plays all runs and writes the block, the figures and the plot. 1 when the data are not there."""
    parser = argparse.ArgumentParser(prog="python -m bench.eval_traces", description=__doc__)
    parser.add_argument("data", type=Path, help="folder with traces/llmdrift.jsonl.gz and xstest.jsonl.gz")
    parser.add_argument("--seeds", type=int, default=20, help="runs of each swap, and of each control")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--figures", type=Path, default=RESULTS / "eval_traces.json")
    parser.add_argument("--plot", type=Path, default=PLOT)
    options = parser.parse_args(arguments)
    if options.seeds < 1 or options.jobs < 1:
        parser.error("--seeds and --jobs are at least 1")
    try:
        cases = swaps.load(options.data / "traces" / swaps.FILE)
    except FileNotFoundError:
        print(f"no traces/{swaps.FILE} in {options.data}: give the folder that holds it", file=sys.stderr)
        return 1
    outcomes = _play(cases, options.seeds, options.jobs)
    sections: dict[str, Section] = {"changes": swaps_page.section_of_changes(cases)}
    changed = {name for name, quantities in sections["changes"].figures.items() if quantities}
    sections["swaps"] = swaps_page.section_of_swaps(outcomes, changed)
    sections["detectors"] = swaps_page.section_of_detectors(outcomes)
    sections["recorded"] = swaps_page.section_of_recorded(outcomes)
    try:
        sections["refusals"] = refusals.section(options.data)
    except FileNotFoundError as error:
        sections["swaps"].say(f"XSTest is not evaluated for want of {Path(error.filename).name}.")
    swaps_plots.draw([run for run in outcomes if run.variant == "swap" and run.seed == 0], options.plot)
    publish("traces", sections, preface=PREFACE, page=options.page, figures=options.figures)
    print(f"{options.page}\n{options.figures}\n{options.plot}")
    return 0


def _play(cases: list[swaps.Case], seeds: int, jobs: int) -> list[swaps.Outcome]:
    plans = [
        swaps.plan(case, variant, seed)
        for case in cases
        for variant in ("swap", "control")
        for seed in range(seeds)
    ]
    plans += [swaps.plan(case, "recorded", 0) for case in cases]
    with Progress() as progress:
        task = progress.add_task("model swaps", total=len(plans))
        return swaps.play_all(plans, jobs, lambda: progress.advance(task))


if __name__ == "__main__":
    sys.exit(main())
