"""Reliability test 25: the control topic is gone, or forbidden.

Beside the agent the fail mode decides: `closed` denies, `open` goes on with what it knows, and both hear
again when the topic is back. In the engine an order that cannot be given is told to a person.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError

from responders import actions, keys, service
from responders.control import ControlPublisher
from responders.effects import Delivered, Outcome, Permanent, Retryable
from responders.handle import Responder
from responders.policy import DEFAULT
from responders.store import projections
from responders.store.event_store import Store
from schemas import topics
from tests.client.commands import KEYS, OPERATOR, fields, raw
from tests.integration.parts.kafka import KafkaBroker
from tests.responders.conftest import *  # noqa: F403 - pytest finds fixtures by their names here
from tests.responders.world import Clock, KeptBus
from watchkeeper_client import Gate, WantedState, Watchkeeper
from watchkeeper_client.gate import FailMode, wall_clock_ms
from watchkeeper_client.subscriber import ControlSubscriber

PATIENCE_S = 60.0


class _Refusing:
    """A consumer that is let in and told nothing."""

    error: type[KafkaError]

    def __init__(self, *_: object, **__: object) -> None: ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def assignment(self) -> set[Any]:
        return set()

    async def getmany(self, timeout_ms: int) -> dict[Any, Any]:
        raise self.error


@pytest.mark.parametrize("error", [TopicAuthorizationFailedError, UnknownTopicOrPartitionError])
async def test_a_gate_that_is_not_let_hear_follows_its_fail_mode(
    error: type[KafkaError], monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = type("Refusing", (_Refusing,), {"error": error})
    monkeypatch.setattr("watchkeeper_client.subscriber.AIOKafkaConsumer", refusing)
    elapsed = 0.0
    state = WantedState(KEYS, enforcement_point="test")
    state.apply(raw(fields(session="stopped")), wall_clock_ms())
    modes: tuple[FailMode, ...] = ("closed", "open")
    gates = {mode: Gate(state, agent="shop", fail_mode=mode, elapsed=lambda: elapsed) for mode in modes}

    def on_heard(age_ms: float) -> None:
        for gate in gates.values():
            gate.heard(age_ms)

    on_heard(0.0)
    assert all(gate.allowed(session="s").allowed for gate in gates.values())
    subscriber = ControlSubscriber(state, {}, send=lambda _record: None, on_heard=on_heard)
    following = asyncio.create_task(subscriber.run())
    await asyncio.sleep(0.2)
    assert not following.done(), "it tries on"
    elapsed = 30_001.0
    assert gates["closed"].allowed(session="s").denied == "unheard"
    assert gates["open"].allowed(session="s").allowed
    assert gates["open"].allowed(session="stopped").denied == "halt"
    following.cancel()


def _until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def _command(broker: KafkaBroker, *values: bytes) -> None:
    async def send() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap)
        await producer.start()
        try:
            for value in values:
                await producer.send_and_wait(topics.CONTROL, value, key=b"default/shop")
        finally:
            await producer.stop()

    asyncio.run(send())


@pytest.mark.kafka
def test_gates_go_deaf_when_the_topic_is_deleted_and_hear_again_when_it_is_back(
    tmp_path: Path,
) -> None:
    with KafkaBroker(tmp_path / "kafka", proxied_listeners=0) as broker:
        for topic in (topics.CONTROL, topics.ACKS, topics.EVENTS):
            broker.create_topic(topic, 2)
        _command(broker, raw(fields(session="stopped")))

        def connect(fail_mode: FailMode) -> Watchkeeper:
            return Watchkeeper(
                bootstrap=broker.bootstrap,
                agent="shop",
                keys=KEYS,
                fail_mode=fail_mode,
                heard_within_ms=5_000,
                flush_ms=200,
            )

        with connect("closed") as closed, connect("open") as opened:
            assert closed.wait_heard(PATIENCE_S)
            assert opened.wait_heard(PATIENCE_S)
            assert closed.gate.allowed(session="s").allowed
            broker.delete_topic(topics.CONTROL)
            _until(lambda: closed.gate.allowed(session="s").denied == "unheard", "closed still allows")
            assert opened.gate.allowed(session="s").allowed
            assert opened.gate.allowed(session="stopped").denied == "halt"
            broker.create_topic(topics.CONTROL, 2)
            _until(lambda: closed.gate.hearing and opened.gate.hearing, "they do not hear again")
            _command(broker, raw(fields(epoch=2)))
            for keeper in (closed, opened):
                _until(lambda gate=keeper.gate: gate.allowed(session="s").denied == "halt", "no halt")
            _command(broker, raw(fields(epoch=3, mode="run"), OPERATOR))
            _until(lambda: closed.gate.allowed(session="s").allowed, "no resume")


class _Forbidding(KeptBus):
    """Takes everything but control."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome

    async def deliver(self, topic: str, key: bytes, value: bytes) -> Outcome:
        return self.outcome if topic == topics.CONTROL else await super().deliver(topic, key, value)


@pytest.mark.parametrize(
    ("outcome", "at_once"),
    [
        (Permanent("agent.control: TopicAuthorizationFailedError"), True),
        (Retryable("agent.control: UnknownTopic"), False),
    ],
)
async def test_an_order_that_cannot_be_given_pages(
    outcome: Outcome,
    at_once: bool,
    sqlite_store: Store,
    tmp_path: Path,
) -> None:
    clock, bus = Clock(), _Forbidding(outcome)
    responder = Responder(sqlite_store, DEFAULT.with_channels("desk"), clock)
    publisher = ControlPublisher(responder, bus, keys.load_or_create(tmp_path))
    incident_id = actions.halt(responder, "shop", "alice").incident_id

    async def pages(seconds: int) -> set[tuple[str, str]]:
        """What was told beside the opening, by name and words, whatever the channel."""
        for _ in range(seconds):
            await publisher.run_once()
            clock.pass_seconds(1)
            responder.fire_timers()
        view = projections.incident(sqlite_store, incident_id)
        return {(page.page, page.headline) for page in view.pages if ":" in page.page}

    assert bool(await pages(1)) is at_once
    ((name, words),) = await pages(24)
    assert name.startswith("undelivered:")
    assert ("the broker refuses the order" if at_once else "agent.control took nothing") in words
    assert len(await pages(60)) == 1, "told once"
    bus.outcome = Delivered()
    clock.pass_seconds(5)
    assert await publisher.run_once() == 1, "it is given soon after it can be"


async def test_a_topic_that_cannot_be_read_pages_though_no_order_is_pending(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "UNHEARD_S", 0.05)
    responder, stop, hears = Responder(sqlite_store, DEFAULT.with_channels("desk")), asyncio.Event(), [False]

    def found() -> list[tuple[str, list[str]]]:
        views = [
            projections.incident(sqlite_store, row.incident_id) for row in projections.incidents(sqlite_store)
        ]
        return [(view.state, [page.channel for page in view.pages]) for view in views]

    async def turns_to(*expected: tuple[str, list[str]]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while found() != list(expected):  # noqa: ASYNC110 - the store has no event
                await asyncio.sleep(0.05)

    watching = asyncio.ensure_future(
        service._watch_control(stop, responder, lambda: hears[0], service.Work())
    )
    await turns_to(("triggered", ["desk"]))
    hears[0] = True
    await turns_to(("resolved", ["desk"]))
    stop.set()
    await asyncio.wait_for(watching, PATIENCE_S)
