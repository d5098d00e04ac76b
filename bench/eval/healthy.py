"""What the engine says of healthy runs: nothing critical."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bench.eval.page import Section
from bench.eval.runs import Run, detect, load

LOOP_CLASSES = {"round_or_time_limit_exceeded", "redundant_process_or_code"}
SEVERITIES = ("critical", "warning", "info")


def section(data: Path) -> Section:
    """A table of detections on healthy runs, by detector and severity."""
    page = Section("Healthy runs: nothing critical")
    page.say(
        "Each file goes through the whole engine, session and behaviour detectors, in one pass; counted "
        "is what was found in runs whose label says that they are healthy. `bioagent` has no healthy "
        "run: its runs failed, but not by looping, so nothing in them should page either."
    )
    rows: list[tuple[object, ...]] = []
    critical = 0
    for name, runs in _healthy(data):
        everything, chosen = runs
        found = detect(everything)
        counts: Counter[tuple[str, str]] = Counter()
        for run in chosen:
            counts.update((each.detector, each.severity) for each in found[run.session])
        of_agents = Counter((f"{each.detector} (agent)", each.severity) for each in found[""])
        for (detector, severity), count in sorted((counts + of_agents).items()):
            rows.append((name, len(chosen), detector, severity, count))
        if not counts + of_agents:
            rows.append((name, len(chosen), "none", "–", 0))
        criticals = sum(
            count for (_, severity), count in (counts + of_agents).items() if severity == "critical"
        )
        critical += criticals
        page.figures[name] = {
            "runs": len(chosen),
            "critical": criticals,
            "detections": {f"{one}/{severity}": count for (one, severity), count in sorted(counts.items())},
        }
    page.table(("runs of", "runs", "detector", "severity", "detections"), rows)
    page.figures["critical"] = critical
    page.say(
        "None is critical, as it must be."
        if not critical
        else f"**Short of the bar: {critical} are critical.**",
        "The warnings of `budget` are the caps that hold where a session, the policy and the agent's "
        "history say nothing (15 steps, 100,000 tokens).",
    )
    return page


def _healthy(data: Path) -> list[tuple[str, tuple[list[Run], list[Run]]]]:
    airline, dojo, bio = (
        load(data / "traces" / f"{name}.jsonl.gz") for name in ("tau_airline", "agentdojo", "bioagent")
    )
    return [
        ("tau_airline, passed", (airline, [run for run in airline if run.label.get("success")])),
        ("agentdojo, benign", (dojo, [run for run in dojo if run.label.get("variant") == "benign"])),
        (
            "bioagent, not looping",
            (bio, [run for run in bio if run.label.get("error_type") not in LOOP_CLASSES]),
        ),
    ]
