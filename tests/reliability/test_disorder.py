"""Reliability 9: duplicates, and traffic that arrives out of order but in time, change nothing; what is late
is counted.

What arrives out of order is whole sessions against each other: within a session Kafka keeps the order.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from detectors.base import Source
from detectors.offline import Engine
from detectors.pipeline import SessionPipeline, SessionPipelineOutput
from detectors.windows import Window
from detectors.windows import decode as decode_window
from schemas import topics
from schemas.event import AGENT_EVENT
from tests.reliability.bus import Bus
from tests.reliability.counts import count
from tests.reliability.outcome import detections_on
from tests.reliability.run import new_run
from tests.reliability.workload import LATENESS_MS, WINDOW_MS, Record, Workload, generate, heartbeat

START_MS = 1_800_000_000_000
EVENTS = 2_000
DUPLICATES = 0.1
LATE_MS = 30 * 60_000
LATE = 25


def disordered(workload: Workload, chance: random.Random) -> list[Record]:
    """Every record up to the lateness after its time, a session's in order, and some of them twice."""
    arrivals: dict[bytes, float] = {}
    placed: list[tuple[float, int, Record]] = []
    for number, record in enumerate(workload.records):
        arrival = max(record.time_ms + chance.random() * LATENESS_MS, arrivals.get(record.key, 0.0))
        arrivals[record.key] = arrival
        placed.append((arrival, number, record))
        if chance.random() < DUPLICATES:
            placed.append((arrival + chance.random() * 60_000, number, record))
    return [record for _, _, record in sorted(placed, key=lambda place: place[:2])]


def with_late(records: list[Record], chance: random.Random) -> list[Record]:
    """With heartbeats of a session of their own that come half an hour too late."""
    soonest = next(
        place for place, record in enumerate(records) if record.time_ms > records[0].time_ms + 2 * LATE_MS
    )
    # Not among the last: they must be late where they are.
    places = sorted(chance.sample(range(soonest, len(records) - 200), LATE))
    late = {
        place: heartbeat("straggler", f"late-{number}", records[place].time_ms - LATE_MS)
        for number, place in enumerate(places)
    }
    return [one for place, record in enumerate(records) for one in (record, late.get(place)) if one]


def found_in(records: list[Record]) -> tuple[set[str], int]:
    """Ids of the detections, and events counted as late."""
    engine = Engine(window_ms=WINDOW_MS, lateness_ms=LATENESS_MS)
    events = (AGENT_EVENT.validate_json(record.value) for record in records)
    ids = {detection.detection_id for detection in engine.run(events, finish=False)}
    return ids, engine.sessions.late


def windows_of(records: list[Record]) -> set[bytes]:
    pipeline = SessionPipeline(0, (), window_ms=WINDOW_MS, lateness_ms=LATENESS_MS, checkpointed=False)
    outputs: list[SessionPipelineOutput] = []
    for offset, record in enumerate(records):
        event = AGENT_EVENT.validate_json(record.value)
        outputs += pipeline.process(event, Source(topics.EVENTS, 0, offset))
    outputs += pipeline.advance(pipeline.watermark_ms + LATE_MS)
    return {output.encode() for output in outputs if isinstance(output, Window)}


@pytest.mark.parametrize("seed", range(count(5, 200)))
def test_duplicates_and_disorder_in_time_change_nothing(seed: int) -> None:
    chance = random.Random(seed)
    workload = generate(seed, START_MS + chance.randrange(86_400_000), events=EVENTS)
    records = disordered(workload, chance)
    assert records != list(workload.records)
    expected, _ = found_in(list(workload.records))
    assert found_in(records) == (expected, 0)
    assert expected
    assert windows_of(records) == windows_of(list(workload.records))


@pytest.mark.parametrize("seed", range(count(5, 200)))
def test_late_events_are_counted_exactly(seed: int) -> None:
    chance = random.Random(seed)
    workload = generate(seed, START_MS, events=EVENTS)
    expected, _ = found_in(list(workload.records))
    assert found_in(with_late(disordered(workload, chance), chance)) == (expected, LATE)


@pytest.mark.timeout(240)
def test_the_worker_finds_the_same_in_disorder(bus: Bus, workload: Workload, tmp_path: Path) -> None:
    chance = random.Random(9)
    records = with_late(disordered(workload, chance), chance)
    bus.load(records)
    expected, _ = found_in(list(workload.records))
    with new_run(bus, tmp_path, workers=2) as run:
        run.start()
        run.finish()
    assert {detection.detection_id for detection in detections_on(bus)} == expected
    items = [decode_window(value) for value in bus.values(topics.WINDOWS)]
    windows = [item for item in items if isinstance(item, Window)]
    assert sum(window.late_events for window in windows) == LATE
