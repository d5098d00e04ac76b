"""agent.windows, agent.events → what an agent or a session did, read back for a picture.

Bounded in records and seconds, whatever is on the bus: a picture is worth a look, not a delay.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.partitioner import DefaultPartitioner
from pydantic import TypeAdapter, ValidationError

from detectors.windows import Window, decode
from schemas import topics
from schemas.base import epoch_ms
from schemas.control import EVERY_AGENT
from schemas.detection import Detection
from schemas.event import AgentEvent

MOST_RECORDS: Final = 20_000
STRIPS: Final = 40
"""Of a longer stretch than that, so many shorter ones are read, evenly spread."""
WITHIN_S: Final = 8.0
BEFORE: Final = 2_000
"""Records before the first of the evidence: how the session began."""
LEAST_MS: Final = 10 * 60_000
LONGEST_MS: Final = 14 * 86_400_000
_POLL_MS: Final = 200
_BATCH: Final = 2_000
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:-]+")
_EVENTS: Final[TypeAdapter[list[AgentEvent] | AgentEvent]] = TypeAdapter(list[AgentEvent] | AgentEvent)

# aiokafka has no types.
_Consumer: Any = AIOKafkaConsumer
_Partition: Any = TopicPartition
_partition_of: Any = DefaultPartitioner()


async def windows(options: Mapping[str, Any], detection: Detection) -> list[Window]:
    """The agent's windows from well before the onset until now, at most so many; the fleet's when the
    detection is about one.

    Args:
        options: for the Kafka client.

    Raises:
        KafkaError: no broker, or no such topic.
    """
    since_ms = _since_ms(detection)
    fleet = detection.agent == EVERY_AGENT
    key = detection.tenant.encode() if fleet else topics.agent_key(detection.tenant, detection.agent)
    found: list[Window] = []
    async with _consumer(options, topics.WINDOWS) as consumer:
        parts = sorted(part.partition for part in consumer.assignment())
        part = _Partition(topics.WINDOWS, _partition_of(key, parts, parts))
        start = await _offset_at(consumer, part, since_ms)
        async for record in _read(consumer, part, start):
            if record.key == key:
                found += _windows_in(record.value, since_ms)
    return found


async def session(options: Mapping[str, Any], detection: Detection) -> list[AgentEvent]:
    """The events of the detection's session around its evidence and until now, in order, at most so many.

    Args:
        options: for the Kafka client.

    Raises:
        KafkaError: no broker, or no such topic.
    """
    found: dict[str, AgentEvent] = {}
    places = [place for place in detection.evidence.ranges if place.topic == topics.EVENTS]
    if detection.session is None or not places:
        return []
    async with _consumer(options, topics.EVENTS) as consumer:
        part = _Partition(topics.EVENTS, places[0].partition)
        (first,) = (await consumer.beginning_offsets([part])).values()
        start = max(first, min(place.from_offset for place in places) - BEFORE)
        async for record in _read(consumer, part, start, whole=True):
            for event in _events_in(record.value, detection.session):
                if event.session == detection.session and event.tenant == detection.tenant:
                    found.setdefault(event.event_id, event)
    return list(found.values())


def _since_ms(detection: Detection) -> float:
    """As long again before the onset as the failure took to be noticed, twice, within reason."""
    onset_ms, noticed_ms = epoch_ms(detection.onset), epoch_ms(detection.time)
    return onset_ms - min(max(2 * (noticed_ms - onset_ms), LEAST_MS), LONGEST_MS)


async def _offset_at(consumer: Any, part: Any, time_ms: float) -> int:
    """The first record that came at this time or later; the first of all when none did."""
    found = (await consumer.offsets_for_times({part: int(time_ms)}))[part]
    if found is not None:
        return int(found.offset)
    (first,) = (await consumer.beginning_offsets([part])).values()
    return int(first)


async def _read(consumer: Any, part: Any, start: int, *, whole: bool = False) -> AsyncIterator[Any]:
    """The records from an offset on; of more than can be read the first (``whole``) or evenly spread ones."""
    (end,) = (await consumer.end_offsets([part])).values()
    length = max(end - start, 0)
    strips = [(start, MOST_RECORDS)]
    if length > MOST_RECORDS and not whole:
        strips = [(start + length * each // STRIPS, MOST_RECORDS // STRIPS) for each in range(STRIPS)]
    consumer.pause(*(other for other in consumer.assignment() if other != part))
    deadline = asyncio.get_running_loop().time() + WITHIN_S
    for offset, most in strips:
        consumer.seek(part, offset)
        left = most
        while left > 0 and asyncio.get_running_loop().time() < deadline:
            batches = await consumer.getmany(part, timeout_ms=_POLL_MS, max_records=min(left, _BATCH))
            records = [record for batch in batches.values() for record in batch]
            if not records and await consumer.position(part) >= end:
                break
            left -= len(records)
            for record in records:
                yield record


def _windows_in(value: bytes | None, since_ms: float) -> Iterator[Window]:
    """The window of a record; none where something else shares its key."""
    with contextlib.suppress(msgspec.DecodeError):
        record = decode(value or b"")
        if isinstance(record, Window) and record.end_ms >= since_ms:
            yield record


def _events_in(value: bytes | None, session_id: str) -> list[AgentEvent]:
    """The events of a record that may be the session's; none of one that cannot be read."""
    if value is None or (_PLAIN.fullmatch(session_id) and session_id.encode() not in value):
        return []
    try:
        events = _EVENTS.validate_json(value)
    except ValidationError:
        return []
    return events if isinstance(events, list) else [events]


@contextlib.asynccontextmanager
async def _consumer(options: Mapping[str, Any], topic: str) -> AsyncIterator[Any]:
    consumer = _Consumer(
        topic, **options, group_id=None, enable_auto_commit=False, fetch_max_wait_ms=_POLL_MS // 2
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()
