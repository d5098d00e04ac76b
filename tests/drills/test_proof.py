"""The proof of containment is told from the incident's log alone, and what is missing of it is said."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import Connection

from cli.drill_view import render
from drills.catalogue import BY_NAME
from drills.done import Done
from drills.proof import Log, Proof, proofs, shortfall
from drills.score import Seen, score
from drills.script import Act
from responders import wanted
from responders.decide import PageOutcome
from responders.effects import Delivered
from responders.handle import Responder
from responders.incident import Incident
from responders.policy import DEFAULT
from responders.store import projections
from responders.store.event_store import Store
from schemas.base import epoch_ms
from schemas.detection import Evidence
from tests.responders.world import START, Clock, ack_of, detection

TENANT = "default"
KEY = "default/billing/s-1"


class World:
    """A detection half a second ago, an order now."""

    def __init__(self) -> None:
        self.store, self.clock, self.log = Store.in_memory(), Clock(), Log()
        self.responder = Responder(self.store, DEFAULT.with_channels("desk"), self.clock)
        self.clock.pass_seconds(0.5)
        found = self.responder.detection(detection())
        assert found is not None
        self.incident_id = found.incident_id

    def passes(self, seconds: float) -> None:
        self.clock.pass_seconds(seconds)
        self.responder.fire_timers()

    def obeyed(self) -> None:
        with self.store.reading() as connection:
            (command,) = wanted.newest(connection)
        self.responder.published(command, 1_000)
        self.clock.pass_seconds(0.1)
        fields = {**command.fields("test"), "key_id": "k", "signature": "s", "schema": "agent.control/1"}
        assert self.responder.ack(ack_of(fields, self.clock()))

    def goes_on(self, calls: int) -> None:
        counts = {"delete_mail": calls}
        self.responder.detection(
            detection(
                f"on-{calls}",
                detector="disobeyed_control",
                sample_size=calls,
                evidence=Evidence(counts=counts),
            )
        )
        for page in projections.incident(self.store, self.incident_id).pages:
            given = PageOutcome(page.page, page.channel, Delivered("C1", "1"), 1)
            self.store.transact(lambda connection: self._decided(connection, given))  # noqa: B023

    def _decided(self, connection: Connection, given: PageOutcome) -> None:
        self.responder.decided(connection, given, self.incident_id)

    def proofs(
        self, done: tuple[Done, ...] = (), outside: dict[str, datetime] | None = None
    ) -> tuple[Proof, ...]:
        for event in projections.incident(self.store, self.incident_id).log:
            self.log.take(event)
        return proofs(self.log.incidents(TENANT), done, outside)


THOUGHT = Act("billing", "s-1", "llm.call", {"cost_usd": 0.25})


def done(seconds: float, act: Act = THOUGHT, denied: bool = False) -> Done:
    at_ms = epoch_ms(START) + seconds * 1000
    return Done(act, "e", at_ms, at_ms, denied)


def test_every_step_has_its_time_and_its_seconds_since_the_detection() -> None:
    world = World()
    world.obeyed()
    world.passes(10)
    (proof,) = world.proofs((done(0.4), done(0.6), done(0.7, denied=True)))
    assert proof.seconds == {"issued": 0.5, "delivered": 0.5, "applied": 0.6, "verified": 10.6}
    assert proof.times["verified"] == START + timedelta(seconds=10.6)
    assert (proof.target, proof.wanted, proof.state, proof.detector) == (
        KEY,
        "halt",
        "verified",
        "tool_loop",
    )
    assert (proof.actions_after_stop, proof.usd_after_stop) == (1, 0.25)
    assert shortfall([proof], "verified") == []
    assert shortfall([proof], "escalated") != []


def test_what_is_not_yet_proved_is_said() -> None:
    world = World()
    assert shortfall(world.proofs(), "verified") == [f"{KEY} is requested, not verified"]
    world.obeyed()
    assert shortfall(world.proofs(), "verified") == [f"{KEY} is applied, not verified"]
    assert shortfall((), "verified") == ["nothing was ordered"]


def test_who_goes_on_is_proved_to_be_denied_outside_and_escalated() -> None:
    world = World()
    world.passes(20)
    world.goes_on(12)
    world.clock.pass_seconds(1)
    (proof,) = world.proofs(outside={KEY: START + timedelta(seconds=1)})
    assert proof.seconds["denied_outside"] == 1.0
    assert proof.seconds["escalated"] == proof.seconds["disobeyed"] == 20.5
    assert proof.named == {"delete_mail": 12}
    assert shortfall([proof], "escalated") == []


def test_too_late_is_not_proved() -> None:
    world = World()
    world.clock.pass_seconds(50)
    world.goes_on(12)
    late = world.proofs(outside={KEY: START + timedelta(seconds=31)})
    assert shortfall(late, "escalated") == [
        f"{KEY}: denied outside after 30.5 s, wanted 30",
        f"{KEY}: escalated after 50.0 s, wanted 45",
    ]
    assert f"{KEY}: never denied outside" in shortfall(world.proofs(), "escalated")
    asked = shortfall(world.proofs(), "escalated", "http://127.0.0.1:1")
    assert f"{KEY}: never denied outside at http://127.0.0.1:1" in asked


@pytest.mark.parametrize("seed", range(5))
def test_the_log_may_come_in_any_order_and_more_than_once(seed: int) -> None:
    world = World()
    world.obeyed()
    world.passes(10)
    expected = world.proofs()
    events = [*projections.incident(world.store, world.incident_id).log] * 2
    random.Random(seed).shuffle(events)
    log, seen = Log(), []
    for event in events:
        log.take(event)
        seen.append(log.incidents(TENANT))
    assert proofs(seen[-1]) == expected
    versions = [incident.version for found in seen for incident in found]
    assert versions == sorted(versions), "never further than without a gap"
    assert all(isinstance(each, Incident) for each in seen[-1])
    assert log.incidents("another") == []


def test_a_drill_without_its_proof_has_failed_and_a_person_can_read_the_timeline() -> None:
    world, drill = World(), BY_NAME["mass-email"]
    acts = [done(0.0, act=Act("billing", "s-1", "tool.call", faulty=True)), done(0.6)]
    seen = [Seen("fan_out", "billing", epoch_ms(START), epoch_ms(START), "found")]
    world.obeyed()
    result = score(drill, acts, seen, stopped_ms=epoch_ms(START) + 700.0, proof=world.proofs(tuple(acts)))
    assert (result.passed, result.why) == (False, (f"{KEY} is applied, not verified",))
    world.passes(10)
    result = score(drill, acts, seen, stopped_ms=epoch_ms(START) + 700.0, proof=world.proofs(tuple(acts)))
    assert result.passed
    shown: Any = result.as_dict()["proof"]
    assert shown[0]["times"]["issued"] == "2026-03-01T03:00:00.500Z"
    console = Console(width=140, record=True)
    console.print(render([result]))
    text = console.export_text()
    for words in ("mass-email: the proof", KEY, "10.600", "verified: nothing seen since", "1 act, $0.25"):
        assert words in text
