"""A Kafka that runs somewhere, and the few questions tests ask it: plain calls, also inside an event loop."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code

from tests.integration.parts.process import PartError

T = TypeVar("T")

Pair = tuple[bytes | None, bytes | None]

_REQUEST_TIMEOUT_MS = 10_000
_RETRY_BACKOFF_MS = 20


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result, from an event loop of its own: a test may be inside one already."""
    results: list[T] = []
    failures: list[BaseException] = []

    def target() -> None:
        try:
            results.append(asyncio.run(work))
        except BaseException as failure:  # noqa: BLE001 - handed to the caller as it is, on the caller's thread
            failures.append(failure)

    thread = threading.Thread(target=target, name="kafka-question")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


class Kafka:
    """The broker at `bootstrap`."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def ping(self) -> None:
        """One real admin request: KafkaError when the broker does not answer it."""
        run_apart(self._ping())

    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        config: Mapping[str, str] | None = None,
        *,
        timeout_s: float = 15.0,
    ) -> None:
        """Returns when every partition's leader serves it, so that the first produce is not tried again."""
        run_apart(self._create_topic(name, partitions, dict(config or {}), timeout_s))

    def new_topic(
        self, stem: str = "test", partitions: int = 1, config: Mapping[str, str] | None = None
    ) -> str:
        """Creates a topic whose name nobody else uses; returns the name."""
        name = f"{stem}-{uuid.uuid4().hex[:12]}"
        self.create_topic(name, partitions, config)
        return name

    def delete_topic(self, name: str) -> None:
        run_apart(self._delete_topic(name))

    def topics(self) -> set[str]:
        return run_apart(self._topics())

    def end_offsets(self, topic: str) -> dict[int, int]:
        """Partition to the offset the next record gets."""
        return run_apart(self._end_offsets(topic))

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Partition to the group's committed offset; partitions without one are left out."""
        return run_apart(self._committed(group, topic))

    def produce(self, topic: str, pairs: Iterable[Pair], *, partition: int | None = None) -> None:
        """Returns when the broker has acknowledged every (key, value)."""
        run_apart(self._produce(topic, list(pairs), partition))

    def records(self, topic: str, *, timeout_s: float = 30.0) -> list[ConsumerRecord[bytes, bytes]]:
        """All that is in the topic now, by partition and offset."""
        return run_apart(self._records(topic, timeout_s))

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=_REQUEST_TIMEOUT_MS)
        try:
            await admin.start()
            yield admin
        finally:
            await admin.close()

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, enable_auto_commit=False, retry_backoff_ms=_RETRY_BACKOFF_MS
        )
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()

    async def _ping(self) -> None:
        async with self._admin() as admin:
            cluster = await admin.describe_cluster()
        if not cluster["brokers"]:
            raise KafkaError(f"{self.bootstrap} answers but no broker is registered")

    async def _create_topic(
        self, name: str, partitions: int, config: dict[str, str], timeout_s: float
    ) -> None:
        async with self._admin() as admin:
            topic = NewTopic(name, num_partitions=partitions, replication_factor=1, topic_configs=config)
            _raise_errors((await admin.create_topics([topic])).to_object()["topic_errors"])
        async with asyncio.timeout(timeout_s):
            # The broker has no call that waits for leaders.
            while not await self._all_led(name, partitions):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            # A named leader may not have opened its log yet; it answers this only when it has.
            await self._end_offsets(name)

    async def _all_led(self, topic: str, partitions: int) -> bool:
        async with self._admin() as admin:
            (described,) = await admin.describe_topics([topic])
        return (
            len([partition for partition in described["partitions"] if partition["leader"] >= 0])
            == partitions
        )

    async def _delete_topic(self, name: str) -> None:
        async with self._admin() as admin:
            _raise_errors((await admin.delete_topics([name])).to_object()["topic_error_codes"])

    async def _topics(self) -> set[str]:
        async with self._admin() as admin:
            return set(await admin.list_topics())

    async def _end_offsets(self, topic: str) -> dict[int, int]:
        async with self._consumer() as consumer:
            partitions = await self._partitions(topic)
            ends = await consumer.end_offsets(partitions)
        return {partition.partition: offset for partition, offset in ends.items()}

    async def _committed(self, group: str, topic: str) -> dict[int, int]:
        async with self._admin() as admin:
            offsets = await _patiently(lambda: admin.list_consumer_group_offsets(group))
        return {
            at.partition: meta.offset
            for at, meta in offsets.items()
            if at.topic == topic and meta.offset >= 0
        }

    async def _produce(self, topic: str, pairs: list[Pair], partition: int | None) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, acks="all", enable_idempotence=True)
        try:
            await producer.start()
            sent = [await producer.send(topic, value, key=key, partition=partition) for key, value in pairs]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    async def _records(self, topic: str, timeout_s: float) -> list[ConsumerRecord[bytes, bytes]]:
        ends = {
            TopicPartition(topic, number): end for number, end in (await self._end_offsets(topic)).items()
        }
        found: list[ConsumerRecord[bytes, bytes]] = []
        async with self._consumer() as consumer:
            consumer.assign(list(ends))
            await consumer.seek_to_beginning()
            async with asyncio.timeout(timeout_s):
                for partition, end in ends.items():
                    # Positions, not counts: compaction and transactions leave holes.
                    while await consumer.position(partition) < end:
                        for batch in (await consumer.getmany(timeout_ms=200)).values():
                            found += batch
        wanted = (record for record in found if record.offset < ends[TopicPartition(topic, record.partition)])
        return sorted(wanted, key=lambda record: (record.partition, record.offset))

    async def _partitions(self, topic: str) -> list[TopicPartition]:
        async with self._admin() as admin:
            (described,) = await admin.describe_topics([topic])
        if described["error_code"]:
            raise PartError(f"topic {topic}: {for_code(described['error_code']).__name__}")
        return [TopicPartition(topic, partition["partition"]) for partition in described["partitions"]]


async def _patiently(ask: Callable[[], Awaitable[T]], timeout_s: float = 15.0) -> T:
    """Asks again while the broker is not ready: the first question about groups makes the offsets topic."""
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                return await ask()
            except KafkaError as error:
                if not error.retriable:
                    raise
            await asyncio.sleep(0.05)


def _raise_errors(answers: Iterable[Mapping[str, Any]]) -> None:
    for answer in answers:
        if answer["error_code"]:
            kind = for_code(answer["error_code"]).__name__
            raise PartError(f"topic {answer['topic']}: {kind} {answer.get('error_message') or ''}".rstrip())
