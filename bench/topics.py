"""Topics for a run: create, fill with the workload, read back what a side has found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code

from bench.reference import Work
from bench.workload import Made
from detectors import windows
from schemas.detection import DETECTION

BATCH_BYTES = 256 * 1024
CONFIG = {"retention.ms": str(7 * 24 * 3600 * 1000), "cleanup.policy": "delete"}
_IN_FLIGHT = 8
_LEADERS_TIMEOUT_S = 15.0
_READ_TIMEOUT_S = 60.0


class BenchError(Exception):
    """The run is worth nothing; the message says why."""


async def create(bootstrap: str, names: Sequence[str], partitions: int) -> None:
    """Creates topics that do not exist yet.

    Raises:
        BenchError: the broker refuses.
    """
    admin: Any = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        answer = await admin.create_topics(
            [NewTopic(name, partitions, 1, topic_configs=CONFIG) for name in names]
        )
        for name, code, *_ in answer.topic_errors:
            if code:
                raise BenchError(f"the broker refused to create {name}: {for_code(code).__name__}")
        async with asyncio.timeout(_LEADERS_TIMEOUT_S):
            # The broker has no call that waits for leaders.
            while not await _all_led(admin, list(names)):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        await admin.close()


async def _all_led(admin: Any, names: list[str]) -> bool:
    described = await admin.describe_topics(names)
    return all(partition["leader"] >= 0 for topic in described for partition in topic["partitions"])


async def fill(bootstrap: str, topic: str, records: Iterable[Made], progress: Callable[[int], None]) -> None:
    """Produces the records in their order, uncompressed, with their own timestamps."""
    producer: Any = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_batch_size=BATCH_BYTES)
    await producer.start()
    batches: dict[int, Any] = {}
    sent: list[Any] = []

    async def send(partition: int) -> None:
        sent.append(await producer.send_batch(batches.pop(partition), topic, partition=partition))
        while len(sent) > _IN_FLIGHT:
            await sent.pop(0)

    try:
        for number, record in enumerate(records, 1):
            for _ in range(2):
                batch = batches.setdefault(record.partition, producer.create_batch())
                if batch.append(key=record.key, value=record.value, timestamp=record.time_ms) is not None:
                    break
                await send(record.partition)
            if number % 5_000 == 0:
                progress(number)
        for partition in list(batches):
            await send(partition)
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def found(bootstrap: str, detections_topic: str, windows_topic: str) -> Work:
    """What a side has written to its topics."""
    work = Work()
    async for value in _values(bootstrap, detections_topic):
        work.note(DETECTION.validate_json(value))
    async for value in _values(bootstrap, windows_topic):
        work.note(windows.decode(value))
    return work


async def _values(bootstrap: str, topic: str) -> Any:
    consumer: Any = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        async with asyncio.timeout(_READ_TIMEOUT_S):
            for partition, end in ends.items():
                while await consumer.position(partition) < end:
                    for records in (await consumer.getmany(timeout_ms=200)).values():
                        for record in records:
                            yield record.value
    finally:
        await consumer.stop()
