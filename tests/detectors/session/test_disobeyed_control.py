"""disobeyed_control: who goes on although halted is found; who obeys, or was not halted then, is not."""

from __future__ import annotations

from typing import Any

import pytest

from detectors.base import Source
from detectors.control import Halts, Held
from detectors.offline import Engine
from detectors.session.disobeyed_control import DisobeyedControl
from detectors.session_pipeline import SessionPipeline
from detectors.testing import START_MS, event
from schemas.detection import Detection
from schemas.topics import EVENTS

CALL: dict[str, Any] = {"type": "tool.call", "tool": "t", "arguments_hash": "a", "status": "ok"}
NEVER = float("inf")


def found(
    *at_s: float,
    held: Held | None = None,
    applied_s: float | None = None,
    ahead_s: float = 0.0,
    **fields: Any,
) -> list[Detection]:
    """With a halt of the agent issued at 0 s; calls end at these seconds, by a clock that may be ahead."""
    engine = Engine([DisobeyedControl()], ())
    engine.halts.put(("default", "agent", None), held or Held("c1", START_MS, NEVER))
    if applied_s is not None:
        engine.halts.applied("c1", "default", "agent", START_MS + (applied_s + ahead_s) * 1_000)
    detections: list[Detection] = []
    for number, second in enumerate(at_s):
        fields_of = {**CALL, **fields, "event_id": f"n{number}"}
        shown = event(int((second + ahead_s) * 1_000), fields_of, gap_ms=1)
        broker_ms = int(START_MS + second * 1_000)
        detections += engine.process(shown, Source(EVENTS, 0, number), broker_ms)
    return detections


def test_a_call_after_the_gate_obeyed_is_found_once() -> None:
    (one,) = found(-1, 1, 4, 6.5, 6.8, applied_s=1)
    assert (one.severity, one.observed, one.threshold) == ("critical", 5_500, 5_000)
    assert "goes on" in one.summary


def test_the_calls_since_are_named_and_told_again_whenever_they_have_doubled() -> None:
    told = found(*range(1, 60), applied_s=0)
    assert [one.sample_size for one in told] == [6, 12, 24, 48]
    assert [one.evidence.counts for one in told] == [{"t": 6}, {"t": 12}, {"t": 24}, {"t": 48}]
    assert len({one.detection_id for one in told}) == 4
    assert (
        "12 calls since the stop (12 t), the last of them 12.0 s after its gate had stopped it"
        in told[1].summary
    )


def test_many_tools_are_told_together() -> None:
    engine = Engine([DisobeyedControl()], ())
    engine.halts.put(("default", "agent", None), Held("c1", START_MS, NEVER, applied_ms=START_MS))
    calls = [event(number, {**CALL, "tool": f"tool-{number % 20}" + "x" * 200}) for number in range(1, 200)]
    told = [one for each in calls for one in engine.process(each)]
    assert len(told[-1].evidence.counts) == 7
    assert sum(told[-1].evidence.counts.values()) == told[-1].sample_size
    assert len(told[-1].summary) < 500


def test_without_an_acknowledgement_the_order_counts() -> None:
    assert found(5, 19.9) == []
    assert [one.observed for one in found(5, 20.5, 30)] == [20_500]


def test_who_acknowledges_late_does_not_buy_time() -> None:
    assert len(found(25, applied_s=3_600)) == 1


def test_a_call_that_began_before_is_no_disobedience() -> None:
    assert found(60, applied_s=1, duration_ms=57_000.0) == []
    assert len(found(60, applied_s=1, duration_ms=50_000.0)) == 1


@pytest.mark.parametrize("ahead_s", [3_600.0, 86_000.0])
def test_a_clock_that_is_ahead_accuses_nobody(ahead_s: float) -> None:
    assert found(-10, 0, 2, ahead_s=ahead_s) == []
    assert found(-10, 0, 2, ahead_s=ahead_s, applied_s=1) == []
    assert len(found(7, ahead_s=ahead_s, applied_s=1)) == 1
    assert len(found(21, ahead_s=ahead_s)) == 1


def test_a_halt_that_has_run_out_binds_nobody() -> None:
    assert found(25, 30, held=Held("c1", START_MS, START_MS + 21_000)) == []


def test_reports_are_no_calls_and_others_are_not_concerned() -> None:
    assert found(30, type="heartbeat") == []
    assert found(30, agent="another") == []
    assert len({one.detection_id for one in found(30, held=Held("c2", START_MS, NEVER)) + found(30)}) == 2


def test_a_restart_does_not_report_it_again() -> None:
    halts = Halts()
    halts.put(("default", "agent", None), Held("c1", START_MS, NEVER))

    def started() -> SessionPipeline:
        return SessionPipeline(0, [DisobeyedControl()], halts=halts)

    pipeline = started()
    records = [event(number, CALL) for number in range(60)]
    told: list[int] = []
    for place, each in enumerate(records):
        outputs = pipeline.process(each, Source(EVENTS, 0, place))
        told += [place for output in outputs if isinstance(output, Detection)]
        kept, marker = list(pipeline.dirty()), pipeline.marker()
        pipeline = started()
        for key, value in kept:
            pipeline.restore(key, value)
        pipeline.restore_marker(marker)
    assert told == [21, 42]
