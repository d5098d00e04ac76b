"""Until when everything has been looked at, asked of a real broker: what is committed counts, by everyone in
turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from cli.broker import EmbeddedBroker
from config.settings import KafkaSettings
from responders import looked_at
from responders.handle import Responder
from responders.policy import DEFAULT
from responders.store.event_store import Store
from schemas import topics
from tests.responders.world import START

SOON_S = 60.0
STREAM, RESPONDER = "watchkeeper-stream", f"watchkeeper-responder-{topics.DETECTIONS}"


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    broker = EmbeddedBroker(tmp_path)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(
    params=[
        pytest.param("embedded", marks=pytest.mark.embedded),
        pytest.param("kafka", marks=pytest.mark.kafka),
    ]
)
def bootstrap(request: pytest.FixtureRequest) -> str:
    if request.param == "kafka":
        return str(request.getfixturevalue("kafka_broker").bootstrap)
    return str(request.getfixturevalue("embedded").address)


class Bus:
    """What agents and detectors write, and what who reads it commits."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    async def make(self, *names: str) -> None:
        admin: Any = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(name, 2, 1) for name in names])
        await admin.close()

    async def delete_all(self, topic: str) -> None:
        admin: Any = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        await admin.delete_records({TopicPartition(topic, 1): RecordsToDelete(-1)})
        await admin.close()

    async def write(self, topic: str, **options: Any) -> None:
        producer: Any = AIOKafkaProducer(bootstrap_servers=self.bootstrap, **options)
        await producer.start()
        if "transactional_id" in options:
            async with producer.transaction():
                await producer.send_and_wait(topic, b"{}", partition=1)
        else:
            await producer.send_and_wait(topic, b"{}", partition=1)
        await producer.stop()

    async def commit(self, group: str, topic: str, offset: int) -> None:
        consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=group, enable_auto_commit=False
        )
        consumer.assign([TopicPartition(topic, 1)])
        await consumer.start()
        await consumer.commit({TopicPartition(topic, 1): offset})
        await consumer.stop()


@asynccontextmanager
async def following(bootstrap: str) -> AsyncIterator[Responder]:
    responder, stop = Responder(Store.in_memory(), DEFAULT), asyncio.Event()
    responder.looked_at_until = looked_at.NEVER
    running = asyncio.ensure_future(looked_at.follow(stop, KafkaSettings(bootstrap=bootstrap), responder))
    try:
        yield responder
    finally:
        stop.set()
        await asyncio.wait_for(running, SOON_S)
        responder.store.close()


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.05)


def passed(responder: Responder, when: datetime) -> bool:
    assert responder.looked_at_until is not None
    return responder.looked_at_until >= when


async def test_time_goes_on_only_as_what_was_written_is_read(bootstrap: str) -> None:
    bus = Bus(bootstrap)
    await bus.make(topics.EVENTS, topics.DETECTIONS)  # nobody publishes OpenTelemetry
    async with following(bootstrap) as responder:
        await until(lambda: passed(responder, START))
        for group, topic in ((STREAM, topics.EVENTS), (RESPONDER, topics.DETECTIONS)):
            await bus.write(topic)
            written = responder.clock()
            await asyncio.sleep(3 * looked_at.LOOK_EVERY_S)
            assert not passed(responder, written), topic
            await bus.commit(group, topic, 1)
            await until(lambda written=written: passed(responder, written))  # type: ignore[misc]


@pytest.mark.kafka
async def test_nobody_need_have_read_what_is_there_no_more(
    kafka_broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looked_at, "DOUBT_S", 3_600.0)
    bus = Bus(kafka_broker.bootstrap)
    await bus.make(topics.DETECTIONS)
    await bus.write(topics.DETECTIONS)
    await bus.delete_all(topics.DETECTIONS)
    async with following(kafka_broker.bootstrap) as responder:
        began = responder.clock()
        await until(lambda: passed(responder, began))


@pytest.mark.kafka
async def test_the_end_of_a_transaction_is_nothing_to_be_read(
    kafka_broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looked_at, "DOUBT_S", 1.0)
    bus = Bus(kafka_broker.bootstrap)
    await bus.make(topics.EVENTS)
    await bus.write(topics.EVENTS, transactional_id="agent-1")
    async with following(kafka_broker.bootstrap) as responder:
        written = responder.clock()
        await asyncio.sleep(5)
        assert not passed(responder, written), "one is left"
        await bus.commit(STREAM, topics.EVENTS, 1)
        await until(lambda: passed(responder, written))


@pytest.mark.embedded
async def test_a_broker_that_goes_leaves_time_standing_and_nothing_broken(embedded: EmbeddedBroker) -> None:
    async with following(embedded.address) as responder:
        await until(lambda: passed(responder, START))
        await asyncio.to_thread(embedded.stop)
        gone = responder.clock()
        await asyncio.sleep(3 * looked_at.LOOK_EVERY_S)
        assert not passed(responder, gone)
