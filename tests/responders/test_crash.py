"""A responder that dies at any step: after a restart nothing is lost and nothing is doubled.

The longer lives are those of what waits for people or time: approvals, escalations, silences, storms.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from responders import actions, keys
from responders.control import ControlPublisher
from responders.decide import ActionRefused
from responders.fake_slack import GOOD_TOKEN, FakeSlack, Fault
from responders.handle import Responder
from responders.incident_log import KafkaIncidentLog
from responders.keys import Keys
from responders.policy import DEFAULT
from responders.sender import Sender
from responders.slack.channel import SlackChannel
from responders.store import projections
from responders.store.event_store import Store
from responders.store.outbox import LEASE_MS
from responders.store.projections import IncidentView
from tests.reliability.counts import FULL
from tests.responders.world import Clock, KeptBus, ack_of, detection

STEPS = 66
"""At least as many as there are steps in an undisturbed life."""


class Crash(BaseException):
    """kill -9, as far as the code can tell: nothing catches it."""


class CrashingStore(Store):
    """Dies at the n-th step: before a transaction, after its work but uncommitted, or after the commit."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner._engine)
        self.steps = 0
        self.die_at: int | None = None

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self.die_at:
            raise Crash

    def transact(self, work: Callable[[Any], Any]) -> Any:
        self._step()

        def and_die(connection: Any) -> Any:
            result = work(connection)
            self._step()
            return result

        result = super().transact(and_die)
        self._step()
        return result


class World:
    """One responder with everything outside it that survives it: the store, the bus, Slack."""

    def __init__(self, store: Store, session: aiohttp.ClientSession, slack_url: str, signing: Keys) -> None:
        self.clock = Clock()
        self.bus = KeptBus()
        self.store = CrashingStore(store)
        self._session, self._slack_url, self._signing = session, slack_url, signing
        self.start()

    def start(self) -> None:
        """A new process on what is left of the old one."""
        self.responder = Responder(self.store, DEFAULT.with_channels("slack:#incidents"), self.clock)
        channel = SlackChannel(GOOD_TOKEN, "#incidents", self._slack_url, self._session)
        log = KafkaIncidentLog(self.bus)
        self.sender = Sender(self.responder, {channel.name: channel}, log)
        self.publisher = ControlPublisher(self.responder, self.bus, self._signing)

    async def work(self) -> None:
        """The whole life of an incident: each step may be done again, as Kafka redelivers it."""
        await asyncio.to_thread(self.responder.detection, detection())
        await self.drain()
        for command in self.bus.commands():
            await asyncio.to_thread(self.responder.ack, ack_of(command, self.clock()))
        self.clock.pass_seconds(30)
        await asyncio.to_thread(self.responder.fire_timers)
        await self.drain()

    async def drain(self) -> None:
        while await self.sender.run_once() or await self.publisher.run_once():
            pass


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    fake = FakeSlack()
    yield fake
    await fake.stop()


@pytest.fixture
async def world(sqlite_store: Store, slack: FakeSlack, tmp_path: Path) -> AsyncIterator[World]:
    base_url = await slack.start()
    async with aiohttp.ClientSession() as session:
        keys.load_or_create(tmp_path)
        for path in (tmp_path / "keys").glob("*.key"):
            os.utime(path, (0, 0))  # made before anything happens in this world
        yield World(sqlite_store, session, base_url, keys.load(tmp_path))


def log_types(world: World) -> list[str]:
    (row,) = projections.incidents(world.store)
    return [event.type for event in projections.incident(world.store, row.incident_id).log]


async def test_an_undisturbed_life_is_the_measure(world: World, slack: FakeSlack) -> None:
    await world.work()
    assert len(slack.messages) == 1
    assert log_types(world)[-2:] == ["containment_verified", "mitigated"]
    assert "Proved" in str(slack.messages[0].blocks)
    assert world.store.steps <= STEPS


@pytest.mark.parametrize("die_at", range(1, STEPS + 1, 1 if FULL else 3))
async def test_a_death_at_any_step_neither_loses_nor_doubles(
    world: World, slack: FakeSlack, die_at: int
) -> None:
    world.store.die_at = die_at
    with contextlib.suppress(Crash):  # the last steps are there in some interleavings only
        await world.work()
    world.store.die_at = None
    world.clock.pass_seconds(LEASE_MS / 1000 + 1)
    world.start()
    await world.work()
    assert len(slack.messages) == 1
    types = log_types(world)
    assert types.count("triggered") == types.count("page_delivered") == types.count("containment_issued") == 1
    assert {"containment_delivered", "containment_applied", "containment_verified"} <= set(types)
    published = [event["version"] for event in world.bus.log()]
    assert sorted(set(published)) == list(range(1, len(types) + 1))
    assert len({command["signature"] for command in world.bus.commands()}) == 1


@pytest.mark.parametrize(
    "fault", [Fault.ACCEPT_THEN_RESET, Fault.SERVER_ERROR, Fault.ACCEPT_THEN_SERVER_ERROR]
)
async def test_a_death_after_an_unclear_answer_still_pages_once(
    world: World, slack: FakeSlack, fault: Fault
) -> None:
    slack.fail("chat.postMessage", fault)
    await world.work()
    world.clock.pass_seconds(LEASE_MS / 1000 + 1)
    world.start()
    await world.work()
    assert len(slack.messages) == 1
    assert "page_delivered" in log_types(world)


async def test_a_page_found_again_is_brought_up_to_date(world: World, slack: FakeSlack) -> None:
    """What was found says what was true when it was first sent, not what is true now."""
    slack.fail("chat.postMessage", Fault.ACCEPT_THEN_RESET)
    await asyncio.to_thread(world.responder.detection, detection())
    await world.drain()
    for command in world.bus.commands():
        await asyncio.to_thread(world.responder.ack, ack_of(command, world.clock()))
    world.clock.pass_seconds(2)
    await world.drain()
    (page,) = slack.messages
    assert "Obeyed" in str(page.blocks)


async def test_a_broker_that_is_down_gets_the_command_when_it_is_back(world: World) -> None:
    from responders.effects import Retryable

    world.responder.detection(detection())
    world.bus.outcomes = [Retryable("down")] * 2
    for _ in range(2):
        assert await world.publisher.run_once() == 0
        world.clock.pass_seconds(1)
    assert await world.publisher.run_once() == 1
    assert [command["state"]["mode"] for command in world.bus.commands()] == ["halt"]


async def test_a_command_is_published_ever_more_slowly_until_it_is_confirmed(world: World) -> None:
    world.responder.detection(detection())
    gaps: list[float] = []
    last = world.clock()
    while len(gaps) < 9:
        if await world.publisher.run_once():
            gaps.append((world.clock() - last).total_seconds())
            last = world.clock()
        world.clock.pass_seconds(0.5)
    assert gaps == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert len({command["signature"] for command in world.bus.commands()}) == 1
    world.responder.ack(ack_of(world.bus.commands()[0], world.clock()))
    world.clock.pass_seconds(600)
    assert await world.publisher.run_once() == 0


async def test_a_broker_that_lost_everything_is_told_again_who_is_held(world: World) -> None:
    world.responder.detection(detection("d-1"))
    world.responder.detection(detection("d-2", agent="other", session="s-2"))
    await world.publisher.run_once()
    for command in world.bus.commands():
        world.responder.ack(ack_of(command, world.clock()))
    actions.resume(world.responder, "other", "alice")
    kept = world.bus.commands()
    world.bus.records.clear()
    world.start()
    assert await world.publisher.announce() == 1
    assert world.bus.commands() == [each for each in kept if each["target"]["agent"] == "billing"]


async def test_only_a_person_lifts_and_the_operator_key_signs_it(world: World) -> None:
    world.responder.detection(detection())
    await world.publisher.run_once()
    world.clock.pass_seconds(1)
    actions.resume(world.responder, "billing", "alice")
    await world.publisher.run_once()
    halt, run = world.bus.commands()
    assert (halt["key_id"].split("-")[0], run["key_id"].split("-")[0]) == ("engine", "operator")
    assert (run["state"]["mode"], run["epoch"] > halt["epoch"]) == ("run", True)


EVERY = 1 if FULL else 15
"""Of the steps of the longer lives."""


async def approval(world: World) -> None:
    """An agent as a whole may be halted only when a person says so."""
    await see(world, 1)
    await world.drain()
    with contextlib.suppress(ActionRefused):  # it was approved before the death
        await asyncio.to_thread(actions.approve, world.responder, only(world).incident_id, "alice")
    await world.drain()
    for command in world.bus.commands():
        await asyncio.to_thread(world.responder.ack, ack_of(command, world.clock()))
    await passes(world, 30)


async def escalation(world: World) -> None:
    """Nobody answers, and the chain goes to its end."""
    await see(world, 1, suggested=None)
    await world.drain()
    await passes(world, 601)
    await passes(world, 1_201)


async def silence(world: World) -> None:
    """What was kept back is told when the silence is over."""
    if not projections.incidents(world.store):
        await asyncio.to_thread(actions.silence, world.responder, "agent-*", "bob", 20)
    await see(world, 1, suggested=None)
    await world.drain()
    await passes(world, 1_201)


async def storm(world: World) -> None:
    """More at once than pages a minute allow: the rest is told together."""
    limit = world.responder.policy.storm.model_copy(update={"pages_a_minute": 2})
    world.responder.policy = world.responder.policy.model_copy(update={"storm": limit})
    await see(world, 4, suggested=None)
    await world.drain()
    await passes(world, 61)


@dataclass(frozen=True)
class Life:
    """``steps`` are at least as many as there are in it undisturbed, and not many more."""

    work: Callable[[World], Awaitable[None]]
    steps: int
    pages: tuple[str, ...]


LIVES = {
    "approval": Life(approval, 85, ("opened",)),
    "escalation": Life(escalation, 100, ("opened", "escalated:1", "escalated:2")),
    "silence": Life(silence, 50, ("opened",)),
    "storm": Life(storm, 140, ("opened", "opened", "digest:1", "digest:2")),
}
DEATHS = [(name, at) for name, life in LIVES.items() for at in range(1, life.steps + 1, EVERY)]


async def see(world: World, count: int, **changes: object) -> None:
    for number in range(count):
        found = detection(f"d-{number}", agent=f"agent-{number}", session=None, **changes)
        await asyncio.to_thread(world.responder.detection, found)


async def passes(world: World, seconds: float) -> None:
    world.clock.pass_seconds(seconds)
    await asyncio.to_thread(world.responder.fire_timers)
    await world.drain()


def everything(world: World) -> list[IncidentView]:
    rows = projections.incidents(world.store)
    return [projections.incident(world.store, row.incident_id) for row in rows]


def only(world: World) -> IncidentView:
    (incident,) = everything(world)
    return incident


def posted(fake: FakeSlack) -> Counter[str]:
    metadata = [each.metadata for each in fake.messages if each.metadata]
    return Counter(each["event_payload"]["page_key"] for each in metadata)


def assert_told_once(world: World, fake: FakeSlack) -> None:
    wanted = []
    for incident in everything(world):
        assert [event.version for event in incident.log] == list(range(1, incident.version + 1))
        assert {page.state for page in incident.pages} <= {"delivered"}
        wanted += [f"page:{incident.incident_id}:{page.page}:{page.channel}" for page in incident.pages]
    assert posted(fake) == Counter(wanted)


@pytest.mark.parametrize("name", LIVES)
async def test_an_undisturbed_longer_life_is_the_measure(world: World, slack: FakeSlack, name: str) -> None:
    life = LIVES[name]
    await life.work(world)
    assert_told_once(world, slack)
    told = sorted(key.split(":", 2)[2].removesuffix(":slack:#incidents") for key in posted(slack))
    assert told == sorted(life.pages)
    assert world.store.steps <= life.steps <= world.store.steps * 2


@pytest.mark.parametrize(("name", "die_at"), DEATHS)
async def test_a_death_at_any_step_of_a_longer_life_neither_loses_nor_doubles(
    world: World,
    slack: FakeSlack,
    name: str,
    die_at: int,
) -> None:
    life = LIVES[name]
    world.store.die_at = die_at
    with contextlib.suppress(Crash):
        await life.work(world)
    world.store.die_at = None
    world.clock.pass_seconds(LEASE_MS / 1000 + 1)
    world.start()
    await life.work(world)
    assert_told_once(world, slack)
    told = Counter(key.split(":", 2)[2].removesuffix(":slack:#incidents") for key in posted(slack))
    assert told >= Counter(life.pages)
    if name == "approval":
        assert [event.type for event in only(world).log].count("containment_issued") == 1
        assert only(world).state == "mitigated"
