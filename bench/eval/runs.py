"""Recorded runs with their labels beside them: the engine is shown the events and never the labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from bench import traces
from detectors.offline import Engine
from schemas.detection import Detection
from schemas.event import AGENT_EVENT, AgentEvent


@dataclass(frozen=True, slots=True)
class Run:
    """One recorded run: its events as JSON objects, its lines as recorded, and the label at its end."""

    session: str
    events: list[traces.Event]
    lines: list[dict[str, Any]]
    label: dict[str, Any]


def load(path: Path) -> list[Run]:
    """The runs of a trace file. Raises `OSError` when it cannot be read."""
    lines = {
        session: list(group)
        for session, group in groupby(traces.lines(path), key=lambda line: line["trace_id"])
    }
    grouped = groupby(traces.events(path), key=lambda event: event["session"])
    return [
        Run(session, list(group), lines[session], lines[session][-1].get("label", {}))
        for session, group in grouped
    ]


def parse(events: Iterable[traces.Event]) -> list[AgentEvent]:
    """The events as the engine takes them."""
    return [AGENT_EVENT.validate_python(event) for event in events]


def detect(runs: Iterable[Run]) -> dict[str, list[Detection]]:
    """What the whole engine finds, by session; under the empty name what belongs to no session."""
    engine = Engine()
    found: dict[str, list[Detection]] = defaultdict(list)
    for run in runs:
        for event in parse(run.events):
            for detection in engine.process(event):
                found[detection.session or ""].append(detection)
    for detection in engine.finish():
        found[detection.session or ""].append(detection)
    return found


def event_number(detection: Detection) -> int:
    """The number, in its session, of the event that triggered a detection."""
    return int(detection.evidence.event_ids[-1].rpartition("#")[2])
