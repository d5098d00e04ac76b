"""The client on a real broker: publish and read back, obey, refuse, and fail closed when the broker dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from cli.broker import EmbeddedBroker
from schemas import topics
from schemas.control import CONTROL_ACK, ControlAck
from schemas.event import AGENT_EVENT
from tests.client.commands import KEYS, NOW_MS, OPERATOR, STRANGER, fields, raw
from tests.client.conftest import PARTITIONS, create_topics
from watchkeeper_client import Halted, Watchkeeper
from watchkeeper_client.gate import FailMode

pytestmark = pytest.mark.embedded

_PATIENCE_S = 60.0


def connect(
    broker: EmbeddedBroker, *, fail_mode: FailMode = "closed", flush_ms: float = 3_000
) -> Watchkeeper:
    return Watchkeeper(
        bootstrap=broker.address,
        agent="shop",
        keys=KEYS,
        fail_mode=fail_mode,
        heard_within_ms=2_000,
        flush_ms=flush_ms,
        clock=lambda: NOW_MS,
    )


async def command(broker: EmbeddedBroker, *values: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=broker.address)
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topics.CONTROL, value, key=b"default/shop")
    finally:
        await producer.stop()


async def read(broker: EmbeddedBroker, topic: str, count: int) -> list[bytes]:
    """The first ``count`` values of a topic, waiting for them."""
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    consumer = AIOKafkaConsumer(bootstrap_servers=broker.address, auto_offset_reset="earliest")
    consumer.assign(partitions)
    await consumer.start()
    try:
        await consumer.seek_to_beginning(*partitions)
        async with asyncio.timeout(_PATIENCE_S):
            return [(await consumer.getone()).value or b"" for _ in range(count)]
    finally:
        await consumer.stop()


def acks(broker: EmbeddedBroker, count: int) -> list[ControlAck]:
    return [CONTROL_ACK.validate_json(value) for value in asyncio.run(read(broker, topics.ACKS, count))]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


async def until_async(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(until, condition)


def shop_until_halted(watchkeeper: Watchkeeper, broker: EmbeddedBroker) -> None:
    with watchkeeper.session("s1", goal_name="buy") as session:
        watchkeeper.gate.check(tool="search")
        session.tool_call("search", {"q": "shoes"}, result=[1, 2])
        asyncio.run(command(broker, raw(fields())))
        until(lambda: not watchkeeper.gate.allowed(tool="search").allowed)
        watchkeeper.gate.check(tool="search")


def test_synchronous_code_publishes_and_obeys(start_broker: Callable[[], EmbeddedBroker]) -> None:
    broker = start_broker()
    with connect(broker) as watchkeeper:
        assert watchkeeper.wait_heard(_PATIENCE_S)
        with pytest.raises(Halted):
            shop_until_halted(watchkeeper, broker)
    assert watchkeeper.dropped == 0
    events = [AGENT_EVENT.validate_json(value) for value in asyncio.run(read(broker, topics.EVENTS, 4))]
    assert [event.type for event in events] == ["session.start", "tool.call", "heartbeat", "session.end"]
    assert [(ack.result, ack.agent, ack.epoch) for ack in acks(broker, 1)] == [("applied", "shop", 1)]


async def test_asynchronous_code_publishes_and_obeys(start_broker: Callable[[], EmbeddedBroker]) -> None:
    broker = await asyncio.to_thread(start_broker)
    async with connect(broker) as watchkeeper:
        assert await watchkeeper.wait_heard_async(_PATIENCE_S)

        @watchkeeper.gate.guard
        async def search(query: str) -> str:
            return query

        async with watchkeeper.session("s1"):
            assert await search("shoes") == "shoes"
            await command(broker, raw(fields(session="s1")))
            await until_async(lambda: not watchkeeper.gate.allowed(session="s1").allowed)
            with pytest.raises(Halted):
                await search("shoes")
            assert watchkeeper.gate.allowed(session="s2").allowed
            await command(broker, raw(fields(session="s1", epoch=2, mode="run"), OPERATOR))
            await until_async(lambda: watchkeeper.gate.allowed(session="s1").allowed)
    events = [AGENT_EVENT.validate_json(value).type for value in await read(broker, topics.EVENTS, 2)]
    assert events[0] == "session.start"


def test_a_forged_halt_is_refused_and_reported_and_others_commands_are_left_alone(
    start_broker: Callable[[], EmbeddedBroker],
) -> None:
    broker = start_broker()
    asyncio.run(
        command(
            broker, raw(fields(), STRANGER), b"junk", raw(fields(agent="other")), raw(fields(session="x"))
        )
    )
    with connect(broker) as watchkeeper:
        assert watchkeeper.wait_heard(_PATIENCE_S)
        assert watchkeeper.gate.check(session="s").allowed
    found = {(ack.result, (ack.reason or "").split(":")[0], ack.session) for ack in acks(broker, 3)}
    assert found == {("refused", "unknown_key", None), ("refused", "malformed", None), ("applied", "", "x")}


def test_closed_denies_when_the_broker_dies_and_open_keeps_what_it_knows(
    start_broker: Callable[[], EmbeddedBroker],
) -> None:
    broker = start_broker()
    asyncio.run(command(broker, raw(fields(session="stopped"))))
    with connect(broker, flush_ms=200) as closed, connect(broker, fail_mode="open", flush_ms=200) as opened:
        assert closed.wait_heard(_PATIENCE_S)
        assert opened.wait_heard(_PATIENCE_S)
        assert closed.gate.allowed(session="s").allowed
        broker.stop()
        until(lambda: closed.gate.allowed(session="s").denied == "unheard")
        assert opened.gate.allowed(session="s").allowed
        assert opened.gate.allowed(session="stopped").denied == "halt"
        closed.session("s").heartbeat()
    assert closed.dropped > 0


def test_without_a_broker_nothing_blocks_and_closed_denies() -> None:
    with Watchkeeper(
        bootstrap="127.0.0.1:1", agent="shop", keys=KEYS, fail_mode="closed", flush_ms=100
    ) as watchkeeper:
        watchkeeper.session("s").heartbeat()
        assert watchkeeper.gate.allowed().denied == "unheard"
    assert watchkeeper.dropped > 0


def test_a_broker_that_comes_back_empty_is_heard_again(start_broker: Callable[[], EmbeddedBroker]) -> None:
    broker = start_broker()
    with connect(broker) as watchkeeper:
        assert watchkeeper.wait_heard(_PATIENCE_S)
        broker.stop()
        until(lambda: not watchkeeper.gate.hearing)
        broker.start()
        asyncio.run(create_topics(broker.address))
        until(lambda: watchkeeper.gate.hearing)
        asyncio.run(command(broker, raw(fields(epoch=2))))
        until(lambda: watchkeeper.gate.allowed().denied == "halt")
