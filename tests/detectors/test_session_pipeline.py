"""The session pipeline: crashes, duplicates, interleaving, time, memory."""

from __future__ import annotations

import random
from datetime import timedelta
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.base import Source
from detectors.registry import SESSION
from detectors.session_pipeline import SessionPipeline
from detectors.testing import START_MS, event, events
from detectors.windows import Mark, Window
from schemas.base import from_epoch_ms
from schemas.detection import Detection
from schemas.event import AgentEvent
from schemas.topics import EVENTS
from tests.detectors.streams import CALL, LLM, Driver, outcome, straight, streams

few = settings(max_examples=60, deadline=None)


@few
@given(streams(), st.data())
def test_a_crash_with_keys_ahead_of_the_marker_changes_nothing(
    records: list[AgentEvent], data: st.DataObject
) -> None:
    for _ in range(data.draw(st.integers(0, 4), label="duplicates")):
        place = data.draw(st.integers(0, len(records) - 1), label="duplicate of")
        records = [*records[: place + 1], records[place], *records[place + 1 :]]
    expected = straight(records)
    driver = Driver()
    place = 0
    for _ in range(data.draw(st.integers(1, 3), label="crashes")):
        checkpoint = data.draw(st.integers(place // 2, len(records) // 2), label="checkpoint") * 2
        crash = data.draw(st.integers(checkpoint // 2, len(records) // 2), label="crash") * 2
        driver.take(records, place, checkpoint)
        driver.checkpoint(checkpoint)
        driver.take(records, checkpoint, crash)
        driver.checkpoint(crash, keys=data.draw(st.integers(0, 6), label="keys"))
        driver.crash()
        place = driver.marked
    driver.take(records, place, len(records))
    assert driver.finish() == expected


@few
@given(streams(), st.randoms(use_true_random=False))
def test_duplicates_change_nothing(records: list[AgentEvent], chance: random.Random) -> None:
    twice = list(records)
    for each in chance.choices(records, k=5):
        # Within the time for which a session that has ended is remembered.
        forgotten = each.time + timedelta(minutes=59)
        latest = next((place for place, other in enumerate(twice) if other.time > forgotten), len(twice))
        twice.insert(chance.randint(twice.index(each), latest), each)
    assert straight(twice) == straight(records)


@few
@given(streams(), st.randoms(use_true_random=False))
def test_the_order_among_sessions_changes_nothing(records: list[AgentEvent], chance: random.Random) -> None:
    by_time = [list(group) for _, group in groupby(records, key=lambda each: each.time)]
    mixed = []
    for group in by_time:
        queues = [[each for each in group if each.session == session] for session in "abc"]
        while any(queues):
            mixed.append(chance.choice([queue for queue in queues if queue]).pop(0))
    assert straight(mixed) == straight(records)


@few
@given(streams())
def test_without_checkpoints_it_finds_the_same(records: list[AgentEvent]) -> None:
    pipeline = SessionPipeline(0, SESSION, checkpointed=False)
    outputs = [
        output
        for place, each in enumerate(records)
        for output in pipeline.process(each, Source(EVENTS, 0, place // 2))
    ]
    outputs += pipeline.advance(pipeline.watermark_ms + 24 * 3_600_000)
    assert outcome(outputs) == straight(records)
    assert pipeline.sessions == 0


def feed(pipeline: SessionPipeline, stream: list[AgentEvent], broker_ms: int | None = None) -> list[object]:
    return [
        output
        for number, each in enumerate(stream)
        for output in pipeline.process(each, Source(EVENTS, 0, number), broker_ms)
    ]


def test_every_event_is_in_exactly_one_window_and_late_ones_are_counted() -> None:
    stream = list(events([LLM] * 100, gap_ms=1_000))
    late = [event(number, {**LLM, "event_id": f"late{number}"}) for number in range(5)]
    pipeline = SessionPipeline(3, ())
    outputs = feed(pipeline, [*stream, *late])
    outputs += pipeline.advance(pipeline.watermark_ms + 60_000)
    windows = [output for output in outputs if isinstance(output, Window)]
    assert sum(window.events for window in windows) == 105
    assert sum(window.late_events for window in windows) == pipeline.late == 5
    assert len({(window.agent, window.start_ms) for window in windows}) == len(windows)
    assert {window.source_partition for window in windows} == {3}
    marks = [output.watermark_ms for output in outputs if isinstance(output, Mark)]
    assert marks == sorted(set(marks))


def test_a_clock_that_is_ahead_does_not_move_the_watermark() -> None:
    pipeline = SessionPipeline(0, SESSION)
    ahead = event(0, {"type": "session.start"}, gap_ms=0)
    pipeline.process(ahead, Source(EVENTS, 0, 0), START_MS - 3_600_000)
    assert pipeline.watermark_ms == START_MS - 3_600_000


def test_an_agent_a_day_behind_is_neither_orphaned_early_nor_missed() -> None:
    day_ms = 24 * 3_600_000
    now_ms = START_MS + day_ms
    pipeline = SessionPipeline(0, SESSION)
    punctual = event(0, {"type": "heartbeat", "session": "other", "time": from_epoch_ms(now_ms)})
    pipeline.process(punctual, Source(EVENTS, 0, 0), now_ms)
    found = pipeline.process(event(1, {"type": "session.start"}), Source(EVENTS, 0, 1), now_ms)
    found = [*found, *pipeline.advance(now_ms + 1_000_000)]
    assert [output for output in found if isinstance(output, Detection)] == []
    late = pipeline.advance(now_ms + 1_900_000)
    assert [output.detector for output in late if isinstance(output, Detection)] == ["orphaned_session"]


def test_an_ended_session_leaves_the_changelog_once_a_marker_covers_it() -> None:
    driver = Driver()
    stream = list(events([{"type": "session.start"}, CALL, {"type": "session.end", "outcome": "completed"}]))
    driver.take(stream, 0, 3)
    driver.checkpoint(3)
    driver.pipeline.advance(driver.pipeline.watermark_ms + 2 * 3_600_000)
    driver.checkpoint(3)
    driver.checkpoint(3)
    assert driver.changelog == {}
    assert driver.pipeline.sessions == 0


def test_a_session_is_not_deleted_while_a_replay_would_need_it() -> None:
    start = {"type": "session.start", "budget": {"steps": 100}}
    end = {"type": "session.end", "outcome": "completed"}
    later = event(
        30, {"type": "heartbeat", "session": "other", "time": from_epoch_ms(START_MS + 2 * 3_600_000)}
    )
    stream = [*events([start, CALL, *[LLM] * 20, end]), later]
    driver = Driver()
    driver.take(stream, 0, 2)
    driver.checkpoint(2)
    driver.take(stream, 2, len(stream))
    driver.checkpoint(len(stream), keys=100)
    driver.crash()
    driver.take(stream, driver.marked, len(stream))
    # Shown the second half as if it were a session of its own, it would find the default cap passed.
    assert driver.finish() == straight(stream)


def test_a_window_is_not_deleted_while_a_replay_would_need_it() -> None:
    later = event(70, {"type": "heartbeat", "session": "other", "agent": "other"})
    stream = [*events([LLM] * 4), later]
    driver = Driver()
    driver.take(stream, 0, 2)
    driver.checkpoint(2)
    driver.take(stream, 2, len(stream))
    driver.checkpoint(len(stream), keys=100)
    driver.crash()
    driver.take(stream, driver.marked, len(stream))
    # Forgotten, the window would be sent again with two of its four calls.
    assert driver.finish() == straight(stream)


def test_a_live_session_costs_at_most_8_kib_however_long_it_runs() -> None:
    pipeline = SessionPipeline(0, SESSION)
    agents = [f"agent-{number}" for number in range(40)]
    start = {"type": "session.start", "declared_tools": [f"tool-{number}" for number in range(200)]}
    stream = [event(0, start)]
    chance = random.Random(5)
    for number in range(1, 4_000):
        kind = dict(
            chance.choice([CALL, {**CALL, "status": "error"}, {"type": "message", "intent": "request"}])
        )
        if kind["type"] == "message":
            kind |= {"to_agent": chance.choice(agents), "content_hash": str(chance.randint(0, 300))}
        else:
            kind |= {"arguments_hash": str(chance.randint(0, 30)), "tool": f"tool-{chance.randint(0, 300)}"}
        stream.append(event(number, {**kind, "agent": chance.choice(agents)}))
    feed(pipeline, stream)
    size = {key: len(value or b"") for key, value in pipeline.dirty() if key.startswith(b"s/")}
    assert max(size.values()) <= 8 * 1024, size


@pytest.mark.parametrize("watermark_ms", [0, START_MS - 1])
def test_time_does_not_go_back(watermark_ms: int) -> None:
    pipeline = SessionPipeline(0, SESSION)
    feed(pipeline, list(events([CALL])))
    assert pipeline.advance(watermark_ms) == ()
    assert pipeline.watermark_ms == START_MS


def test_an_ended_session_is_forgotten_in_time_whatever_detectors_there_are() -> None:
    hour_ms = 3_600_000
    for detectors in ((), SESSION):
        pipeline = SessionPipeline(0, detectors)
        shown = [
            event(0, {"type": "session.start", "session": "ended"}),
            event(1, {"type": "session.end", "session": "ended", "outcome": "completed"}),
            event(2, {**CALL, "session": "other"}, gap_ms=hour_ms),
        ]
        for offset, each in enumerate(shown):
            pipeline.process(each, Source(EVENTS, 0, offset))
        assert [name for name, record in pipeline._sessions.items() if not record.husk] == ["default/other"]
