"""Measures how late each test sees a change, at equal false-alarm run length; writes its block of the page.

make eval-delay
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from bench.eval import delay_plots
from bench.eval.delay import OPTIMAL, Plan, measure
from bench.eval.delay_changes import CHANGES
from bench.eval.delay_results import Results
from bench.eval.delay_sides import OURS, SIDES
from bench.eval.delay_tables import section
from bench.eval.page import PAGE, publish
from bench.machine import REPOSITORY

PLOTS = REPOSITORY / "docs" / "delay"
EXAMPLE = "2% to 8%"


def plots(results: Results, folder: Path) -> None:
    """Delay against size for rates rising from 2 % and normal means; and one change in detail."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    chosen = [
        number for number in results.optimal if CHANGES[number].before.name in ("rate 2%", "normal 0 1")
    ]
    for number in chosen:
        change = CHANGES[number]
        if change.kind == "distribution":
            continue
        title = {"rate": "rise of a rate from 2 %, points", "mean": "shift of a mean, standard deviations"}[
            change.kind
        ]
        size = change.size * (100 if change.kind == "rate" else 1)
        curves = panels.setdefault(title, {})
        curves.setdefault(OPTIMAL, []).append((size, results.optimal[number].mean))
        for side in SIDES[change.kind]:
            found = results.delays[number, side.name, results.plan.others_reference]
            if found.missed < 0.5:
                curves.setdefault(side.name, []).append((size, found.mean))
    delay_plots.by_size(folder / "by-size.png", panels, OPTIMAL, OURS.name)
    (shown,) = (change for change in CHANGES if change.name == EXAMPLE)
    delay_plots.example(folder / "example.png", shown, results.plan.run_length)


def main(
    arguments: Sequence[str] | None = None,
    plan: Plan | None = None,
    numbers: Sequence[int] = range(len(CHANGES)),
) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, default=PAGE, help="the page that a block of is written anew")
    parser.add_argument("--figures", type=Path, help="the figures, JSON")
    parser.add_argument("--plots", type=Path, default=PLOTS, help="folder of the pictures")
    options = parser.parse_args(arguments)
    plan, started = plan or Plan(), time.monotonic()
    with Progress(transient=True) as progress:
        bar = progress.add_task("delays", total=None)
        found = measure(plan, numbers, lambda done, total: progress.update(bar, completed=done, total=total))
    results = Results(plan, numbers, found)
    kinds = dict.fromkeys(CHANGES[number].kind for number in numbers)
    sections = {f"delay_{kind}": section(kind, results) for kind in kinds}
    plots(results, options.plots)
    publish(
        "delay",
        sections,
        preface=_preface(plan, time.monotonic() - started),
        page=options.page,
        figures=options.figures,
    )
    return 0


def _preface(plan: Plan, seconds: float) -> str:
    return (
        f"Every level is set on simulated streams without a change so that the false-alarm run length is "
        f"{plan.run_length:,} observations ({plan.null_runs} streams of {plan.null_length:,}: uncertain by "
        f"{100 * (plan.run_length / plan.null_runs / plan.null_length) ** 0.5:.0f}%, and a delay by a sixth "
        f"of that; fewer for ADWIN, KSWIN and HDDM: they are slow); delays are means of {plan.runs} streams, "
        f"one observation at a time, the same for all sides, corrected by what the optimal test needed on "
        f"them beside {plan.optimal_runs:,} others; {seconds / 60:.0f} minutes. Ratios are "
        f"uncertain by some 6%. A `>` marks a mean that "
        f"is a lower bound because streams ended first. ADWIN and HDDM are tried at fixed settings: the "
        f"most sensitive one whose run length is long enough is shown.\n\n"
        f"![Delay by size of change](delay/by-size.png)\n\n![One change in detail](delay/example.png)"
    )


if __name__ == "__main__":
    sys.exit(main())
