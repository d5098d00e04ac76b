"""A part of the engine that fails is an incident of its own: told once, in another way, until it works."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from sqlalchemy import Connection

from responders import actions, policy
from responders.effects import Delivered, Outcome, Permanent, Retryable
from responders.handle import Responder
from responders.incident_log import KafkaIncidentLog
from responders.pages.page import Message, render
from responders.policy import Policy
from responders.sender import Outgoing, Sender
from responders.store import projections
from responders.store.event_store import Store, current
from responders.store.projections import IncidentView
from tests.responders.world import Clock, KeptBus, detection

AUTH = Permanent("invalid_auth")
HANGS = Retryable("chat.postMessage: no answer", in_doubt=True)


@dataclass
class Channel:
    """Says what the test wants of each page."""

    name: str
    outcome: Outcome = field(default_factory=Delivered)
    got: list[str] = field(default_factory=list)

    async def send(self, page: Outgoing) -> Outcome:
        if isinstance(self.outcome, Delivered):
            self.got.append(page.key)
        return self.outcome

    async def edit(self, conversation: str, message_id: str, message: Message) -> Outcome:
        return Delivered(conversation, message_id)


class World:
    """Slack and a phone are paged, and the terminal is the fallback, unless ``rules`` say else."""

    def __init__(self, store: Store, rules: str = "") -> None:
        self.store, self.clock, self.number = store, Clock(), 0
        self.channels = {name: Channel(name) for name in ("slack", "phone", "terminal")}
        self.policy: Policy = policy.parse(rules).with_channels("slack")
        self.responder = Responder(store, self.policy, self.clock)
        self.sender = Sender(self.responder, self.channels, KafkaIncidentLog(KeptBus()))

    async def see(self, count: int = 1) -> None:
        for _ in range(count):
            self.number += 1
            name = f"agent-{self.number}"
            self.responder.detection(detection(f"d-{name}", agent=name, session=f"s-{name}", suggested=None))
            await self.passes(7)

    async def passes(self, seconds: float) -> None:
        self.clock.pass_seconds(seconds)
        while await self.sender.run_once(50) or self.responder.fire_timers():
            pass

    def of_parts(self) -> list[IncidentView]:
        rows = projections.incidents(self.store)
        views = [projections.incident(self.store, row.incident_id) for row in rows]
        return sorted((each for each in views if each.part is not None), key=lambda each: each.opened_at)

    @property
    def only(self) -> IncidentView:
        (incident,) = self.of_parts()
        return incident

    def newest(self) -> str:
        return projections.incidents(self.store)[0].incident_id

    def told(self, incident: IncidentView) -> Counter[str]:
        return Counter(page.channel for page in incident.pages)


@pytest.fixture
def world(sqlite_store: Store) -> World:
    return World(sqlite_store)


async def test_a_channel_that_refuses_pages_is_one_incident_told_elsewhere(world: World) -> None:
    world.channels["slack"].outcome = AUTH
    await world.see(3)
    found = world.only
    assert (found.part, found.state, found.severity) == ("channel slack", "triggered", "critical")
    assert found.summary.startswith("slack refuses pages: invalid_auth. 3 pages went to terminal")
    assert world.told(found) == {"terminal": 1}
    assert found.pages[0].headline == "slack refuses pages: invalid_auth"
    pages = Counter(key.split(":")[1] for key in world.channels["terminal"].got)
    assert len(pages) == 4, "each page, and that it went there"
    assert set(pages.values()) == {1}


async def test_it_is_over_by_itself_when_the_channel_takes_pages_again(world: World) -> None:
    world.channels["slack"].outcome = AUTH
    await world.see(2)
    world.channels["slack"].outcome = Delivered()
    await world.see()
    assert (world.only.state, world.only.resolved_by) == ("resolved", "watchkeeper")
    assert "takes pages again" in world.only.resolution
    world.channels["slack"].outcome = AUTH
    await world.see()
    first, second = world.of_parts()
    assert (first.state, second.state) == ("resolved", "triggered")
    assert second.summary.startswith("slack refuses pages: invalid_auth. 1 page went to terminal")


async def test_each_cause_is_told_once(world: World) -> None:
    for reason in ("invalid_auth", "channel_not_found", "invalid_auth"):
        world.channels["slack"].outcome = Permanent(reason)
        await world.see()
    assert [each.summary.split(".")[0] for each in world.of_parts()] == [
        "slack refuses pages: invalid_auth",
        "slack refuses pages: channel_not_found",
    ]
    world.channels["slack"].outcome = Delivered()
    await world.see()
    assert {each.state for each in world.of_parts()} == {"resolved"}


async def test_a_channel_that_is_down_is_told_when_a_page_is_late(world: World) -> None:
    world.channels["slack"].outcome = HANGS
    await world.see(3)
    assert world.of_parts() == []
    for _ in range(8):
        await world.passes(10)
    assert world.only.summary.startswith(
        "slack does not take pages: chat.postMessage: no answer. 3 pages went"
    )
    assert world.told(world.only) == {"terminal": 1}
    world.channels["slack"].outcome = Delivered()
    await world.passes(40)
    assert world.only.state == "resolved"


async def test_the_failure_of_its_page_opens_no_other(sqlite_store: Store) -> None:
    world = World(sqlite_store, "[paging]\nchannels = ['slack', 'phone']\nfallback = 'terminal'\n")
    for name in ("phone", "terminal"):
        world.channels[name].outcome = Permanent("gone")
    world.responder.part_fails("channel slack", "refused", "invalid_auth")
    await world.passes(1)
    await world.passes(3600)
    assert [each.part for each in world.of_parts()] == ["channel slack"]
    assert world.told(world.only)["slack"] == 0


@pytest.mark.parametrize("outcome", [AUTH, HANGS])
async def test_when_everything_is_down_each_channel_is_told_of_once(
    sqlite_store: Store, outcome: Outcome
) -> None:
    world = World(sqlite_store, "[paging]\nchannels = ['slack', 'phone']\nfallback = 'terminal'\n")
    for channel in world.channels.values():
        channel.outcome = outcome
    await world.see(3)
    for _ in range(30):
        await world.passes(20)
    parts = Counter(each.part for each in world.of_parts())
    assert set(parts.values()) == {1}
    assert {"channel slack", "channel phone"} <= set(parts)
    for found in world.of_parts():
        assert found.part is not None
        assert found.part.removeprefix("channel ") not in world.told(found)


async def test_a_broken_channel_is_not_told_of_itself_by_the_escalation_either(sqlite_store: Store) -> None:
    world = World(
        sqlite_store,
        "[[escalation.steps]]\nafter_minutes = 5\nchannels = ['slack', 'phone']\n",
    )
    world.channels["slack"].outcome = AUTH
    await world.see()
    await world.passes(301)
    assert world.told(world.only) == {"terminal": 1, "phone": 1}


async def test_pages_that_wait_for_the_policys_pace_are_no_failure(sqlite_store: Store) -> None:
    world = World(sqlite_store, "[pacing]\nslack = 1\n[storm]\npages_a_minute = 100\n")
    await world.see(4)
    for _ in range(10):
        await world.passes(10)
    assert world.of_parts() == []
    assert world.told(projections.incident(world.store, world.newest()))["terminal"] == 1, (
        "told late elsewhere"
    )


async def test_of_pages_that_wait_for_their_turn_the_oldest_goes_first(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(sqlite_store, "[pacing]\nslack = 1\n[storm]\npages_a_minute = 100\n")
    await world.see(4)
    delays, reading = itertools.chain([0.1], itertools.repeat(0.0)), Store.reading

    @contextmanager
    def slow_for_the_first(store: Store) -> Iterator[Connection]:
        time.sleep(next(delays))
        with reading(store) as connection:
            yield connection

    monkeypatch.setattr(Store, "reading", slow_for_the_first)
    await world.passes(60)
    in_order = [row.incident_id for row in reversed(projections.incidents(world.store))]
    assert [key.split(":")[1] for key in world.channels["slack"].got] == in_order[:2]


async def test_a_part_works_again_only_once_and_unknown_parts_are_nothing(world: World) -> None:
    world.responder.part_works("topic agent.control")
    assert world.of_parts() == []
    world.responder.part_fails("topic agent.control", "unheard", "not read to its end for 45 s")
    world.responder.part_fails("topic agent.control", "unheard", "not read to its end for 45 s")
    await world.passes(1)
    assert world.told(world.only) == {"slack": 1}
    assert "agent.control" in world.only.summary
    world.responder.part_works("topic agent.control")
    version = world.only.version
    world.responder.part_works("topic agent.control")
    assert (world.only.version, world.only.state) == (version, "resolved")


async def test_a_person_may_take_it_and_close_it(world: World) -> None:
    world.channels["slack"].outcome = AUTH
    await world.see()
    actions.acknowledge(world.responder, world.only.incident_id, "alice")
    actions.resolve(world.responder, world.only.incident_id, "alice", "token renewed")
    await world.see()
    assert [each.state for each in world.of_parts()] == ["resolved", "triggered"]


async def test_its_page_says_what_to_do_and_stops_no_agent(world: World) -> None:
    world.channels["slack"].outcome = AUTH
    await world.see()
    with world.store.reading() as connection:
        incident = current(connection, world.only.incident_id)
    assert incident is not None
    said = str(render(incident, "opened").blocks)
    assert "watchkeeper channels test slack" in said
    assert "watchkeeper runbook engine_stalled" in said
    assert "watchkeeper halt" not in said
    assert "Nothing was stopped" not in said


async def test_a_broken_channel_that_nobody_heeds_escalates_elsewhere(world: World) -> None:
    world.channels["slack"].outcome = AUTH
    await world.see()
    for _ in range(40):
        await world.passes(60)
    assert [page.page for page in world.only.pages] == ["opened", "escalated:1", "escalated:2"]
    assert world.told(world.only) == {"terminal": 3}
