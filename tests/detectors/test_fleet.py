"""The fleet's detectors: facts from every partition, however they interleave, and restarts anywhere."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.base import FleetDetector, Source
from detectors.behaviour_pipeline import BehaviourPipeline
from detectors.fleet.shared_credential import SharedCredential
from detectors.fleet.spawn_storm import SpawnStorm
from detectors.fleet.tree import MAX_SESSIONS
from detectors.offline import Engine
from detectors.registry import FLEET
from detectors.summary import Fact, credential_hash
from detectors.testing import START_MS, event, fact, run_facts
from schemas.detection import Detection
from schemas.topics import WINDOWS

few = settings(max_examples=60, deadline=None)
PARTITIONS = 3


def chain(length: int, agents: str = "AB", gap_s: int = 1, **fields: Any) -> list[Fact]:
    return [
        fact(
            number * gap_s,
            session=f"s{number + 1}",
            parent_session=f"s{number}",
            agent=agents[number % len(agents)],
            **fields,
        )
        for number in range(length)
    ]


def fan(children: int, gap_s: int = 1) -> list[Fact]:
    names = {"parent_session": "root", "agent": "worker"}
    return [fact(n * gap_s, session=f"c{n}", source_offset=n, **names) for n in range(children)]


def orchestrated(trees: int) -> list[Fact]:
    """Ten workers under each of many orchestrators, a minute apart."""
    return [
        fact(60 * tree + n, session=f"{tree}/{n}", parent_session=f"{tree}", agent=f"worker{n % 3}")
        for tree in range(trees)
        for n in range(10)
    ]


class TestSpawnStorm:
    def test_a_spawns_b_spawns_a_is_found_at_the_fifth_and_both_are_halted(self) -> None:
        found = run_facts(SpawnStorm(), chain(50))
        assert {(one.agent, one.observed, one.severity) for one in found} == {
            ("A", 5, "critical"),
            ("B", 5, "critical"),
        }
        assert all(one.suggested is not None and one.suggested.mode == "halt" for one in found)
        assert all(one.session is None for one in found)

    def test_an_agent_that_spawns_itself_twice_each_time_is_found_while_it_is_small(self) -> None:
        tree = [fact(n, session=f"t{n}", parent_session=f"t{(n - 1) // 2}", agent="A") for n in range(1, 200)]
        [found, *more] = run_facts(SpawnStorm(), tree)
        assert found.observed == 5
        assert {one.metric for one in more} <= {"sessions_started"}

    def test_ten_agents_in_a_row_are_too_many_even_if_none_comes_again(self) -> None:
        found = run_facts(SpawnStorm(), chain(10, agents="ABCDEFGHIJ"))
        assert len(found) == 10
        assert run_facts(SpawnStorm(), chain(9, agents="ABCDEFGHI")) == []

    @pytest.mark.parametrize(
        "facts",
        [
            fan(10),
            orchestrated(40),
            chain(4),
            chain(30, agents="A", gap_s=86_400),
        ],
        ids=["an orchestrator and ten workers", "forty of them", "a team of teams", "a session a day"],
    )
    def test_ordinary_work_is_let_pass(self, facts: list[Fact]) -> None:
        assert run_facts(SpawnStorm(), facts) == []

    def test_breadth_and_rate_warn_before_they_are_critical(self) -> None:
        slow = run_facts(SpawnStorm(), fan(600, gap_s=30))
        assert [(one.severity, one.observed) for one in slow] == [("warning", 100), ("critical", 500)]
        fast = run_facts(SpawnStorm(), fan(90, gap_s=0))
        assert [(one.severity, one.observed) for one in fast] == [("warning", 60)]

    def test_a_storm_is_reported_once_however_long_it_lasts_and_state_stays_small(self) -> None:
        pipeline = BehaviourPipeline(1, (), [SpawnStorm()])
        found: list[Any] = []
        for number, each in enumerate(chain(3 * MAX_SESSIONS)):
            found += pipeline.process(each, Source(WINDOWS, 0, number))
        assert len(found) <= 2 * 3 + 3  # a row is taken for a new one when its beginning has been forgotten
        [(_, value)] = pipeline.dirty()
        assert value is not None
        assert len(value) < 64 * 1024

    @pytest.mark.parametrize(("others", "hops"), [(100, 5), (400, 5), (700, 40)])
    def test_a_row_whose_hops_lie_far_apart_in_a_busy_fleet(self, others: int, hops: int) -> None:
        busy = iter(range(10**6))
        facts: list[Fact] = []
        for hop in chain(hops, gap_s=900):
            facts.append(hop)
            for number in range(others):
                n = next(busy)
                at_ms = hop.time_ms + number
                facts.append(fact(0, session=f"w{n}", parent_session=f"o{n}", agent="worker", time_ms=at_ms))
        placed = [msgspec.structs.replace(each, source_offset=n) for n, each in enumerate(facts)]
        assert {one.agent for one in run_facts(SpawnStorm(), placed)} == {"A", "B"}

    def test_a_parent_that_is_heard_of_last_joins_the_row(self) -> None:
        facts = chain(5)
        late = [facts[n] for n in (0, 1, 3, 4, 2)]
        renumbered = [msgspec.structs.replace(each, source_offset=n) for n, each in enumerate(late)]
        assert {one.detection_id for one in run_facts(SpawnStorm(), renumbered)} == {
            one.detection_id for one in run_facts(SpawnStorm(), facts)
        }


class TestSharedCredential:
    def test_use_by_a_third_is_flagged_once(self) -> None:
        found = run_facts(SharedCredential(), [used(n, name) for n, name in enumerate("aabbccdd")])
        assert [(one.severity, one.observed, one.suggested) for one in found] == [("warning", 3, None)]

    def test_workers_of_one_name_may_share(self) -> None:
        assert run_facts(SharedCredential(), [used(n, "worker") for n in range(100)]) == []

    def test_each_with_its_own_is_right(self) -> None:
        facts = [used(n, f"a{n % 9}", credential=f"c{n % 9}") for n in range(100)]
        assert run_facts(SharedCredential(), facts) == []

    def test_one_that_is_shared_is_found_among_many_that_are_not(self) -> None:
        own = [(f"agent-{n}", credential_hash(f"own-{n}")) for n in range(1_000)]
        shared = [credential_hash(f"shared-{n}") for n in range(40)]
        uses = [use for who in "abc" for use in (*own, *((who, each) for each in shared))]
        found = run_facts(SharedCredential(), [used(n, *use) for n, use in enumerate(uses)])
        assert {(one.agent, one.observed) for one in found} == {("c", 3)}
        assert len(found) >= 10

    def test_state_is_bounded(self) -> None:
        pipeline = BehaviourPipeline(1, (), [SharedCredential()])
        for number in range(3_000):
            pipeline.process(used(number, "a", credential=f"{number:016x}"), Source(WINDOWS, 0, number))
        [(_, value)] = pipeline.dirty()
        assert value is not None
        assert len(value) < 64 * 1024


def used(number: int, agent: str, credential: str = "c") -> Fact:
    return fact(number, kind="credential", agent=agent, credential=credential)


@st.composite
def fleets(draw: st.DrawFn) -> list[list[Fact]]:
    """Facts by source partition: rows and fans of sessions, credentials passed around. A child never comes
    before its parent: all of a tree is on one partition here, trees and credentials interleave.
    """
    queues: list[list[Fact]] = [[] for _ in range(PARTITIONS)]
    for tree in range(draw(st.integers(1, 6))):
        partition = draw(st.integers(0, PARTITIONS - 1))
        queue = queues[partition]
        for number in range(draw(st.integers(1, 9))):
            place = {"source_partition": partition, "source_offset": len(queue)}
            names = {"session": f"{tree}/{number + 1}", "parent_session": f"{tree}/{number}"}
            queue.append(fact(len(queue), agent="AB"[number % 2], **names, **place))
        for number in range(draw(st.integers(0, 4))):
            place = {"source_partition": partition, "source_offset": len(queue)}
            agent = draw(st.sampled_from("ABCD"))
            queue.append(fact(number, kind="credential", agent=agent, credential=f"c{tree % 2}", **place))
    return queues


def interleave(queues: list[list[Fact]], chance: random.Random) -> list[Fact]:
    queues = [list(queue) for queue in queues]
    mixed = []
    while any(queues):
        mixed.append(chance.choice([queue for queue in queues if queue]).pop(0))
    return mixed


def ids(facts: list[Fact], restart_at: int | None = None) -> set[str]:
    return {one.detection_id for each in FLEET for one in run_facts(each, facts, restart_at=restart_at)}


@few
@given(fleets(), st.randoms(use_true_random=False))
def test_how_partitions_interleave_changes_nothing(queues: list[list[Fact]], chance: random.Random) -> None:
    assert ids(interleave(queues, chance)) == ids([each for queue in queues for each in queue])


@few
@given(fleets(), st.randoms(use_true_random=False), st.data())
def test_replays_and_restarts_change_nothing(
    queues: list[list[Fact]], chance: random.Random, data: st.DataObject
) -> None:
    expected = ids(interleave(queues, chance))
    replayed = []
    for queue in queues:
        until = chance.randint(0, len(queue))
        replayed.append([*queue[:until], *queue[chance.randint(0, until) :]])
    facts = interleave(replayed, chance)
    assert ids(facts, restart_at=data.draw(st.integers(0, len(facts)))) == expected


@pytest.mark.parametrize("detector", FLEET, ids=lambda detector: detector.name)
def test_a_fact_that_comes_again_is_no_second_one(detector: FleetDetector) -> None:
    facts = chain(4) if detector.name == "spawn_storm" else [used(n, name) for n, name in enumerate("ab")]
    assert run_facts(detector, facts * 5) == []


def test_the_way_from_events_to_a_fleet_detection() -> None:
    made = []
    for number in range(8):
        parent = {"parent_session": f"s{number - 1}"} if number else {}
        start = {"type": "session.start", "session": f"s{number}", "agent": "AB"[number % 2], **parent}
        made.append(event(number, start))
    shared = [
        event(20 + n, {"type": "session.start", "session": f"t{n}", "agent": f"w{n}", "credential": "secret"})
        for n in range(4)
    ]
    found: list[Detection] = list(Engine((), ()).run([*made, *shared]))
    assert [(one.detector, one.agent) for one in found] == [
        ("spawn_storm", "A"),
        ("spawn_storm", "B"),
        ("shared_credential", "w2"),
    ]
    assert "secret" not in "".join(one.model_dump_json() for one in found)
    assert all(one.time.timestamp() * 1000 >= START_MS for one in found)
    assert {one.evidence.ranges[0].topic for one in found} == {"agent.events"}
