"""What waits to be sent, and the background task that sends it: bounded memory, nothing blocks the agent.

The spool takes records from any thread and drops its oldest, counted, when it is full. The sender is one
producer with acks from all replicas; records whose delivery fails go back to the spool (an event's
id makes redelivery harmless).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

MAX_RECORD_BYTES: Final = 256 * 1024
_RETRY_S = 0.5
_CLOSE_S = 1.0
_MAX_IN_FLIGHT = 2_000

log = logging.getLogger("watchkeeper")


class Record(NamedTuple):
    topic: str
    key: bytes
    value: bytes


class Spool:
    """Records on their way out. Safe to use from several threads; no method waits for the broker."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._urgent: deque[Record] = deque()
        self._records: deque[Record] = deque()
        self._lock = threading.Lock()
        self._wake: Callable[[], None] | None = None
        self.dropped = 0
        """Records given up: the spool was full, or closed before they could be sent."""

    def put(self, record: Record) -> None:
        self._add(self._records, record)

    def put_urgent(self, record: Record) -> None:
        """Ahead of what was put without urgency, in the order of the urgent ones."""
        self._add(self._urgent, record)

    def put_back(self, record: Record) -> None:
        """Ahead of everything; when the spool is full, the record is dropped."""
        with self._lock:
            if len(self) >= self._limit:
                self.dropped += 1
            else:
                self._urgent.appendleft(record)

    def take(self) -> Record | None:
        with self._lock:
            if self._urgent:
                return self._urgent.popleft()
            return self._records.popleft() if self._records else None

    def _add(self, queue: deque[Record], record: Record) -> None:
        with self._lock:
            queue.append(record)
            if len(self) > self._limit:
                (self._records or self._urgent).popleft()
                self.dropped += 1
            if self._wake is not None and len(self) == 1:
                self._wake()

    def drop(self) -> None:
        """Counts a record that was never put, because it can not be sent."""
        with self._lock:
            self.dropped += 1

    def give_up(self) -> None:
        """Drops everything that waits."""
        with self._lock:
            self.dropped += len(self)
            self._urgent.clear()
            self._records.clear()

    def on_first(self, wake: Callable[[], None] | None) -> None:
        """``wake`` is called, in the thread that puts, whenever the spool stops being empty."""
        with self._lock:
            self._wake = wake

    def __len__(self) -> int:
        return len(self._urgent) + len(self._records)


class Sender:
    """spool → its topics. One loop's: ``run`` and ``stop`` belong to the same event loop.

    Args:
        spool: what to send.
        kafka: options for the Kafka client: bootstrap_servers, security_protocol, ….
    """

    def __init__(self, spool: Spool, kafka: Mapping[str, Any]) -> None:
        self._spool = spool
        self._kafka = kafka
        self._in_flight: dict[asyncio.Future[Any], Record] = {}
        self._undelivered: list[Record] = []
        self._stopping = asyncio.Event()
        self._work = asyncio.Event()
        self._failed: BaseException | None = None

    def stop(self) -> None:
        """Asks :meth:`run` to send what there is and end."""
        self._stopping.set()
        self._work.set()

    async def run(self) -> None:
        """Sends until stopped and everything is delivered; keeps trying while the broker is away."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(self._work.set)

        self._spool.on_first(wake)
        try:
            while not self._stopping.is_set() or len(self._spool):
                try:
                    await self._use_producer()
                except (KafkaError, OSError, TimeoutError) as error:
                    log.warning("cannot publish (%s): %d records wait", error, len(self._spool))
                    await asyncio.sleep(_RETRY_S)
        finally:
            self._spool.on_first(None)

    async def _use_producer(self) -> None:
        self._failed = None
        # Without producer ids, which not every broker gives: order holds all the same, since a partition has
        # one request in flight, and a record sent twice has the same event_id.
        producer = AIOKafkaProducer(**self._kafka, acks="all", linger_ms=5)
        try:
            await producer.start()
            while self._failed is None:
                record = self._spool.take()
                if record is not None:
                    await self._send(producer, record)
                elif self._stopping.is_set():
                    if not self._in_flight:
                        return
                    await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
                else:
                    self._work.clear()
                    if not len(self._spool):
                        await self._work.wait()
            log.warning("a delivery failed (%s): starting a new producer", self._failed)
            await asyncio.sleep(_RETRY_S)
        finally:
            await self._close(producer)

    async def _send(self, producer: AIOKafkaProducer, record: Record) -> None:
        while len(self._in_flight) >= _MAX_IN_FLIGHT:
            await asyncio.wait(self._in_flight, return_when=asyncio.FIRST_COMPLETED)
        try:
            delivery = await producer.send(record.topic, value=record.value, key=record.key)
        except MessageSizeTooLargeError:
            self._spool.drop()
            return
        except (KafkaError, OSError, TimeoutError, asyncio.CancelledError):
            self._undelivered.append(record)
            raise
        self._in_flight[delivery] = record
        delivery.add_done_callback(self._delivered)

    def _delivered(self, delivery: asyncio.Future[Any]) -> None:
        record = self._in_flight.pop(delivery, None)
        error = None if delivery.cancelled() else delivery.exception()
        if record is not None and (delivery.cancelled() or error is not None):
            self._undelivered.append(record)
            self._failed = error or TimeoutError("delivery cancelled")
            self._work.set()

    async def _close(self, producer: AIOKafkaProducer) -> None:
        stopping = asyncio.ensure_future(producer.stop())
        await asyncio.wait({stopping}, timeout=_CLOSE_S)
        stopping.cancel()
        # What a producer that is gone had in flight stays undecided: the next one sends it again.
        for record in reversed([*self._undelivered, *self._in_flight.values()]):
            self._spool.put_back(record)
        self._undelivered.clear()
        self._in_flight.clear()


async def supervise(name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a background job until it returns, and starts it again when it fails: nothing of it reaches the
    agent. Cancelling this cancels the job and waits for it.
    """
    while True:
        job = asyncio.ensure_future(run())
        try:
            await asyncio.wait({job})
        finally:
            if not job.done():
                job.cancel()
                await asyncio.wait({job})
        error = None if job.cancelled() else job.exception()
        if error is None:
            return
        log.error("%s failed and starts again", name, exc_info=error)
        await asyncio.sleep(_RETRY_S)
