"""The broker of the reliability tests: the contract's topics, emptied or made anew for every run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import KafkaError

from config.settings import KafkaSettings
from schemas import topics
from streams.admin import create_topics
from tests.integration.parts.kafka import KafkaBroker
from tests.integration.parts.kafka_client import run_apart
from tests.reliability.workload import PARTITIONS, Record, Workload

DERIVED = (topics.WINDOWS, topics.DETECTIONS, topics.DEAD)
LEARNED = (topics.PROFILES, topics.HEALTH)
"""What is compacted cannot be emptied, only made anew: one run must not know what another has learned."""
_EVERYTHING = -1
_LEADER_TIMEOUT_S = 15.0


class Bus:
    """`load` puts traffic on `agent.events`, always at offset 0, and empties what is derived from it.

    The contract fixes the topics' names, so one run at a time uses them; a group of its own tells its state.
    """

    def __init__(self, broker: KafkaBroker) -> None:
        self.broker = broker
        self._loaded: tuple[Record, ...] | None = None
        self.make_topics()

    def make_topics(self, partitions: int = PARTITIONS) -> None:
        settings = KafkaSettings(bootstrap=self.broker.bootstrap, partitions=partitions)
        run_apart(create_topics(settings))
        _until(lambda: self.broker.topics().issuperset(topics.BY_NAME))

    def drop(self, *names: str) -> None:
        """Returns when the broker tells of none of them: until then they would not be made anew."""
        for name in names:
            self.broker.delete_topic(name)
        _until(lambda: self.broker.topics().isdisjoint(names))

    def load(self, traffic: Workload | Iterable[Record]) -> None:
        """The traffic that is there already is left: state holds offsets, and these stay the same."""
        records = traffic.records if isinstance(traffic, Workload) else tuple(traffic)
        stale = LEARNED if records is self._loaded else (*LEARNED, topics.EVENTS)
        run_apart(self._empty(DERIVED))
        self.drop(*stale)
        self.make_topics()
        if topics.EVENTS in stale:
            self._loaded = None
            run_apart(self._produce(records))
            self._loaded = records

    def empty(self, *names: str) -> None:
        """What is in these topics goes; offsets go on."""
        run_apart(self._empty(names))

    def read_by(self, group: str, topic: str) -> None:
        """Has the group commit all there is in the topic, as if it had read it."""
        run_apart(self._commit(group, topic))

    async def _commit(self, group: str, topic: str) -> None:
        consumer: Any = AIOKafkaConsumer(
            bootstrap_servers=self.broker.bootstrap, group_id=group, enable_auto_commit=False
        )
        await consumer.start()
        try:
            parts = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
            consumer.assign(parts)
            await consumer.commit(await consumer.end_offsets(parts))
        finally:
            await consumer.stop()

    def ends(self, topic: str) -> dict[int, int]:
        return self.broker.end_offsets(topic)

    def values(self, topic: str) -> list[bytes]:
        """All values in the topic now, by partition and offset."""
        return [record.value or b"" for record in self.broker.records(topic)]

    async def _empty(self, names: Iterable[str]) -> None:
        admin: Any = AIOKafkaAdminClient(bootstrap_servers=self.broker.bootstrap)
        await admin.start()
        everything = {
            TopicPartition(name, partition): RecordsToDelete(_EVERYTHING)
            for name in names
            for partition in range(PARTITIONS)
        }
        try:
            async with asyncio.timeout(_LEADER_TIMEOUT_S):
                while not await _deleted(admin, everything):  # noqa: ASYNC110 - the broker tells nobody
                    await asyncio.sleep(0.05)
        finally:
            await admin.close()

    async def _produce(self, records: Iterable[Record]) -> None:
        """One after the other within a partition, so that offsets are the same each time."""
        producer: Any = AIOKafkaProducer(
            bootstrap_servers=self.broker.bootstrap, enable_idempotence=True, linger_ms=5
        )
        await producer.start()
        try:
            sent = [await producer.send(topics.EVENTS, record.value, key=record.key) for record in records]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LEADER_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "the broker's topics are not as they were asked for"
        time.sleep(0.05)


async def _deleted(admin: Any, records: dict[TopicPartition, RecordsToDelete]) -> bool:
    """False while the leaders of a new topic are still to come."""
    try:
        await admin.delete_records(records)
    except KafkaError as error:
        if not error.retriable:
            raise
        return False
    return True
