"""``agent.control`` → the wanted state, with an acknowledgement of every command on ``agent.control.acks``.

Reads every partition from its beginning, without a group: each process needs all of the topic. Commands for
other agents are passed over; whatever cannot be read, or claims a target this process enforces, is judged by
the register and acknowledged, refused or applied.

Hearing: a partition has been read to its end when a fetch at the present position has come back without
records. The broker's end offsets are only a second opinion, since some brokers report them too low. When
every partition has been so, ``on_heard`` is told how long ago.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from xxhash import xxh3_64_intdigest

from watchkeeper_client.control import CONTROL_TOPIC, Refused, parse
from watchkeeper_client.gate import Clock, monotonic_ms, wall_clock_ms
from watchkeeper_client.outgoing import Record
from watchkeeper_client.wanted import EVERY, WantedState, claimed_target

ACKS_TOPIC: Final = "agent.control.acks"
_POLL_MS = 500
_RETRY_S = 0.5
_STALLED_MS = 15_000.0
_REMEMBERED = 10_000
_CLOSE_S = 1.0

log = logging.getLogger("watchkeeper")


class ControlSubscriber:
    """Keeps a :class:`WantedState` up to date.

    Args:
        state: the register.
        kafka: options for the Kafka client: bootstrap_servers, security_protocol, ….
        send: takes each acknowledgement, as a record; must not block.
        agent, tenant: whose commands concern this process; ``agent=None`` enforces for every agent.
        on_heard: told, each time the end of the topic is confirmed, how many milliseconds ago that was.
        clock: epoch milliseconds.
    """

    def __init__(
        self,
        state: WantedState,
        kafka: Mapping[str, Any],
        *,
        send: Callable[[Record], None],
        agent: str | None = None,
        tenant: str = "default",
        on_heard: Callable[[float], None] = lambda _age_ms: None,
        clock: Clock = wall_clock_ms,
    ) -> None:
        self._state = state
        self._kafka = kafka
        self._send = send
        self._agent = agent
        self._tenant = tenant
        self._on_heard = on_heard
        self._clock = clock
        self._seen: OrderedDict[int, None] = OrderedDict()
        self._rereading = False

    async def run(self) -> None:
        """Reads until cancelled; starts over, from the beginning, whenever the broker was lost."""
        while True:
            try:
                await self._read()
            except (KafkaError, OSError, TimeoutError) as error:
                log.warning("cannot hear control (%s): trying again", error)
            await asyncio.sleep(_RETRY_S)
            self._rereading = True

    async def _read(self) -> None:
        # Named from the start: Apache Kafka tells a consumer without topics of none. Without a group it has
        # all partitions, from their beginning.
        consumer = AIOKafkaConsumer(
            CONTROL_TOPIC,
            **self._kafka,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        try:
            await consumer.start()
            await self._follow(consumer, sorted(consumer.assignment()))
        finally:
            stopping = asyncio.ensure_future(consumer.stop())
            await asyncio.wait({stopping}, timeout=_CLOSE_S)
            stopping.cancel()

    async def _follow(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> None:
        fetched_at_ms = dict.fromkeys(partitions, 0.0)
        """When, by partition, the last fetch that brought records had come in."""
        moved_at_ms = monotonic_ms()
        heard_ms: float | None = None
        while True:
            batches = await consumer.getmany(timeout_ms=_POLL_MS)
            for partition, records in batches.items():
                for record in records:
                    self._take(record)
                    await asyncio.sleep(0)
                fetched_at_ms[partition] = float(consumer.last_poll_timestamp(partition) or 0)
            end_ms = None if batches else await self._end_confirmed(consumer, fetched_at_ms)
            if end_ms is not None and end_ms != heard_ms:
                heard_ms, moved_at_ms = end_ms, monotonic_ms()
                self._rereading = False
                # aiokafka stamps fetches with the wall clock, whatever clock commands are judged by.
                self._on_heard(max(0.0, wall_clock_ms() - end_ms))
            elif batches:
                moved_at_ms = monotonic_ms()
            elif monotonic_ms() - moved_at_ms > _STALLED_MS:
                raise TimeoutError(f"no answer to a fetch for {_STALLED_MS / 1000:.0f} s")

    async def _end_confirmed(
        self, consumer: AIOKafkaConsumer, fetched_at_ms: Mapping[TopicPartition, float]
    ) -> float | None:
        """When (epoch ms) every partition was last known to be read to its end; None when one is not."""
        oldest: float | None = None
        for partition, with_records_ms in fetched_at_ms.items():
            polled_ms = consumer.last_poll_timestamp(partition)
            end = consumer.highwater(partition)
            if polled_ms is None or polled_ms <= with_records_ms or end is None:
                return None
            if await consumer.position(partition) < end:
                return None
            oldest = polled_ms if oldest is None else min(oldest, polled_ms)
        return oldest

    def _take(self, record: ConsumerRecord[bytes | None, bytes | None]) -> None:
        raw = record.value
        digest = xxh3_64_intdigest(raw or b"")
        if self._rereading and digest in self._seen:
            # Read again after a lost broker, not sent again: it has been judged and acknowledged.
            return
        target = None
        if raw is not None:
            fields = parse(raw)
            target = None if isinstance(fields, Refused) else claimed_target(fields)
        if target is not None and not self._concerns(target[0], target[1]):
            return
        ack = self._state.apply(raw, self._clock())
        self._seen[digest] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        level = logging.INFO if ack["result"] == "applied" else logging.WARNING
        log.log(level, "control %s: %s %s", ack["command_id"], ack["result"], ack.get("reason", ""))
        key = record.key if target is None else "/".join(part for part in target if part).encode()
        self._send(Record(ACKS_TOPIC, key or b"unreadable", json.dumps(ack).encode()))

    def _concerns(self, tenant: str, agent: str) -> bool:
        if self._agent is None:
            return True
        return tenant in {self._tenant, EVERY} and agent in {self._agent, EVERY}
