"""What is said of an order is what is known of it: by whomever it is held, and whoever answers for it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from detectors.session.disobeyed_control import DisobeyedControl
from responders import actions, keys, policy, wanted
from responders.control import ControlPublisher
from responders.decider import containment
from responders.effects import Outcome
from responders.handle import Responder
from responders.incident import Incident
from responders.pages.page import render
from responders.policy import Policy
from responders.store import projections
from responders.store.event_store import Store, current
from responders.wanted import WantedCommand
from schemas.control import ControlAck
from schemas.detection import Detection
from tests.responders.world import HALT, Clock, KeptBus, ack_of, detection


class World:
    """A responder, the commands as they stand, and gates that say what the test has them say."""

    def __init__(self, store: Store, rules: str = "") -> None:
        self.clock, self.store = Clock(), store
        self.policy: Policy = policy.parse(rules).with_channels("desk")
        self.responder = Responder(store, self.policy, self.clock)

    def see(self, seen: Detection) -> Incident:
        incident = self.responder.detection(seen)
        assert incident is not None
        return incident

    def disobeys(self, agent: str, session: str = "s-1") -> Incident:
        name = f"on-{agent}-{session}-{self.clock.now}"
        return self.see(detection(name, detector="disobeyed_control", agent=agent, session=session))

    def newest(self, agent: str, session: str | None = None) -> WantedCommand:
        with self.store.reading() as connection:
            found = wanted.newest(connection)
        return next(each for each in found if (each.target.agent, each.target.session) == (agent, session))

    def due(self) -> list[str]:
        """The commands that are published again sooner or later."""
        with self.store.reading() as connection:
            return [each.command_id for each in wanted.due(connection, 10**15)]

    def answers(self, command: WantedCommand, point: str, result: str = "applied", **more: Any) -> ControlAck:
        fields = {**command.fields("test"), "schema": "agent.control/1", "key_id": "k", "signature": "s"}
        ack = ack_of(fields, self.clock(), enforcement_point=point, result=result, **more)
        assert self.responder.ack(ack) is (ack.epoch == command.epoch)
        return ack

    def passes(self, seconds: float) -> None:
        self.clock.pass_seconds(seconds)
        while self.responder.fire_timers():
            pass

    def of(self, incident: Incident) -> Incident:
        with self.store.reading() as connection:
            found = current(connection, incident.incident_id)
        assert found is not None
        return found

    def everything(self) -> list[Incident]:
        rows = projections.incidents(self.store)
        with self.store.reading() as connection:
            found = [current(connection, row.incident_id) for row in rows]
        return [each for each in found if each is not None]

    def said(self, incident: Incident) -> str:
        return str(render(self.of(incident), "opened").blocks)


class LateBus(KeptBus):
    """The broker has what it is given only once it ``thaws``."""

    def __init__(self) -> None:
        super().__init__()
        self.thaws = asyncio.Event()

    async def deliver(self, topic: str, key: bytes, value: bytes) -> Outcome:
        await self.thaws.wait()
        return await super().deliver(topic, key, value)


def pages(incident: Incident) -> list[str]:
    return [page.partition(":")[0] for page, _ in incident.pages]


@pytest.fixture
def world(store: Store) -> World:
    return World(store)


def test_who_ignores_the_global_stop_is_told_on_the_incident_that_stopped_everybody(world: World) -> None:
    stop = actions.halt(world.responder, "*", "alice")
    world.answers(world.newest("*"), "client:obedient", agent="obedient")
    world.passes(60)
    assert world.of(stop).containment == "verified"
    world.disobeys("deaf")
    (only,) = world.everything()
    assert (only.incident_id, only.containment, only.state) == (stop.incident_id, "disobeyed", "triggered")
    assert "disobeyed" in pages(only)
    assert "every agent was ordered to halt, and not every one does" in world.said(only)


def test_an_order_of_another_incident_is_disobeyed_too(world: World) -> None:
    """The agent's own incident wants nothing of it, the one that holds it does."""
    held = actions.halt(world.responder, "default/billing/s-9", "alice")
    actions.resolve(world.responder, world.see(detection("d-1", session="s-1")).incident_id, "bob")
    first = actions.halt(world.responder, "billing", "alice")
    actions.halt(world.responder, "*", "alice")
    for command in (world.newest("billing"), world.newest("*"), world.newest("billing", "s-9")):
        world.answers(command, "client:billing", agent="billing")
    world.passes(60)
    world.disobeys("billing", "s-2")
    found = {each.incident_id: each for each in world.everything()}
    assert found[first.incident_id].containment == "disobeyed"
    (everyone,) = [each for each in found.values() if each.agent == "*"]
    assert everyone.containment == "disobeyed"
    assert found[held.incident_id].containments, "still there"
    assert not [each for each in found.values() if each.opened_by.kind == "engine" and each.open]


def test_what_nobody_open_holds_opens_an_incident_as_before(world: World) -> None:
    stop = actions.halt(world.responder, "*", "alice")
    actions.resolve(world.responder, stop.incident_id, "alice")
    found = world.disobeys("deaf")
    assert found.incident_id != stop.incident_id
    assert pages(found) == ["opened"]


def test_one_that_refuses_is_told_although_others_obey(world: World) -> None:
    stop = actions.halt(world.responder, "*", "alice")
    command = world.newest("*")
    world.answers(command, "client:a", agent="a")
    world.answers(command, "client:b", "refused", agent="b", reason="bad_signature: not by a trusted key")
    incident = world.of(stop)
    assert pages(incident).count("refused") == 1
    assert "client:b does not accept" in world.said(stop)
    world.answers(command, "client:c", agent="c")
    world.passes(60)
    assert "client:b does not accept" in world.said(stop)


def test_who_refused_is_asked_again_and_may_obey_after_all(world: World) -> None:
    stop = actions.halt(world.responder, "*", "alice")
    command = world.newest("*")
    world.answers(command, "client:b", "refused", agent="b", reason="unknown_key")
    world.answers(command, "client:a", agent="a")
    assert "client:b does not accept" in world.said(stop)
    assert world.due() == [command.command_id]
    world.answers(command, "client:b", agent="b")
    assert "does not accept" not in world.said(stop)
    assert world.due() == []


def test_of_two_who_refuse_the_other_one_stays(world: World) -> None:
    stop = actions.halt(world.responder, "*", "alice")
    command = world.newest("*")
    for agent in "ab":
        world.answers(command, f"client:{agent}", "refused", agent=agent, reason="unknown_key")
    world.answers(command, "client:c", agent="c")
    world.answers(command, "client:a", agent="a")
    assert "client:b does not accept" in world.said(stop)
    assert pages(world.of(stop)).count("refused") == 1
    world.answers(command, "client:b", agent="b")
    assert "does not accept" not in world.said(stop)


def test_a_refusal_of_what_is_no_longer_wanted_is_nothing(world: World) -> None:
    """Two responders may publish in the other order: the gate has the newer one, and says so."""
    incident = world.see(detection())
    older = world.newest("billing", "s-1")
    world.clock.pass_seconds(1)
    actions.halt(world.responder, "default/billing/s-1", "alice")
    actions.resume(world.responder, "default/billing/s-1", "alice")
    other = world.see(detection("d-2", time=world.clock.now + timedelta(seconds=1)))
    assert other.incident_id == incident.incident_id
    version = world.of(incident).version
    world.answers(older, "client:billing", "refused", reason="older_epoch: a newer one is in force")
    assert world.of(incident).version == version


def test_an_older_command_that_is_on_the_bus_again_is_followed_by_the_one_in_force(world: World) -> None:
    """Somebody replays it. Who hears both refuses the older one; an agent that starts anew hears only that,
    once the topic is compacted.
    """
    world.see(detection())
    actions.resume(world.responder, "default/billing/s-1", "alice")
    let_run = world.newest("billing", "s-1")
    world.clock.pass_seconds(60)
    world.see(detection("d-2", time=world.clock.now))
    halt = world.newest("billing", "s-1")
    for command in (let_run, halt):
        world.answers(command, "client:billing")
    assert world.due() == []
    world.answers(let_run, "client:other", "refused", reason="unknown_key: not trusted")
    assert world.due() == []
    world.answers(let_run, "client:billing", "refused", reason=f"older_epoch: epoch {halt.epoch} is in force")
    assert world.due() == [halt.command_id]


def test_an_answer_that_names_another_epoch_proves_nothing(world: World) -> None:
    """It says that an old command holds, under a number that would make it the newest."""
    incident = world.see(detection())
    older = world.newest("billing", "s-1")
    world.clock.pass_seconds(1)
    actions.contain(
        world.responder, "default/billing/s-1", HALT.model_copy(update={"revoked_tools": ["mail"]}), "alice"
    )
    world.answers(older, "client:billing", epoch=older.epoch + 10**6)
    assert world.of(incident).containment == "requested"


def test_the_watch_is_waited_for_as_long_as_it_takes() -> None:
    assert timedelta(milliseconds=DisobeyedControl().unheard_ms) <= containment.UNHEARD


def test_who_answers_from_outside_is_believed_when_the_watch_would_have_seen(world: World) -> None:
    """A point outside the agent says nothing of calls past it: those are noticed twenty seconds later."""
    incident = world.see(detection())
    world.answers(world.newest("billing", "s-1"), "http:litellm:host")
    world.passes(15)
    assert world.of(incident).containment == "applied"
    world.passes(30)
    assert world.of(incident).containment == "verified"


def test_what_was_seen_before_a_person_let_it_run_stops_nobody_after_the_incident_is_closed(
    world: World,
) -> None:
    """The responder was down meanwhile: it reads of it afterwards."""
    incident = world.see(detection())
    seen_at = world.clock.now
    world.clock.pass_seconds(60)
    actions.resume(world.responder, "billing", "alice")
    actions.resolve(world.responder, incident.incident_id, "alice")
    world.clock.pass_seconds(1)
    late = world.see(detection("late", time=seen_at + timedelta(seconds=30)))
    assert late.incident_id != incident.incident_id
    assert late.containment == "none"
    assert pages(late) == ["opened"]
    again = world.see(detection("again", detector="budget", time=world.clock.now))
    assert again.containment == "requested"


async def test_a_command_that_lands_after_a_newer_one_is_followed_by_the_newer_one_again(
    sqlite_store: Store, tmp_path: Path
) -> None:
    """A compacted topic keeps what came last: an agent that starts anew would obey the older one."""
    world, late, bus = World(sqlite_store), LateBus(), KeptBus()
    frozen, other = (
        ControlPublisher(world.responder, each, keys.load_or_create(tmp_path)) for each in (late, bus)
    )
    world.see(detection())
    older = world.newest("billing", "s-1")
    await frozen.start_due(lambda: None)
    world.clock.pass_seconds(1)
    actions.resume(world.responder, "default/billing/s-1", "alice")
    newer = world.newest("billing", "s-1")
    await other.run_once()
    assert [each["command_id"] for each in bus.commands()] == [newer.command_id]
    world.answers(newer, "client:billing")
    late.thaws.set()
    await frozen.finish()
    assert [each["command_id"] for each in late.commands()] == [older.command_id, newer.command_id]


def test_an_order_is_proved_once_all_that_was_done_since_has_been_looked_at(store: Store) -> None:
    world = World(store)
    incident = world.see(detection())
    world.responder.looked_at_until = world.clock()
    world.answers(world.newest("billing", "s-1"), "gate-1")
    due = world.clock() + timedelta(milliseconds=world.policy.containment.verify_quiet_ms)
    world.passes(3_600)
    assert world.of(incident).containment == "applied", "nothing has been looked at since"
    world.responder.looked_at_until = due - timedelta(milliseconds=1)
    world.passes(1)
    assert world.of(incident).containment == "applied"
    world.responder.looked_at_until = due
    world.passes(1)
    assert world.of(incident).containment == "verified"
