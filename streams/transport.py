"""Kafka → Faust, a batch at a time: the transport driver that this project runs Faust on.

Stock Faust hands an agent one message per record, which costs more than the work on it, and it commits past
unfinished work. This driver, built on Faust's own aiokafka driver, differs in three things:

- An agent gets **one message per partition and fetch**; its value is a `RecordBatch` of raw records.
- The commit position is the end of the last batch up to which every batch is done, and nothing cleverer. The
  order in which batches were handed out decides, never arithmetic on offsets, so holes in the offsets
  (compaction, retention, a transaction's control records) neither stall a commit nor count as work done.
- A partition that is revoked is handed over (checkpointed and committed) before Faust forgets about it.

Faust's compiled stream iterator acknowledges without calling `Consumer.ack`; what it fills is `_acked`. That
and `_new_offset`, which reads it, are therefore where this driver takes hold.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Protocol, cast

import aiokafka
import faust
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import IllegalStateError
from aiokafka.partitioner import DefaultPartitioner
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, Message
from yarl import URL

from streams.stage import RecordBatch

# aiokafka has no types.
_Consumer: Any = aiokafka.AIOKafkaConsumer
_Producer: Any = aiokafka.AIOKafkaProducer

__all__ = ["BatchConsumer", "BatchTransport", "ClientSettings", "CommitPosition", "Handover", "install"]


_partitioner: Any = DefaultPartitioner()


@lru_cache(maxsize=1 << 16)
def _partition_of(key: bytes, partitions: tuple[int, ...]) -> int:
    """As every Kafka client. The same agents come again and again, and the hash is pure Python."""
    partition: int = _partitioner(key, partitions, partitions)
    return partition


def partition_for(key: bytes | None, every: Sequence[int], available: Sequence[int]) -> int:
    """The producer's partitioner."""
    if key is None:
        partition: int = _partitioner(None, every, available)
        return partition
    return _partition_of(key, tuple(every))


class Handover(Protocol):
    """Who works on the partitions, and must be told before they go and when they come."""

    async def revoke(self, partitions: set[TP]) -> None:
        """Finish what is in hand and return; nothing may be written for these partitions afterwards."""

    def assign(self, partitions: set[TP]) -> None:
        """Make ready. Called before the first batch of these partitions is delivered."""


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """How every Kafka client of the worker connects, consumes and produces.

    `security` goes to aiokafka as it is: `security_protocol`, `ssl_context`, `sasl_mechanism`,
    `sasl_plain_username`, `sasl_plain_password` and so on.
    """

    bootstrap_servers: str
    group_id: str
    client_id: str = "watchkeeper"
    security: Mapping[str, Any] = field(default_factory=dict)
    session_timeout_ms: int = 6_000
    rebalance_timeout_ms: int = 3_000
    request_timeout_ms: int = 30_000
    max_batch_records: int = 2_000
    # aiokafka leaves partitions with unread records out of a fetch; one that waits for the others delays the
    # next read of these. This bounds the latency at low load.
    fetch_max_wait_ms: int = 25
    fetch_max_bytes_per_partition: int = 1 << 20
    # Off for a broker without producer ids, such as the embedded one. A retry may then write a record twice.
    idempotent_producer: bool = True
    produce_batch_bytes: int = 256 << 10
    produce_max_bytes: int = 1 << 20

    def connection(self) -> dict[str, Any]:
        """What every aiokafka client takes."""
        return {
            "bootstrap_servers": self.bootstrap_servers,
            "client_id": self.client_id,
            "request_timeout_ms": self.request_timeout_ms,
            **self.security,
        }

    def group_consumer(self) -> dict[str, Any]:
        return self.connection() | {
            "group_id": self.group_id,
            # The same partition number of every source goes to the same worker.
            "partition_assignment_strategy": [RangePartitionAssignor],
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "max_poll_records": self.max_batch_records,
            "fetch_max_wait_ms": self.fetch_max_wait_ms,
            "max_partition_fetch_bytes": self.fetch_max_bytes_per_partition,
            "session_timeout_ms": self.session_timeout_ms,
            "heartbeat_interval_ms": max(self.session_timeout_ms // 6, 100),
            "rebalance_timeout_ms": self.rebalance_timeout_ms,
        }

    def producer(self) -> dict[str, Any]:
        return self.connection() | {
            "acks": "all",
            "enable_idempotence": self.idempotent_producer,
            "linger_ms": 2,
            "partitioner": partition_for,
            "max_batch_size": self.produce_batch_bytes,
            "max_request_size": self.produce_max_bytes,
        }


class CommitPosition:
    """The batches of one partition that were handed out and are not committed yet.

    >>> position = CommitPosition()
    >>> for last_offset in (9, 19, 29):
    ...     position.handed_out(last_offset)
    >>> position.done(19)
    >>> position.advance()  # the batch that ends at 9 is not done
    >>> position.done(9)
    >>> position.advance()
    20
    """

    __slots__ = ("_done", "_in_flight")

    def __init__(self) -> None:
        self._in_flight: deque[int] = deque()
        self._done: set[int] = set()

    def __len__(self) -> int:
        return len(self._in_flight)

    def handed_out(self, last_offset: int) -> None:
        self._in_flight.append(last_offset)

    def done(self, last_offset: int) -> None:
        self._done.add(last_offset)

    def advance(self) -> int | None:
        """The offset to commit now, or None when the oldest batch is not done."""
        position = None
        while self._in_flight and self._in_flight[0] in self._done:
            last_offset = self._in_flight.popleft()
            self._done.discard(last_offset)
            position = last_offset + 1
        return position


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that owns the aiokafka consumer."""

    def _create_worker_consumer(self, transport: driver.Transport) -> Any:
        settings = cast(BatchTransport, transport).settings
        return _Consumer(**settings.group_consumer())

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """aiokafka's leaves a partition of which nothing is committed where it is: what was read of it and
        dropped in a rebalance would be lost. Its place is the beginning.
        """
        committed: Mapping[TP, int] = await self.call_thread(self._seek_to_committed)
        return committed

    async def _seek_to_committed(self) -> Mapping[TP, int]:
        consumer = self._ensure_consumer()
        committed: Mapping[TP, int] = await consumer.seek_to_committed()
        if uncommitted := [tp for tp, offset in committed.items() if not offset]:
            await consumer.seek_to_beginning(*uncommitted)
        return committed

    def read_position(self, tp: TP) -> tuple[int, int] | None:
        """(next offset to read, end of the log) as of the last fetch; None if unknown."""
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        aiokafka_tp = driver.ensure_aiokafka_TP(tp)
        if assignment is None or aiokafka_tp not in assignment.tps:
            return None
        state = assignment.state_value(aiokafka_tp)
        if not state.has_valid_position or state.highwater is None:
            return None
        return state.position, state.highwater


class BatchConsumer(driver.Consumer):
    """A Faust consumer that yields record batches and commits only finished ones."""

    _thread: BatchConsumerThread
    handover: Handover

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._positions: dict[TP, CommitPosition] = {}
        self._last_handed_out: dict[TP, int] = {}
        # Fetched but not handed out, because a rebalance came between. Nothing more of these until they are
        # sought: the rebalance may have done its own seek before the fetch.
        self._unread: set[TP] = set()

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:  # noqa: ASYNC109 - Faust's name
        """Fetch, and yield one message per partition."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())
        if self._unread:
            await self.perform_seek()
        generation = self.app.consumer_generation_id
        records, _ = await self._wait_next_records(timeout)
        for aiokafka_tp, fetched in (records or {}).items():
            tp = TP(aiokafka_tp.topic, aiokafka_tp.partition)
            rebalanced = not self.flow_active or self.app.consumer_generation_id != generation
            if rebalanced or tp in self._unread:
                self._unread.add(tp)
                continue
            message = self.hand_out(tp, fetched)
            if message is not None:
                yield tp, message

    def hand_out(self, tp: TP, records: Sequence[Any]) -> ConsumerMessage | None:
        """The records as one message, entered as in flight; None when all of them were read before."""
        read = self._read_offset[tp]
        if read is not None and records[0].offset < read:
            records = [record for record in records if record.offset >= read]
        if not records:
            return None
        batch = RecordBatch(tp.topic, tp.partition, records)
        self._positions.setdefault(tp, CommitPosition()).handed_out(batch.last_offset)
        self._last_handed_out[tp] = batch.last_offset
        last = records[-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            batch.last_offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            None,
            None,
            cast(bytes, batch),  # Faust's type for what its agents get as the message's value
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    def in_flight(self, tp: TP) -> int:
        """How many batches were handed out and are not committed."""
        position = self._positions.get(tp)
        return 0 if position is None else len(position)

    def last_handed_out(self, tp: TP) -> int | None:
        """The offset of the last record that was handed out since the partition came or was sought."""
        return self._last_handed_out.get(tp)

    def committed(self, tp: TP) -> int | None:
        """The offset that was committed last, as far as this consumer knows."""
        return self._committed_offset[tp]

    def read_position(self, tp: TP) -> tuple[int, int] | None:
        """(next offset to read, end of the log) as of the last fetch; None if unknown."""
        return self._thread.read_position(tp)

    def _new_offset(self, tp: TP) -> int | None:
        """Faust's skips unfinished messages, and after a restart waits for an offset that never comes."""
        position = self._positions.get(tp)
        acknowledged = self._acked[tp]
        if position is None:
            return None
        for last_offset in acknowledged:
            position.done(last_offset)
        acknowledged.clear()
        self._acked_index[tp].clear()
        return position.advance()

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing to note: a hole between batches is no work. Faust's counts the arriving message as done."""

    def on_buffer_full(self, tp: TP) -> None:
        """Nothing: a full queue already blocks the fetch loop. Faust's would also sleep a second."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Nothing, as nothing was done when the queue was full."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: Faust would only log. The worker's watchdog ends the process."""

    async def perform_seek(self) -> None:
        """Back to the committed offsets, or, if a rebalance changes the assignment meanwhile, later."""
        unread = set(self._unread)
        try:
            await super().perform_seek()
        except IllegalStateError:
            self._unread |= self.assignment()
            return
        self._unread -= unread
        # All that was not committed is read again.
        self._positions.clear()
        self._last_handed_out.clear()
        self._acked.clear()
        self._acked_index.clear()

    async def settle(self) -> None:
        """Commit what is done now, also when another commit, which may have begun before, is under way."""
        await self.maybe_wait_for_commit_to_finish()
        await self.commit()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await self.handover.revoke(revoked)
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._positions.pop(tp, None)
            self._last_handed_out.pop(tp, None)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self.handover.assign(assigned)
        await super().on_partitions_assigned(assigned, generation_id)


class PlainProducer(driver.Producer):
    """The worker's one producer. Deliveries are awaited one by one, so Faust's buffer stays empty."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.settings = cast(BatchTransport, self.transport).settings

    def _new_producer(self, transactional_id: str | None = None) -> Any:
        return _Producer(**self.settings.producer())

    @property
    def client(self) -> Any:
        return self._ensure_producer()

    async def flush(self) -> None:
        """Nothing: Faust's buffer, given up on after 100 ms, is unused. Checkpoints await deliveries."""


class BatchTransport(driver.Transport):
    """What `faust.App.transport` is set to."""

    Consumer: ClassVar[type[BatchConsumer]] = BatchConsumer
    Producer: ClassVar[type[PlainProducer]] = PlainProducer

    def __init__(self, app: faust.App, settings: ClientSettings, handover: Handover) -> None:
        super().__init__([URL(f"kafka://{server}") for server in settings.bootstrap_servers.split(",")], app)
        self.settings = settings
        self.handover = handover

    def create_consumer(self, callback: Any, **kwargs: Any) -> Any:
        consumer = super().create_consumer(callback, **kwargs)
        cast(BatchConsumer, consumer).handover = self.handover
        return consumer


class BatchSchema(faust.Schema[Any, Any]):
    """Takes the value as it comes: no codec of Faust's ever sees a record."""

    def compile(self, app: Any, **_: Any) -> Any:
        async def decode(message: Message, *, propagate: bool = False) -> Any:
            return app.create_event(None, message.value, None, message)

        return decode


def install(app: faust.App, settings: ClientSettings, handover: Handover) -> None:
    """Make `app` run on this driver. To be called before anything asks for the app's topics or consumer."""
    app.transport = app.producer_transport = BatchTransport(app, settings, handover)


def batch_topic(app: faust.App, topics: Iterable[str]) -> Any:
    """The topics as the channel of an agent that gets record batches."""
    return app.topic(*topics, schema=BatchSchema(), internal=False)


async def batches(stream: Any) -> AsyncIterator[tuple[RecordBatch, Message]]:
    """The batches of an agent's stream, not acknowledged: that is for whoever finishes one, with
    `message.ack(consumer)`. Faust's own iterators acknowledge in a `finally`: an exception would skip work.
    """
    async for event in stream.noack().events():
        await asyncio.sleep(0)
        yield event.value, event.message
