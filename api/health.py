"""agent.health → the newest health of every agent, for whoever shows it.

The topic is compacted and small, so it is read whole, without a group, from its beginning.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from schemas.health import HEALTH, AgentHealth
from schemas.topics import HEALTH as HEALTH_TOPIC

# aiokafka has no types.
_Consumer: Any = AIOKafkaConsumer

_POLL_MS: Final = 500
_RETRY_S: Final = 1.0

log = logging.getLogger(__name__)


class HealthBoard:
    """The newest of every agent, by record."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str], AgentHealth] = {}

    def take(self, value: bytes | None) -> None:
        """Takes a record's value; one that cannot be read, or is older than what is known, is passed over."""
        try:
            health = HEALTH.validate_json(value or b"")
        except ValidationError as error:
            log.warning("a record of %s cannot be read: %s", HEALTH_TOPIC, error.errors()[0]["msg"])
            return
        known = self._newest.get((health.tenant, health.agent))
        if known is None or known.time <= health.time:
            self._newest[health.tenant, health.agent] = health

    def all(self) -> dict[tuple[str, str], AgentHealth]:
        """By tenant and agent."""
        return dict(self._newest)


async def follow(board: HealthBoard, options: Mapping[str, Any]) -> None:
    """Keeps the board up to date until cancelled; starts over whenever the broker was lost.

    Args:
        options: for the Kafka client.
    """
    while True:
        try:
            async with _consumer(options) as consumer:
                async for record in consumer:
                    board.take(record.value)
        except (KafkaError, OSError) as error:
            log.warning("cannot read %s (%s): trying again", HEALTH_TOPIC, type(error).__name__)
        await asyncio.sleep(_RETRY_S)


async def read(options: Mapping[str, Any]) -> HealthBoard:
    """What the topic holds now.

    Raises:
        KafkaError: no broker, or no such topic.
    """
    board = HealthBoard()
    async with _consumer(options) as consumer:
        parts = sorted(consumer.assignment())
        ends = await consumer.end_offsets(parts)
        # Some brokers report ends too low: a fetch that brings nothing is the proof.
        while (batches := await consumer.getmany(timeout_ms=_POLL_MS)) or any(
            [await consumer.position(part) < ends[part] for part in parts]
        ):
            for batch in batches.values():
                for record in batch:
                    board.take(record.value)
    return board


@contextlib.asynccontextmanager
async def _consumer(options: Mapping[str, Any]) -> AsyncIterator[Any]:
    # Named from the start: Apache Kafka tells a consumer without topics of none.
    consumer = _Consumer(
        HEALTH_TOPIC, **options, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()
