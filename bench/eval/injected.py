"""Recall, precision and delay of each session detector on faults put into healthy real runs."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.eval.faults import FAULTS, Fault, put_in
from bench.eval.page import Section, ratio, share
from bench.eval.runs import Run, event_number, load, parse
from detectors.offline import Engine
from detectors.registry import SESSION
from schemas.detection import Detection

SEED = 20_260


@dataclass(slots=True)
class Tally:
    """Of one detector: runs with the fault, those found, the faulty events until then, healthy runs "
    "flagged."""

    injected: int = 0
    found: int = 0
    critical: int = 0
    false: int = 0
    early: int = 0
    delays: list[int] = field(default_factory=list)


def section(data: Path) -> Section:
    """The table by detector."""
    page = Section("Faults in healthy runs, by detector")
    healthy = [
        *(run for run in load(data / "traces" / "tau_airline.jsonl.gz") if run.label.get("success")),
        *(
            run
            for run in load(data / "traces" / "agentdojo.jsonl.gz")
            if run.label.get("variant") == "benign"
        ),
    ]
    registered = {detector.name for detector in SESSION}
    faults = [fault for fault in FAULTS if fault.detector in registered]
    tallies = {fault.detector: Tally() for fault in faults}
    for run in healthy:
        for name in {each.detector for each in _find(run.events) if each.severity != "info"} & set(tallies):
            tallies[name].false += 1
    for fault in faults:
        for number, run in enumerate(healthy):
            _inject(fault, random.Random(f"{SEED}/{fault.detector}/{number}"), run, tallies[fault.detector])
    page.say(
        f"Each fault goes once into each of {len(healthy)} healthy runs (tau_airline passed, agentdojo "
        "benign) at a seeded place after one of its calls; found is what the named detector says at or "
        "after the fault, information left out. Recall is over runs with the fault; precision counts "
        "against it what the same detector says of the same runs without it, and what it says before "
        "the fault. Delay: faulty events up to and including the one that triggers."
    )
    rows = []
    for fault in faults:
        tally = tallies[fault.detector]
        wrong = tally.false + tally.early
        rows.append(
            (
                f"`{fault.detector}`",
                fault.what,
                tally.injected,
                tally.found,
                share(tally.found, tally.injected),
                share(tally.found, tally.found + wrong),
                tally.critical,
                f"{median(tally.delays):g}" if tally.delays else "–",
                max(tally.delays, default=0) or "–",
            )
        )
        page.figures[fault.detector] = {
            "injected": tally.injected,
            "recall": ratio(tally.found, tally.injected),
            "precision": ratio(tally.found, tally.found + wrong),
            "flagged_healthy": tally.false,
            "median_delay_events": median(tally.delays) if tally.delays else None,
            "max_delay_events": max(tally.delays, default=None),
        }
    page.table(
        ("detector", "fault", "runs", "found", "recall", "precision", "critical", "median delay", "worst"),
        rows,
    )
    without = sorted(registered - set(tallies))
    if without:
        names = ", ".join(f"`{name}`" for name in without)
        page.say(f"Not put into these runs, for it takes more than one of them: {names}. See the drills.")
    page.say(
        "The precision of `budget` is that of the 15 steps that hold where nobody says otherwise; "
        "sessions that declare a budget, and agents with a history, are held to theirs."
    )
    return page


def _inject(fault: Fault, rng: random.Random, run: Run, tally: Tally) -> None:
    made = put_in(fault, rng, run.events)
    if made is None:
        return
    events, faulty = made
    tally.injected += 1
    said = [each for each in _find(events) if each.detector == fault.detector and each.severity != "info"]
    after = [each for each in said if event_number(each) >= faulty.start]
    if not after:
        tally.early += bool(said)
        return
    first = min(event_number(each) for each in after)
    tally.found += 1
    tally.critical += any(each.severity == "critical" for each in after)
    tally.delays.append(min(first, faulty.stop - 1) - faulty.start + 1)


def _find(events: list[dict[str, object]]) -> list[Detection]:
    return list(Engine(behaviour=()).run(parse(events)))
