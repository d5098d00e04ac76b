"""Outputs and changelogs on Kafka: what `streams.checkpoint` writes through, and what it reads back."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.checkpoint import CLAIM_EPOCH, MARKER_KEY, Entry, Stored, live_state
from streams.stage import Output
from streams.transport import ClientSettings

__all__ = ["BrokerClock", "KafkaChangelog", "KafkaOutlet", "changelog_topic", "read_state", "stop_consumer"]

# aiokafka has no types.
_Consumer: Any = AIOKafkaConsumer
ProducerClient = Any

# Appended-at times tell the broker's clock. The compaction lag keeps claims, and what a zombie overwrote,
# until the owner has repaired it; the owner writes at least once a minute.
TOPIC_CONFIG = {
    "cleanup.policy": "compact",
    "message.timestamp.type": "LogAppendTime",
    "min.compaction.lag.ms": str(60 * 60 * 1000),
    "segment.bytes": str(64 << 20),
    "min.cleanable.dirty.ratio": "0.2",
}

_EPOCH_HEADER = "epoch"
_READ_RECORDS = 5_000
_READ_BYTES = 4 << 20


def changelog_topic(group_id: str, stage: str) -> str:
    return f"{group_id}-{stage}-changelog"


class BrokerClock:
    """The broker's clock, as far as appended-at times have told it; this machine's until then."""

    def __init__(self) -> None:
        self._ahead_ms = 0

    def told(self, broker_ms: int) -> None:
        self._ahead_ms = broker_ms - _machine_ms()

    def now_ms(self) -> int:
        return _machine_ms() + self._ahead_ms


class KafkaOutlet:
    """Outputs → their topics."""

    def __init__(self, producer: Callable[[], ProducerClient]) -> None:
        self._producer = producer

    async def send(self, output: Output) -> Awaitable[object]:
        topic, key, value, timestamp_ms, partition = output
        delivery: Awaitable[object] = await self._producer().send(
            topic, value, key=key, partition=partition, timestamp_ms=timestamp_ms
        )
        return delivery


class KafkaChangelog:
    """One partition of a changelog topic."""

    def __init__(
        self,
        producer: Callable[[], ProducerClient],
        settings: ClientSettings,
        topic: str,
        partition: int,
        clock: BrokerClock,
    ) -> None:
        self._producer = producer
        self._settings = settings
        self._topic = topic
        self._partition = partition
        self._clock = clock

    async def append(self, entries: Sequence[Entry]) -> Sequence[range]:
        producer = self._producer()
        sent: list[tuple[int, Awaitable[Any]]] = []
        batch, count = producer.create_batch(), 0
        for entry in entries:
            epoch = [(_EPOCH_HEADER, str(entry.epoch).encode())]
            fields = {"key": entry.key, "value": entry.value, "timestamp": None, "headers": epoch}
            if batch.append(**fields) is None:
                sent.append((count, await self._send(producer, batch)))
                batch, count = producer.create_batch(), 0
                batch.append(**fields)
            count += 1
        sent.append((count, await self._send(producer, batch)))
        return [await self._delivered(count, delivery) for count, delivery in sent]

    def read(self, start: int, stop: int) -> AsyncGenerator[Sequence[Stored], None]:
        return _read(self._settings, self._topic, self._partition, start, stop)

    async def _send(self, producer: ProducerClient, batch: object) -> Awaitable[object]:
        delivery: Awaitable[object] = await producer.send_batch(batch, self._topic, partition=self._partition)
        return delivery

    async def _delivered(self, count: int, delivery: Awaitable[Any]) -> range:
        metadata = await delivery
        if metadata.timestamp is not None and metadata.timestamp > 0:
            self._clock.told(metadata.timestamp)
        return range(metadata.offset, metadata.offset + count)


class ReadStalledError(Exception):
    """Records that must be in a topic do not arrive."""


async def _read(
    settings: ClientSettings, topic: str, partition: int, start: int, stop: int
) -> AsyncGenerator[Sequence[Stored], None]:
    if start >= stop:
        return
    consumer = _Consumer(
        **settings.connection(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",  # also for a start that retention or compaction has removed
        max_partition_fetch_bytes=_READ_BYTES,
        fetch_max_wait_ms=100,
    )
    await consumer.start()
    try:
        source = TopicPartition(topic, partition)
        consumer.assign([source])
        consumer.seek(source, start)
        last_progress = time.monotonic()
        while await consumer.position(source) < stop:
            records = (await consumer.getmany(timeout_ms=500, max_records=_READ_RECORDS)).get(source, [])
            if records:
                last_progress = time.monotonic()
                yield [
                    Stored(record.offset, record.key, record.value, _epoch(record.headers))
                    for record in records
                    if record.offset < stop
                ]
            elif time.monotonic() - last_progress > settings.request_timeout_ms / 1000:
                raise ReadStalledError(f"{topic}[{partition}] gives nothing up to offset {stop}")
    finally:
        await stop_consumer(consumer)


async def stop_consumer(consumer: Any) -> None:
    """aiokafka cancels tasks of its own when it stops; of a young one the cancellation escapes."""
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise


def _epoch(headers: Sequence[tuple[str, bytes]]) -> int:
    for name, value in headers:
        if name == _EPOCH_HEADER:
            return int(value)
    return CLAIM_EPOCH


class _ReadOnly:
    """A changelog partition for an onlooker."""

    def __init__(self, settings: ClientSettings, topic: str, partition: int) -> None:
        self._source = settings, topic, partition

    async def append(self, entries: Sequence[Entry]) -> Sequence[range]:
        raise PermissionError("an onlooker does not write")

    def read(self, start: int, stop: int) -> AsyncGenerator[Sequence[Stored], None]:
        return _read(*self._source, start, stop)


async def read_state(settings: ClientSettings, topic: str) -> dict[int, dict[bytes, bytes]]:
    """What a changelog topic holds: the live keys of each partition, without markers. For tests and tools."""
    consumer = _Consumer(**settings.connection())
    await consumer.start()
    try:
        await consumer._client._wait_on_metadata(topic)
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        ends = await consumer.end_offsets(partitions)
    finally:
        await stop_consumer(consumer)
    state = {}
    for source, end in ends.items():
        live, _ = await live_state(_ReadOnly(settings, topic, source.partition), end)
        live.pop(MARKER_KEY, None)
        state[source.partition] = live
    return state


def _machine_ms() -> int:
    return time.time_ns() // 1_000_000
