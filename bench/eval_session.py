"""Holds what must hold inside a session against recorded runs: writes docs/evaluation.md and the figures.

make eval-session DATA=../shared/data
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import orjson

from bench.eval import alternation, error_classes, foreign, healthy, injected, refusals
from bench.eval.page import Section
from bench.machine import REPOSITORY, RESULTS, machine

SECTIONS = {
    "healthy": healthy.section,
    "alternation": alternation.section,
    "injected": injected.section,
    "foreign_arguments": foreign.section,
    "error_classes": error_classes.section,
    "refusals": refusals.section,
}
INTRODUCTION = """\
# Evaluation: what must hold inside a session

Written by `make eval-session DATA=…` (`python -m bench.eval_session DATA`); not edited by hand. The data are
recorded runs of real and scripted agents (sources and licences in the data's own README), turned into agent
events by `bench/traces.py`: hashes, lengths and shapes. Labels are used to count and are never shown to the
engine. Times are made up two seconds apart, so delays are counted in events."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs every section whose data are there and writes the page and the figures. 1 when none is."""
    parser = argparse.ArgumentParser(prog="python -m bench.eval_session", description=__doc__)
    parser.add_argument("data", type=Path, help="folder with traces/*.jsonl.gz")
    parser.add_argument("--page", type=Path, default=REPOSITORY / "docs" / "evaluation.md")
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
    pages = [INTRODUCTION, *(section.markdown() for section in sections.values())]
    if absent:
        pages.append(f"Not evaluated, for want of data: {'; '.join(absent)}.")
    options.page.write_text("\n\n".join(pages) + "\n", encoding="utf-8")
    figures = {"machine": machine(), **{name: section.figures for name, section in sections.items()}}
    options.figures.write_bytes(
        orjson.dumps(figures, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"
    )
    print(f"{options.page}\n{options.figures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
