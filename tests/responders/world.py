"""A small world for responder tests: detections, a clock that is told the time, ids that count, a bus that
keeps.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from responders.containment import scope_of
from responders.effects import Delivered, Outcome
from responders.pages.about import About
from schemas import topics
from schemas.control import Control, ControlAck, ControlState, Target
from schemas.detection import Detection

START = datetime(2026, 3, 1, 3, 0, 0, tzinfo=UTC)
HALT = ControlState(mode="halt")
ABOUT = About(
    incident_id="INC-1",
    version=3,
    page="opened",
    headline="billing repeats the same call",
    summary="billing made the same call 5 times in 90 s and learned nothing new.",
    state="triggered",
    severity="critical",
    opened_as="critical",
    containment="requested",
    tenant="default",
    agent="billing",
    session="s-1",
    detector="tool_loop",
    runbook="tool_loop",
    onset=START - timedelta(seconds=90),
    opened_at=START,
)
"""What a page says of an incident that nobody is on yet."""


def detection(detection_id: str = "d-1", **changes: Any) -> Detection:
    """A critical loop of `billing` in session `s-1` that suggests a halt, unless changed."""
    fields: dict[str, Any] = {
        "detection_id": detection_id,
        "detector": "tool_loop",
        "detector_version": 1,
        "agent": "billing",
        "session": "s-1",
        "severity": "critical",
        "time": START,
        "onset": START - timedelta(seconds=90),
        "metric": "identical_calls",
        "observed": 5.0,
        "expected": 1.0,
        "threshold": 5.0,
        "score": 1.0,
        "sample_size": 5,
        "summary": "billing made the same call 5 times in 90 s and learned nothing new.",
        "runbook": "docs/runbooks/tool_loop.md",
        "suggested": HALT,
    }
    return Detection(**(fields | changes))


@dataclass
class Clock:
    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class CountingIds:
    """Ids as the database gives them: incident ids from their seed, epochs that grow per target."""

    epochs: dict[str, int] = field(default_factory=dict)
    _commands: Any = field(default_factory=lambda: itertools.count(1))

    def incident_id(self, seed: str) -> str:
        return f"INC-{seed}"

    def command_id(self) -> str:
        return f"cmd-{next(self._commands)}"

    def epoch(self, target: Target) -> int:
        scope = scope_of(target)
        self.epochs[scope] = self.epochs.get(scope, 0) + 1
        return self.epochs[scope]


@dataclass
class KeptBus:
    """A broker that keeps what it is given; ``outcomes`` are answered first, each once."""

    records: list[tuple[str, bytes, bytes]] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    async def deliver(self, topic: str, key: bytes, value: bytes) -> Outcome:
        if self.outcomes:
            return self.outcomes.pop(0)
        self.records.append((topic, key, value))
        return Delivered()

    def commands(self) -> list[dict[str, Any]]:
        return [orjson.loads(value) for topic, _, value in self.records if topic == topics.CONTROL]

    def log(self) -> list[dict[str, Any]]:
        return [orjson.loads(value) for topic, _, value in self.records if topic == topics.INCIDENTS]


def ack_of(command: dict[str, Any], time: datetime, **changes: Any) -> ControlAck:
    """The answer of an enforcement point that obeys."""
    checked = Control.model_validate(command)
    fields: dict[str, Any] = {
        "command_id": checked.command_id,
        "epoch": checked.epoch,
        "agent": checked.target.agent,
        "tenant": checked.target.tenant,
        "session": checked.target.session,
        "enforcement_point": "gate-1",
        "result": "applied",
        "time": time,
    }
    return ControlAck(**(fields | changes))
