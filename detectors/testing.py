"""Short events for examples and tests, and a way to show one detector a session of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from detectors.activity import Activity
from detectors.base import (
    AgentProfile,
    BehaviourDetector,
    Fact,
    FleetDetector,
    SessionDetector,
    SessionSummary,
    Source,
    SummaryDetector,
)
from detectors.behaviour_pipeline import BehaviourPipeline, detections
from detectors.offline import Engine
from detectors.windows import Mark, Window
from schemas.base import from_epoch_ms
from schemas.detection import Detection
from schemas.event import AGENT_EVENT, AgentEvent
from schemas.topics import EVENTS, WINDOWS

START_MS: Final = 1_800_000_000_000


def event(number: int, fields: dict[str, Any], *, gap_ms: int = 1_000) -> AgentEvent:
    """An agent event, `number` gaps after the start, with id ``e<number>``; `fields` override and need a
    `type`.
    """
    base = {
        "event_id": f"e{number}",
        "time": from_epoch_ms(START_MS + number * gap_ms),
        "agent": "agent",
        "session": "session",
    }
    return AGENT_EVENT.validate_python({**base, **fields})


def events(fields: Iterable[dict[str, Any]], *, gap_ms: int = 1_000) -> Iterator[AgentEvent]:
    """One event for each, numbered from 0, `gap_ms` apart."""
    for number, each in enumerate(fields):
        yield event(number, each, gap_ms=gap_ms)


def run(
    detector: SessionDetector,
    stream: Iterable[AgentEvent],
    *,
    finish: bool = False,
    profile: AgentProfile | None = None,
) -> list[tuple[str, str, float]]:
    """Severity, last event of the evidence, and score of every detection of one session detector, which may
    be given a profile of one agent from the start.
    """
    engine = Engine([detector], ())
    if profile is not None:
        engine.profiles.take(profile.key, profile.encode())
    return brief(engine.run(stream, finish=finish))


def brief(detections: Iterable[Detection]) -> list[tuple[str, str, float]]:
    """Severity, last event of the evidence, and score."""
    return [(one.severity, _last(one.evidence.event_ids), one.score) for one in detections]


def _last(event_ids: Sequence[str]) -> str:
    return event_ids[-1] if event_ids else ""


@dataclass(frozen=True, slots=True)
class Goal:
    """An objective for every agent; see `detectors.objectives.Objective`."""

    name: str
    indicator: str
    objective: float
    window_days: int = 28
    latency_over_ms: float | None = None
    cost_over_usd: float | None = None

    def applies(self, _tenant: str, _agent: str) -> bool:
        return True


def window(number: int, *, slices: str = "", **fields: Any) -> Window:
    """A window of ten seconds, the `number`-th after the start. `fields` are those of `Window`, or of the
    `Activity` under one combination of slices. With a hundred events it is a frame of its own.
    """
    whole = {name: fields.pop(name) for name in list(fields) if name in Window.__struct_fields__}
    return Window(
        **{
            "tenant": "default",
            "agent": "agent",
            "start_ms": START_MS + number * 10_000,
            "duration_ms": 10_000,
            "source_partition": 0,
            "events": 100,
            "parts": {slices: Activity(**fields)},
            **whole,
        }
    )


def run_windows(
    detector: BehaviourDetector,
    windows: Iterable[Window],
    *,
    restart_at: int | None = None,
    quiet_ms: int = 0,
) -> list[Detection]:
    """What one behaviour detector finds in windows of one agent, followed by `quiet_ms` without any; before
    one of them it may be restarted.
    """

    def make() -> BehaviourPipeline:
        return BehaviourPipeline(1, [detector], (), ())

    pipeline = make()
    found: list[Detection] = []
    end_ms = START_MS
    for number, each in enumerate(windows):
        if number == restart_at:
            changed, marker = list(pipeline.dirty()), pipeline.marker()
            pipeline = make()
            for key, value in changed:
                pipeline.restore(key, value)
            pipeline.restore_marker(marker)
        pipeline.process(each, Source(WINDOWS, 0, 2 * number))
        closed = pipeline.process(Mark(0, each.end_ms), Source(WINDOWS, 0, 2 * number + 1))
        end_ms = each.end_ms
        found += detections(closed)
    if quiet_ms:
        found += detections(pipeline.process(Mark(0, end_ms + quiet_ms), Source(WINDOWS, 0, 2**31)))
    return found + detections(pipeline.finish())


def fact(number: int, **fields: Any) -> Fact:
    """A fact, of a spawn by default, `number` seconds after the start; of partition 0 at offset `number`."""
    base = {
        "tenant": "default",
        "kind": "spawn",
        "session": f"s{number}",
        "time_ms": START_MS + 1_000 * number,
    }
    place = {"source_topic": EVENTS, "source_partition": 0, "source_offset": number}
    return Fact(**{**base, "event_id": f"e{number}", **place, **fields})


def run_facts(
    detector: FleetDetector, facts: Iterable[Fact], *, restart_at: int | None = None
) -> list[Detection]:
    """What one fleet detector finds in the facts of one tenant; before one of them it may be restarted."""
    pipeline = BehaviourPipeline(1, (), [detector], ())
    found: list[Detection] = []
    for number, each in enumerate(facts):
        if number == restart_at:
            changed, marker = list(pipeline.dirty()), pipeline.marker()
            pipeline = BehaviourPipeline(1, (), [detector], ())
            for key, value in changed:
                pipeline.restore(key, value)
            pipeline.restore_marker(marker)
        outputs = pipeline.process(each, Source(WINDOWS, 0, number))
        found += [one for one in outputs if isinstance(one, Detection)]
    return found


def run_sessions(
    detector: SummaryDetector, sessions: Iterable[dict[str, Any]], *, restart_at: int | None = None
) -> list[Detection]:
    """What one detector finds in sessions of one agent, a minute apart and half a minute long, named `s0` and
    so on; the dicts are fields of `SessionSummary`. Before one of them it may be restarted.
    """

    def make() -> BehaviourPipeline:
        return BehaviourPipeline(1, (), (), (), [detector])

    pipeline = make()
    found: list[Detection] = []
    for number, fields in enumerate(sessions):
        if number == restart_at:
            changed, marker = list(pipeline.dirty()), pipeline.marker()
            pipeline = make()
            for key, value in changed:
                pipeline.restore(key, value)
            pipeline.restore_marker(marker)
        end_ms = START_MS + 60_000 * number
        ended: dict[str, Any] = {"session": f"s{number}", "start_ms": end_ms - 30_000, "end_ms": end_ms}
        base = {"tenant": "default", "agent": "agent", "source_topic": EVENTS, "source_partition": 0}
        summary = SessionSummary(**{**base, **ended, "source_offset": number, **fields})
        found += detections(pipeline.process(summary, Source(WINDOWS, 0, 2 * number)))
        closed = pipeline.process(Mark(0, end_ms + 20_000), Source(WINDOWS, 0, 2 * number + 1))
        found += detections(closed)
    return found + detections(pipeline.finish())
