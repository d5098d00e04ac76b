"""The embedded broker for the client's tests, with the topics a client uses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from cli.broker import EmbeddedBroker
from schemas import topics

PARTITIONS = 2


@pytest.fixture
def start_broker(tmp_path: Path) -> Iterator[Callable[[], EmbeddedBroker]]:
    """Starts a broker of the test's own, with topics; what is left running is stopped after the test."""
    brokers: list[EmbeddedBroker] = []

    def start() -> EmbeddedBroker:
        broker = EmbeddedBroker(tmp_path)
        brokers.append(broker)
        broker.start()
        asyncio.run(create_topics(broker.address))
        return broker

    yield start
    for broker in brokers:
        broker.stop()


async def create_topics(bootstrap: str) -> None:
    """What a client needs of the contract's topics."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        names = (topics.EVENTS, topics.CONTROL, topics.ACKS)
        await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
    finally:
        await admin.close()
