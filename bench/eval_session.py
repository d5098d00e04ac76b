"""Holds what must hold inside a session against recorded runs, and writes its block of docs/evaluation.md.

make eval-session DATA=../shared/data
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.eval import alternation, error_classes, foreign, healthy, injected, refusals
from bench.eval.page import PAGE, Section, publish
from bench.machine import RESULTS

SECTIONS = {
    "healthy": healthy.section,
    "alternation": alternation.section,
    "injected": injected.section,
    "foreign_arguments": foreign.section,
    "error_classes": error_classes.section,
    "refusals": refusals.section,
}
PREFACE = """\
What must hold inside a session. The data are recorded runs of real and scripted agents (sources and licences
in the data's own README), turned into agent events by `bench/traces.py`: hashes, lengths and shapes. Labels
are used to count and are never shown to the engine. Times are made up two seconds apart, so delays are
counted in events."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs every section whose data are there and writes the page and the figures. 1 when none is."""
    parser = argparse.ArgumentParser(prog="python -m bench.eval_session", description=__doc__)
    parser.add_argument("data", type=Path, help="folder with traces/*.jsonl.gz")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--figures", type=Path, default=RESULTS / "eval_session.json")
    options = parser.parse_args(arguments)
    sections: dict[str, Section] = {}
    absent: list[str] = []
    for name, make in SECTIONS.items():
        try:
            sections[name] = make(options.data)
        except FileNotFoundError as error:
            absent.append(f"{name} needs {Path(error.filename).name}")
    if not sections:
        print(f"no traces/*.jsonl.gz in {options.data}: give the folder that holds them", file=sys.stderr)
        return 1
    lacking = f"\n\nNot evaluated, for want of data: {'; '.join(absent)}." if absent else ""
    publish("session", sections, preface=PREFACE + lacking, page=options.page, figures=options.figures)
    print(f"{options.page}\n{options.figures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
