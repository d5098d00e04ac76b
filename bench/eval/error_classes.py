"""What is found in runs that failed for a known reason (bioagent)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bench.eval.healthy import LOOP_CLASSES
from bench.eval.page import Section
from bench.eval.runs import detect, load


def section(data: Path) -> Section:
    """A table of error classes against detections."""
    page = Section("Error classes of `bioagent`")
    runs = load(data / "traces" / "bioagent.jsonl.gz")
    found = detect(runs)
    page.say(
        f"{len(runs)} runs of research agents, one labelled error class each. The code they run was "
        "recorded without arguments, and calls of unknown arguments are not taken for equal, so "
        "`tool_loop` cannot tell here."
    )
    rows = []
    for run in sorted(runs, key=lambda run: run.label["error_type"]):
        counts = Counter(f"{each.detector} ({each.severity})" for each in found[run.session])
        named = ", ".join(
            f"{name} × {count}" if count > 1 else name for name, count in sorted(counts.items())
        )
        kind = run.label["error_type"]
        rows.append((kind, "loop" if kind in LOOP_CLASSES else "–", len(run.events), named or "none"))
        page.figures[run.session] = dict(counts)
    page.table(("error class", "kind", "events", "detections"), rows)
    page.say(
        "Most of these errors are of judgement (a misread prompt, a wrong plan) and leave no mark that "
        "could be seen without content; what shows is their length."
    )
    return page
