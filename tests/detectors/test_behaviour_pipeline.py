"""The behaviour pipeline: the same detections for any split of traffic, any lag, duplicates and crashes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.activity import Activity
from detectors.base import Source
from detectors.behaviour_pipeline import BehaviourPipeline, detections
from detectors.testing import START_MS
from detectors.windows import Mark, SequenceSpan, Window
from schemas.topics import WINDOWS

PARTITIONS = 3
TURNS = 40
few = settings(max_examples=30, deadline=None)


def window(agent: str, turn: int, partition: int, chance: random.Random) -> Window:
    """One partition's share of a fleet of which agent b begins to refuse and loses events."""
    refusing = agent == "b" and turn >= 25
    calls = chance.randint(3, 9)
    seq = turn * 30 + partition * 10
    return Window(
        tenant="default",
        agent=agent,
        start_ms=START_MS + turn * 10_000,
        duration_ms=10_000,
        source_partition=partition,
        events=calls,
        parts={
            "prompt=v2": Activity(
                llm_calls=calls,
                refusals_known=calls,
                refusals=min(calls, chance.randint(1, 3)) if refusing else int(chance.random() < 0.05),
            )
        },
        processes={"p": SequenceSpan(10 - (agent == "b" and turn == 3), seq, seq + 9)},
    )


def traffic(seed: int = 1) -> list[list[Window | Mark]]:
    """By source partition: every turn the windows of two agents, then the mark."""
    chance = random.Random(seed)
    made: list[list[Window | Mark]] = []
    for partition in range(PARTITIONS):
        records: list[Window | Mark] = []
        for turn in range(TURNS):
            records += [window(agent, turn, partition, chance) for agent in "ab"]
            records.append(Mark(partition, START_MS + (turn + 1) * 10_000))
        made.append(records)
    return made


def interleave(queues: list[list[Window | Mark]], chance: random.Random) -> list[Window | Mark]:
    queues = [list(queue) for queue in queues]
    mixed = []
    while any(queues):
        queue = chance.choice([queue for queue in queues if queue])
        count = chance.randint(1, 12)
        mixed += queue[:count]
        del queue[:count]
    return mixed


def run(records: list[Window | Mark]) -> list[str]:
    pipeline = BehaviourPipeline(PARTITIONS)
    found = []
    for offset, each in enumerate(records):
        found += detections(pipeline.process(each, Source(WINDOWS, 0, offset)))
    found += detections(pipeline.finish())
    return sorted(one.detection_id for one in found)


EXPECTED = run(interleave(traffic(), random.Random(0)))


def test_the_fleet_shows_what_it_should() -> None:
    pipeline = BehaviourPipeline(PARTITIONS)
    found = []
    for offset, each in enumerate(interleave(traffic(), random.Random(0))):
        found += detections(pipeline.process(each, Source(WINDOWS, 0, offset)))
    found += detections(pipeline.finish())
    assert {(one.detector, one.agent, one.severity) for one in found} == {
        ("refusal_rate", "b", "critical"),
        ("telemetry_gap", "b", "warning"),
    }
    assert all(one.evidence.ranges[0].from_offset <= one.evidence.ranges[0].to_offset for one in found)


@few
@given(st.randoms(use_true_random=False))
def test_any_lag_between_partitions_changes_nothing(chance: random.Random) -> None:
    assert run(interleave(traffic(), chance)) == EXPECTED


@few
@given(st.randoms(use_true_random=False))
def test_windows_and_marks_that_come_again_change_nothing(chance: random.Random) -> None:
    queues = []
    for queue in traffic():
        back = chance.randint(0, len(queue))
        again = max(0, back - chance.randint(0, 30))
        queues.append([*queue[:back], *queue[again:]])
    assert run(interleave(queues, chance)) == EXPECTED


@few
@given(st.randoms(use_true_random=False), st.data())
def test_a_crash_with_keys_ahead_of_the_marker_changes_nothing(
    chance: random.Random, data: st.DataObject
) -> None:
    records = interleave(traffic(), chance)
    checkpoint = data.draw(st.integers(0, len(records)))
    crash = data.draw(st.integers(checkpoint, len(records)))
    pipeline = BehaviourPipeline(PARTITIONS)
    found = []
    for offset in range(crash):
        if offset == checkpoint:
            changelog, marker = dict(pipeline.dirty()), pipeline.marker()
        found += detections(pipeline.process(records[offset], Source(WINDOWS, 0, offset)))
    if crash == checkpoint:
        changelog, marker = dict(pipeline.dirty()), pipeline.marker()
    ahead = list(pipeline.dirty())[: data.draw(st.integers(0, 2))]
    pipeline = BehaviourPipeline(PARTITIONS)
    for key, value in {**changelog, **dict(ahead)}.items():
        pipeline.restore(key, value)
    pipeline.restore_marker(marker)
    for offset in range(checkpoint, len(records)):
        found += detections(pipeline.process(records[offset], Source(WINDOWS, 0, offset)))
    found += detections(pipeline.finish())
    assert sorted({one.detection_id for one in found}) == EXPECTED


def test_a_window_waits_for_the_slowest_partition() -> None:
    pipeline = BehaviourPipeline(2)
    chance = random.Random(3)
    for turn in range(80):
        pipeline.process(window("b", turn, 0, chance), Source(WINDOWS, 0, 2 * turn))
        assert (
            pipeline.process(Mark(0, START_MS + (turn + 1) * 10_000), Source(WINDOWS, 0, 2 * turn + 1)) == []
        )
    assert pipeline.process(Mark(1, START_MS + 800_000), Source(WINDOWS, 0, 160)) != []


@pytest.mark.parametrize("windows", [1, 2_000])
def test_an_agent_costs_at_most_64_kib(windows: int) -> None:
    pipeline = BehaviourPipeline(1)
    chance = random.Random(4)
    for turn in range(windows):
        pipeline.process(window("a", turn, 0, chance), Source(WINDOWS, 0, 2 * turn))
        pipeline.process(Mark(0, START_MS + (turn + 1) * 10_000), Source(WINDOWS, 0, 2 * turn + 1))
    [(_, value)] = pipeline.dirty()
    assert value is not None
    assert len(value) <= 64 * 1024
