"""Lets a made-up healthy fleet pass before the whole catalogue, and writes its block of docs/evaluation.md.

make eval-null
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bench.eval import null, null_plots
from bench.eval.page import PAGE, publish
from bench.machine import RESULTS

PLOT = PAGE.parent / "null" / "fleet.png"
PREFACE = """\
A month of a made-up fleet in which nothing is wrong (`bench/eval/fleet.py`; tenants of ten agents, one
seed): every alarm is a false one. Traffic has days and weeks (nights near nothing, weekends low, a
holiday), comes in lumps, and twice a month an agent has an hour of five to ten times its traffic, most
of it about one topic. Rates of refusal move by 30% over the day, lengths by 15%, latencies by 30% and
wander by 8%; topics, languages and segments have lengths and rates of their own, and topics gain and
lose from day to day. Who was refused is refused again more readily in the same session. Providers fail
5% of calls for some minutes four times a month; agents and telemetry are gone for hours; new versions of
prompts that change nothing come every nine days, half of them to a few sessions first; credentials are
renewed; three agents in ten declare nothing; some start in mid-month.

![Traffic of some agents and where alarms fell](null/fleet.png)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulates, counts, and writes the block, the figures and the plot."""
    parser = argparse.ArgumentParser(prog="python -m bench.eval_null", description=__doc__)
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seed", type=int, default=20270104)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--alarms", type=Path, help="write every alarm to this file, one a line")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--figures", type=Path, default=RESULTS / "eval_null.json")
    parser.add_argument("--plot", type=Path, default=PLOT)
    options = parser.parse_args(arguments)
    if options.agents < 1 or options.days < 1 or options.jobs < 1:
        parser.error("--agents, --days and --jobs are at least 1")
    begun = time.perf_counter()
    fleet = null.jobs(options.agents, options.days, options.seed)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f} agent-days"),
    )
    with Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task("healthy fleet", total=options.agents * options.days)
        counted = null.run(fleet, options.jobs, lambda agent_days: progress.advance(task, agent_days))
    sections = {"alarms": null.section_of_alarms(counted), "fleet": null.section_of_volume(counted)}
    took = f"{options.agents} agents, {options.days} days, seed {options.seed}"
    sections["fleet"].say(f"{took}: {time.perf_counter() - begun:.0f} s on {options.jobs} processes.")
    null_plots.draw(counted, options.plot)
    if options.alarms is not None:
        options.alarms.write_text("".join(f"{alarm}\n" for alarm in counted.alarms), encoding="utf-8")
    publish("null", sections, preface=PREFACE, page=options.page, figures=options.figures)
    rate = sections["alarms"].figures["critical_per_agent_month"]
    print(f"{rate} false criticals per agent-month\n{options.page}\n{options.figures}\n{options.plot}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
