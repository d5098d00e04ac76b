"""Commands go out at once, whatever hangs; one that the broker refuses is told to people, not to the log."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import func, select
from structlog.testing import capture_logs

from responders import actions, keys, wanted
from responders.control import ControlPublisher
from responders.effects import Delivered, Outcome, Permanent, Retryable
from responders.handle import Responder, Source, offsets_of
from responders.policy import DEFAULT
from responders.store import projections, tables
from responders.store.event_store import Store
from schemas import topics
from tests.responders.test_sender import SOON_S, until
from tests.responders.world import Clock, KeptBus, ack_of

FORBIDDEN = Permanent("agent.control: TopicAuthorizationFailedError")


@dataclass
class SlowBus(KeptBus):
    """Hangs on the commands of these targets until ``open``, and answers ``outcome`` where one is set."""

    hangs: frozenset[bytes] = frozenset()
    open: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: Outcome | None = None
    tried: int = 0

    async def deliver(self, topic: str, key: bytes, value: bytes) -> Outcome:
        if topic == topics.CONTROL:
            self.tried += 1
            if key in self.hangs:
                await self.open.wait()
            if self.outcome is not None:
                return self.outcome
        return await super().deliver(topic, key, value)


class Engine:
    def __init__(self, store: Store, folder: Path, **limits: float) -> None:
        self.clock, self.bus = Clock(), SlowBus()
        self.store = store
        self.responder = Responder(store, DEFAULT.with_channels("desk"), self.clock)
        self.publisher = ControlPublisher(self.responder, self.bus, keys.load_or_create(folder), **limits)

    def halted(self) -> set[str]:
        return {command["target"]["agent"] for command in self.bus.commands()}


@pytest.fixture
def engine(sqlite_store: Store, tmp_path: Path) -> Engine:
    return Engine(sqlite_store, tmp_path)


async def test_a_target_whose_command_hangs_holds_up_no_other(engine: Engine) -> None:
    engine.bus.hangs = frozenset({b"default/stuck"})
    woken = asyncio.Event()
    actions.halt(engine.responder, "stuck", "alice")
    assert await engine.publisher.start_due(woken.set) == 1
    actions.halt(engine.responder, "shop", "alice")
    assert await asyncio.wait_for(engine.publisher.start_due(woken.set), SOON_S) == 1
    await until(lambda: engine.halted() == {"shop"})
    await asyncio.wait_for(woken.wait(), SOON_S)
    assert await engine.publisher.start_due(woken.set) == 0, "what hangs is under way, not due again"
    engine.bus.open.set()
    await asyncio.wait_for(engine.publisher.finish(), SOON_S)
    assert engine.halted() == {"shop", "stuck"}
    assert engine.bus.tried == 2


async def test_a_newer_command_of_a_target_does_not_wait_for_the_one_before(engine: Engine) -> None:
    engine.bus.hangs = frozenset({b"default/shop"})
    actions.degrade(engine.responder, "shop", "rag", "alice")
    assert await engine.publisher.start_due(lambda: None) == 1
    actions.halt(engine.responder, "shop", "alice")
    assert await engine.publisher.start_due(lambda: None) == 1
    await engine.publisher.abandon()


async def test_a_delivery_that_never_ends_is_given_up_and_tried_again(
    sqlite_store: Store, tmp_path: Path
) -> None:
    engine = Engine(sqlite_store, tmp_path, deliver_within_s=0.05)
    engine.bus.hangs = frozenset({b"default/stuck"})
    actions.halt(engine.responder, "stuck", "alice")
    assert await engine.publisher.run_once() == 0
    engine.bus.open.set()
    engine.clock.pass_seconds(1)
    assert await engine.publisher.run_once() == 1


async def test_more_commands_hanging_than_are_read_at_a_time_hold_up_no_other(engine: Engine) -> None:
    engine.bus.hangs = frozenset(f"default/stuck-{number}".encode() for number in range(120))
    for number in range(120):
        actions.halt(engine.responder, f"stuck-{number}", "alice")
    while await engine.publisher.start_due(lambda: None):
        pass
    actions.halt(engine.responder, "shop", "alice")
    assert await engine.publisher.start_due(lambda: None) == 1
    await until(lambda: engine.halted() == {"shop"})
    await engine.publisher.abandon()


async def test_a_command_that_the_broker_refuses_is_a_fact_and_pages_once(engine: Engine) -> None:
    engine.bus.outcome = FORBIDDEN
    incident_id = actions.halt(engine.responder, "shop", "alice").incident_id
    with capture_logs() as logged:
        for _ in range(300):
            await engine.publisher.run_once()
            engine.clock.pass_seconds(0.2)
            engine.responder.fire_timers()
    said = [entry for entry in logged if entry["event"] == "command not published"]
    assert [(entry["target"], entry["reason"]) for entry in said] == [("default/shop", FORBIDDEN.reason)]
    assert 5 <= engine.bus.tried <= 25, "it is tried again, ever more slowly"
    view = projections.incident(engine.store, incident_id)
    facts = [event.data for event in view.log if event.type == "containment_undeliverable"]
    assert [fact.reason for fact in facts] == [FORBIDDEN.reason]  # type: ignore[union-attr]
    told = [page for page in view.pages if page.page.startswith("undelivered:")]
    assert len({page.page for page in told}) == 1
    assert "has not been ordered to halt" in told[0].headline
    assert "TopicAuthorizationFailedError" in told[0].headline
    (held,) = view.containments
    assert held.undeliverable == FORBIDDEN.reason


async def test_another_reason_is_said_again_and_delivery_ends_it(engine: Engine) -> None:
    engine.bus.outcome = FORBIDDEN
    incident_id = actions.halt(engine.responder, "shop", "alice").incident_id
    await engine.publisher.run_once()
    engine.clock.pass_seconds(6)
    engine.bus.outcome = Retryable("agent.control: NodeNotReadyError")
    with capture_logs() as logged:
        for _ in range(10):
            await engine.publisher.run_once()
            engine.clock.pass_seconds(1)
    assert [entry["reason"] for entry in logged if entry["event"] == "command not published"] == [
        "agent.control: NodeNotReadyError"
    ]
    engine.bus.outcome = None
    engine.clock.pass_seconds(6)
    assert await engine.publisher.run_once() == 1
    (held,) = projections.incident(engine.store, incident_id).containments
    assert held.delivered_at is not None
    assert held.undeliverable is None


async def test_a_newer_command_is_tried_at_once_though_the_one_before_waits(engine: Engine) -> None:
    engine.bus.outcome = FORBIDDEN
    actions.degrade(engine.responder, "shop", "rag", "alice")
    for _ in range(5):
        await engine.publisher.run_once()
        engine.clock.pass_seconds(5)
    await engine.publisher.run_once()
    engine.bus.outcome = Delivered()
    actions.halt(engine.responder, "shop", "alice")
    assert await engine.publisher.run_once() == 1


async def test_what_is_confirmed_while_its_delivery_hangs_is_settled(engine: Engine) -> None:
    """The broker had it all along: only its answer was late."""
    engine.bus.hangs = frozenset({b"default/shop"})
    incident = actions.halt(engine.responder, "shop", "alice")
    await engine.publisher.start_due(lambda: None)
    await until(lambda: engine.bus.tried == 1)
    engine.bus.open.set()
    await until(lambda: bool(engine.bus.commands()))
    (command,) = engine.bus.commands()
    engine.responder.ack(ack_of(command, engine.clock()))
    await engine.publisher.finish()
    assert await engine.publisher.run_once() == 0
    view = projections.incident(engine.store, incident.incident_id)
    assert [each.state for each in view.containments] == ["applied"]


def test_answers_taken_in_together_come_to_what_they_do_one_by_one(
    sqlite_store: Store, tmp_path: Path
) -> None:
    """A refusal before, one obeying, one obeying twice, one unknown, and a late refusal."""
    engine = Engine(sqlite_store, tmp_path)
    incident = actions.halt(engine.responder, "*", "alice")
    with sqlite_store.reading() as connection:
        (command,) = wanted.newest(connection)
    fields = {**command.fields("test"), "schema": "agent.control/1", "key_id": "k", "signature": "s"}
    refused = ack_of(fields, engine.clock(), enforcement_point="g0", result="refused", reason="old key")
    applied = [ack_of(fields, engine.clock(), enforcement_point=f"g{number}") for number in range(1, 40)]
    stranger = refused.model_copy(update={"command_id": "cmd-unknown"})
    given = [refused, *applied, applied[0], stranger, refused]
    sources = [Source(topics.ACKS, 0, offset) for offset in range(len(given))]
    known = engine.responder.acks(list(zip(given, sources, strict=True)))
    assert known == [ack is not stranger for ack in given]
    view = projections.incident(sqlite_store, incident.incident_id)
    facts = [event.type for event in view.log if event.type in ("containment_applied", "containment_refused")]
    assert facts == ["containment_refused", "containment_applied"]
    assert (view.containments[0].enforcement_point, view.containments[0].state) == ("g1", "applied")
    with sqlite_store.reading() as connection:
        assert len(wanted.due(connection, 10**15)) == 1, "there is one who does not obey"
        kept = connection.execute(select(func.count()).select_from(tables.acks)).scalar_one()
    assert kept == 40
    again = ack_of(fields, engine.clock(), enforcement_point="g0")
    assert engine.responder.acks([(applied[0], None), (again, None)]) == [True, True]
    with sqlite_store.reading() as connection:
        assert wanted.due(connection, 10**15) == [], "confirmed"
    assert offsets_of(sqlite_store, topics.ACKS) == {0: len(given)}
