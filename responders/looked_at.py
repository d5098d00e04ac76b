"""Until when everything that agents did has been looked at: what they published, the stream worker has read
and committed, and what it found, a responder has decided about.

Only then does it mean something that nothing was heard of an agent that was ordered to stop. While the worker
is dead, or behind, no order is proved.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from config.kafka import client_options
from config.settings import KafkaSettings
from responders.handle import Responder
from responders.pauses import pause
from schemas import topics

NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
LOOK_EVERY_S: Final = 1.0
AGAIN_S: Final = 0.25
DOUBT_S: Final = 10.0
"""One so long behind by offsets is asked for a record: the end of a transaction has an offset and is none."""
_READ_MS: Final = 1_000

# aiokafka has no types.
_Admin: Any = AIOKafkaAdminClient
_Consumer: Any = AIOKafkaConsumer
_log = structlog.get_logger(__name__)


def groups(kafka: KafkaSettings) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Who reads which topics, in the order in which what agents do passes them."""
    stream = f"{kafka.group_prefix}-stream"
    return (
        (stream, (topics.OTLP_SPANS, topics.OTLP_LOGS)),
        (stream, (topics.EVENTS,)),
        (f"{kafka.group_prefix}-responder-{topics.DETECTIONS}", (topics.DETECTIONS,)),
    )


async def follow(stop: asyncio.Event, kafka: KafkaSettings, responder: Responder) -> None:
    """Keep the responder's `looked_at_until` up to date until ``stop``. A broker that does not answer leaves
    it where it was.
    """
    said = ""
    while not stop.is_set():
        try:
            async with _asking(kafka) as steps:
                while not stop.is_set():
                    began = responder.clock()
                    for step in steps:
                        await step.wait(stop)
                    if not stop.is_set():
                        responder.looked_at_until, said = began, ""
                    await pause(stop, LOOK_EVERY_S)
        except KafkaError as error:
            if type(error).__name__ != said:
                said = type(error).__name__
                _log.warning(
                    "no order can be proved: the broker does not say what has been read", reason=said
                )
            await pause(stop, LOOK_EVERY_S)


class _Step:
    """A group and the topics it reads. ``consumer`` asks as one of the group would, and never joins it."""

    def __init__(self, admin: Any, consumer: Any, names: tuple[str, ...]) -> None:
        self._admin = admin
        self._consumer = consumer
        self._names = names
        self._counts: dict[str, int] = {}

    async def wait(self, stop: asyncio.Event) -> None:
        """Until the group has committed all there is in the topics now."""
        parts = await self._partitions()
        if not parts:
            return
        begins: Mapping[TopicPartition, int] = await self._consumer.beginning_offsets(parts)
        behind: Mapping[TopicPartition, int] = await self._consumer.end_offsets(parts)
        began = time.monotonic()
        while not stop.is_set():
            read = await asyncio.gather(*(self._consumer.committed(part) for part in behind))
            at = {part: max(offset or 0, begins[part]) for part, offset in zip(behind, read, strict=True)}
            behind = {part: end for part, end in behind.items() if at[part] < end}
            if behind and time.monotonic() - began >= DOUBT_S:
                ends = await self._consumer.end_offsets(list(behind))  # a topic may have been made anew
                behind = {part: min(end, ends[part]) for part, end in behind.items()}
                behind = {part: end for part, end in behind.items() if await self._is_left(part, at[part])}
            if not behind:
                return
            await pause(stop, AGAIN_S)

    async def _partitions(self) -> list[TopicPartition]:
        """Of the topics that there are; one that nobody made has nothing in it."""
        if len(self._counts) < len(self._names):
            described = await self._admin.describe_topics()
            counts = {topic["topic"]: len(topic["partitions"]) for topic in described}
            self._counts = {name: counts[name] for name in self._names if name in counts}
        return [
            TopicPartition(name, number) for name, count in self._counts.items() for number in range(count)
        ]

    async def _is_left(self, part: TopicPartition, offset: int) -> bool:
        """Whether there is a record from the offset on."""
        self._consumer.assign([part])
        self._consumer.seek(part, offset)
        return bool(await self._consumer.getmany(part, timeout_ms=_READ_MS, max_records=1))


@asynccontextmanager
async def _asking(kafka: KafkaSettings) -> AsyncIterator[list[_Step]]:
    options = client_options(kafka)
    clients: list[Any] = [_Admin(**options)]
    steps = []
    for group, names in groups(kafka):
        consumer = _Consumer(
            group_id=group, enable_auto_commit=False, auto_offset_reset="earliest", **options
        )
        clients.append(consumer)
        steps.append(_Step(clients[0], consumer, names))
    started: list[Any] = []
    try:
        for client in clients:
            started.append(client)
            await client.start()
        yield steps
    finally:
        for client in started:
            await (client.close() if client is clients[0] else client.stop())
