"""Source topics → stages → output topics: builds the Faust app for a tuple of stages and runs it.

At-least-once delivery with exactly-once effect, see `streams.checkpoint`. Crash-only: whatever goes wrong
unexpectedly ends the process, and a new one begins where the last commit left off.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, cast

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP, Message

from streams.admin import BrokerError, TopicError
from streams.changelog import (
    BrokerClock,
    KafkaChangelog,
    KafkaOutlet,
    changelog_topic,
    stop_consumer,
)
from streams.checkpoint import FencedError, PartitionWork, StageMetrics, StateLog
from streams.stage import RecordBatch, Stage
from streams.stage_topics import ensure_topics
from streams.transport import BatchConsumer, ClientSettings, PlainProducer, batch_topic, batches, install

__all__ = [
    "RemadeError",
    "StalledError",
    "Worker",
    "WorkerError",
    "WorkerSettings",
    "run_process",
    "spare_collector",
]

log = logging.getLogger(__name__)

# aiokafka has no types.
_Consumer: Any = AIOKafkaConsumer

_HOUSEKEEPING_S = 0.1
# Events are freed by counting references; what is left to the collector is little, and state, of which there
# may be much, is walked through at every full collection.
_COLLECTOR_THRESHOLDS = (50_000, 20, 100)
_READ_RECORDS = 5_000


class WorkerError(Exception):
    """The worker cannot go on: the process must end."""


class StalledError(WorkerError):
    """There is work, and the commit position does not move."""


class RemadeError(WorkerError):
    """The state is about records that the source no longer has: it is another topic of the same name."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    client: ClientSettings
    checkpoint_interval_s: float = 2.0
    checkpoint_events: int = 20_000
    tick_interval_s: float = 1.0
    stall_s: float = 60.0
    # For the last checkpoint, and again for leaving the group.
    stop_s: float = 4.5
    changelog_replication: int = 1


@dataclass(slots=True)
class _Assigned:
    """A partition number of a stage that this worker has, from assignment to revocation."""

    stage: Stage
    work: PartitionWork
    restoring: asyncio.Task[None]
    checkpointing: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        return self.restoring.done() and not self.restoring.cancelled() and not self.restoring.exception()


@dataclass(slots=True)
class _Progress:
    """What the watchdog remembers of a source partition."""

    committed: int | None = None
    since: float = field(default_factory=time.monotonic)


async def _restore(work: PartitionWork) -> None:
    try:
        await work.restore()
    except asyncio.CancelledError:
        if not work.closed:
            raise WorkerError("a restore was cancelled by something else than its revocation") from None
        raise


class _App(faust.App):
    def _create_directories(self) -> None:
        """None: all state is in the changelog."""


class Worker:
    """Runs the stages in this event loop until `stop` is called or something fails."""

    def __init__(
        self,
        stages: Sequence[Stage],
        settings: WorkerSettings,
        *,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.stages = tuple(stages)
        self.settings = settings
        self.metrics = {stage.name: StageMetrics() for stage in self.stages}
        self.lag: dict[TP, int] = {}
        """Records from the committed offset to the end of the log, per source partition of this worker."""
        self._on_ready = on_ready
        self._owner = f"{settings.client.client_id}-{uuid.uuid4().hex[:12]}"
        self._clock = BrokerClock()
        self._assigned: dict[tuple[str, int], _Assigned] = {}
        self._progress: dict[TP, _Progress] = {}
        self._handing_over: set[asyncio.Future[Any]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._ending = False
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.app = self._build_app()

    async def run(self) -> None:
        """Returns after `stop`, with everything checkpointed and committed. Raises what made it fail."""
        try:
            await ensure_topics(self.stages, self.settings.client, self.settings.changelog_replication)
            await self._catch_up_on_broadcasts()
            self._spawn(self._watch())
            starting = self._spawn(self._start_app())
            await self._until_stopped_or_failed(or_done=starting)
            if not self._stop.is_set():
                self._spawn(self._keep_house())
                self._on_ready()
                await self._until_stopped_or_failed()
            await self._last_checkpoint()
        finally:
            self._abandon_all()
            await self._stop_app()
        self._raise_failure()

    def stop(self) -> None:
        """Ask `run` to finish: last checkpoint, commit, leave the group."""
        self._stop.set()

    # What the transport tells us: `streams.transport.Handover`.

    def assign(self, partitions: set[TP]) -> None:
        """Begin to restore what was assigned; its batches wait for that."""
        if self._ending:
            return
        for stage, number in self._numbers(partitions):
            work = self._make_work(stage, number)
            self._assigned[stage.name, number] = _Assigned(stage, work, self._spawn(_restore(work)))
        self._progress.clear()

    async def revoke(self, partitions: set[TP]) -> None:
        """Checkpoint what is going, commit it, and forget it."""
        keys = [(stage.name, number) for stage, number in self._numbers(partitions)]
        going = [self._assigned.pop(key) for key in keys if key in self._assigned]
        handing_over = asyncio.gather(*(self._hand_over(assigned) for assigned in going))
        self._handing_over.add(handing_over)
        try:
            # Also what a rebalance, or the stop, is handing over already: it commits through a thread that
            # ends with the stop.
            await asyncio.gather(*self._handing_over)
        finally:
            self._handing_over.discard(handing_over)
        for tp in partitions:
            self._progress.pop(tp, None)
            self.lag.pop(tp, None)

    def _numbers(self, partitions: set[TP]) -> set[tuple[Stage, int]]:
        return {
            (stage, tp.partition) for stage in self.stages for tp in partitions if tp.topic in stage.sources
        }

    async def _hand_over(self, assigned: _Assigned) -> None:
        if not assigned.ready:
            assigned.work.abandon()
            assigned.restoring.cancel()
            return
        with self._failing():
            try:
                await assigned.work.close()
            except FencedError as error:
                self._note_fenced(assigned, error)

    # Batches in

    def _build_app(self) -> faust.App:
        client = self.settings.client
        app = _App(
            client.group_id,
            broker=[f"kafka://{server}" for server in client.bootstrap_servers.split(",")],
            autodiscover=False,
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            store="memory://",
            processing_guarantee="at_least_once",
            stream_wait_empty=False,
            stream_buffer_maxsize=16,
            broker_commit_interval=1.0,
        )
        install(app, client, self)
        for stage in self.stages:
            self._add_agent(app, stage)
        return app

    def _add_agent(self, app: faust.App, stage: Stage) -> None:
        async def consume(stream: Any) -> None:
            with self._failing():
                async for batch, message in batches(stream):
                    await self._take(stage, batch, message)

        app.agent(batch_topic(app, stage.sources), name=stage.name, concurrency=1)(consume)

    async def _take(self, stage: Stage, batch: RecordBatch, message: Message) -> None:
        assigned = self._assigned.get((stage.name, batch.partition))
        if assigned is None:
            return  # revoked while the batch was on its way; it is not acknowledged
        await asyncio.wait({assigned.restoring})
        if not assigned.ready:
            return  # revoked, or failed, and then the process is about to end
        await assigned.work.apply(batch, partial(message.ack, self._consumer))
        message.value = None  # only its offset is needed until the checkpoint
        await self._checkpoint_if_due(assigned)

    async def _checkpoint_if_due(self, assigned: _Assigned) -> None:
        settings, work = self.settings, assigned.work
        if not work.due(interval_s=settings.checkpoint_interval_s, events=settings.checkpoint_events):
            return
        running = assigned.checkpointing
        if running is None or running.done():
            assigned.checkpointing = self._spawn(self._checkpoint(assigned))
        elif work.pending_events >= 2 * settings.checkpoint_events:
            # The broker does not keep up: reading on would only pile up what a crash replays.
            await asyncio.wait({running})

    async def _checkpoint(self, assigned: _Assigned) -> None:
        try:
            await assigned.work.checkpoint()
        except FencedError as error:
            self._note_fenced(assigned, error)

    def _note_fenced(self, assigned: _Assigned, error: FencedError) -> None:
        self.metrics[assigned.stage.name].fenced += 1
        log.warning("stage %s lost a partition without being told: %s", assigned.stage.name, error)

    def _make_work(self, stage: Stage, number: int) -> PartitionWork:
        client = self.settings.client
        state = None
        if stage.stateful:
            topic = changelog_topic(client.group_id, stage.name)
            changelog = KafkaChangelog(self._producer_client, client, topic, number, self._clock)
            state = StateLog(changelog, self._owner)
        return PartitionWork(
            stage.make(number),
            KafkaOutlet(self._producer_client),
            state,
            self.metrics[stage.name],
            commit=self._consumer.settle,
        )

    # Clock and watchdog

    async def _keep_house(self) -> None:
        """Time-driven checkpoints, and ticks for partitions without anything to read."""
        next_tick = time.monotonic()
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            ticking = time.monotonic() >= next_tick
            if ticking:
                next_tick = time.monotonic() + self.settings.tick_interval_s
            for (_, number), assigned in list(self._assigned.items()):
                if not assigned.ready:
                    continue
                if ticking and self._caught_up(assigned, number):
                    await assigned.work.tick(self._clock.now_ms())
                await self._checkpoint_if_due(assigned)

    def _caught_up(self, assigned: _Assigned, number: int) -> bool:
        for topic in assigned.stage.sources:
            tp = TP(topic, number)
            read = self._consumer.read_position(tp)
            if read is None or read[0] < read[1]:
                return False
            if self._consumer.last_handed_out(tp) != assigned.work.last_applied(topic):
                return False
        return True

    async def _watch(self) -> None:
        """End the process when there is work and its commit does not move: a new one may do better."""
        stall_s = self.settings.stall_s
        last_settled = time.monotonic()
        while True:
            await asyncio.sleep(min(stall_s / 6, 5.0))
            if self.app.rebalancing and time.monotonic() - last_settled < 2 * stall_s:
                continue
            if self.app.rebalancing:
                raise StalledError(f"no assignment of partitions for {2 * stall_s:g} s")
            last_settled = time.monotonic()
            tps = self._partitions()
            if not tps:
                continue
            try:
                ends = await self._consumer.highwaters(*tps)
            except KafkaError:
                # Without a broker nothing can move, and a new process would not help.
                self._progress.clear()
                continue
            for tp, end in ends.items():
                self._check_same_log(TP(tp.topic, tp.partition), end)
                self._check_progress(TP(tp.topic, tp.partition), end)

    def _check_same_log(self, tp: TP, end: int) -> None:
        """New records would be passed over in silence up to where the old ones had come."""
        if not self.settings.client.idempotent_producer:
            return  # The embedded broker, which reports ends too low, and forgets state with its records.
        for (_, number), assigned in self._assigned.items():
            if number != tp.partition or not assigned.ready or tp.topic not in assigned.stage.sources:
                continue
            covered = assigned.work.covered(tp.topic)
            if covered >= end:
                raise RemadeError(
                    f"{tp.topic}[{tp.partition}] ends at {end}, and state covers it to {covered}: the topic "
                    "was made anew. Delete the changelogs too, or set another WATCHKEEPER_KAFKA__GROUP_PREFIX"
                )

    def _check_progress(self, tp: TP, end: int) -> None:
        now = time.monotonic()
        committed, read = self._consumer.committed(tp), self._consumer.read_position(tp)
        progress = self._progress.setdefault(tp, _Progress(committed, now))
        self.lag[tp] = max(end - (committed or 0), 0)
        next_offset = (committed or 0) if read is None else read[0]
        behind = self._consumer.in_flight(tp) > 0 or next_offset < end
        restoring = any(
            not assigned.restoring.done()
            for (_, number), assigned in self._assigned.items()
            if number == tp.partition and tp.topic in assigned.stage.sources
        )
        if committed != progress.committed or not behind or restoring:
            progress.committed, progress.since = committed, now
        elif now - progress.since > self.settings.stall_s:
            raise StalledError(
                f"{tp.topic}[{tp.partition}]: nothing committed for {self.settings.stall_s:g} s at offset "
                f"{committed}, the log ends at {end}"
            )

    # Broadcasts

    async def _catch_up_on_broadcasts(self) -> None:
        waiting = []
        for stage in self.stages:
            if stage.broadcast:
                caught_up = asyncio.Event()
                self._spawn(self._follow(stage, caught_up))
                waiting.append(asyncio.create_task(caught_up.wait()))
        if waiting:
            everything = asyncio.create_task(asyncio.wait(waiting))
            await self._until_stopped_or_failed(or_done=everything)
            everything.cancel()

    async def _follow(self, stage: Stage, caught_up: asyncio.Event) -> None:
        consumer = _Consumer(
            *stage.broadcast, **self.settings.client.connection(), auto_offset_reset="earliest", group_id=None
        )
        await consumer.start()
        try:
            sources = [
                TopicPartition(topic, number)
                for topic in stage.broadcast
                for number in consumer.partitions_for_topic(topic)
            ]
            ends = await consumer.end_offsets(sources)
            while True:
                for records in (await consumer.getmany(timeout_ms=200, max_records=_READ_RECORDS)).values():
                    for record in records:
                        stage.on_broadcast(record)
                    await asyncio.sleep(0)
                if not caught_up.is_set():
                    positions = [await consumer.position(source) for source in sources]
                    if all(
                        position >= ends[source] for position, source in zip(positions, sources, strict=True)
                    ):
                        caught_up.set()
        finally:
            await stop_consumer(consumer)

    # Life and death

    async def _until_stopped_or_failed(self, or_done: asyncio.Task[Any] | None = None) -> None:
        stopping = asyncio.create_task(self._stop.wait())
        ends: set[asyncio.Future[Any]] = {stopping, self._failure}
        if or_done is not None:
            ends.add(or_done)
        while not any(end.done() for end in ends):
            await asyncio.wait(ends, timeout=_HOUSEKEEPING_S, return_when=asyncio.FIRST_COMPLETED)
            if self.app.crashed:
                self._fail(WorkerError(f"Faust gave up: {self.app.crash_reason!r}"))
        stopping.cancel()
        self._raise_failure()

    async def _last_checkpoint(self) -> None:
        try:
            async with asyncio.timeout(self.settings.stop_s):
                await self.revoke(self._partitions())
        except TimeoutError:
            raise WorkerError(
                "the broker did not take the last checkpoint in time: what is not committed is done again"
            ) from None

    async def _start_app(self) -> None:
        await self.app.start()

    async def _stop_app(self) -> None:
        for task in self._tasks:
            task.cancel()
        try:
            async with asyncio.timeout(self.settings.stop_s):
                await self.app.stop()
        except TimeoutError:
            log.warning("Faust did not stop in time; all that is done is committed")

    def _abandon_all(self) -> None:
        self._ending = True
        for assigned in self._assigned.values():
            assigned.work.abandon()
            assigned.restoring.cancel()
        self._assigned.clear()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._fail_from)
        return task

    def _fail_from(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    @contextlib.contextmanager
    def _failing(self) -> Any:
        try:
            yield
        except Exception as error:
            self._fail(error)
            raise

    def _fail(self, error: BaseException) -> None:
        """The first failure counts: what follows it is mostly its echo."""
        if not self._failure.done():
            self._failure.set_exception(error)
            self._abandon_all()

    def _raise_failure(self) -> None:
        if self._failure.done():
            self._failure.result()

    def _partitions(self) -> set[TP]:
        return {
            TP(topic, number)
            for (_, number), assigned in self._assigned.items()
            for topic in assigned.stage.sources
        }

    @property
    def _consumer(self) -> BatchConsumer:
        return cast(BatchConsumer, self.app.consumer)

    def _producer_client(self) -> Any:
        return cast(PlainProducer, self.app.producer).client


def run_process(
    stages: Callable[[], Sequence[Stage]],
    settings: WorkerSettings,
    *,
    on_ready: Callable[[], None] = lambda: None,
    beside: Callable[[Worker], contextlib.AbstractAsyncContextManager[None]] | None = None,
) -> None:
    """Run until SIGTERM or SIGINT, then return. On a failure the process ends at once, with exit code 1.

    ``beside`` is entered for as long as the worker runs.
    """

    def ready() -> None:
        spare_collector()
        on_ready()

    async def main() -> None:
        worker = Worker(stages(), settings, on_ready=ready)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, worker.stop)
        try:
            async with beside(worker) if beside is not None else contextlib.nullcontext():
                await worker.run()
        except (TopicError, BrokerError, WorkerError) as error:
            _die(f"watchkeeper: {error}")
        except Exception:
            _die(traceback.format_exc())
            raise

    asyncio.run(main())


def spare_collector() -> None:
    """Have garbage collected rarely, and never looked for in what is there already. For a whole process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTOR_THRESHOLDS)


def _die(message: str) -> NoReturn:
    print(message, file=sys.stderr, flush=True)
    # Nothing that runs on the way out may do more damage, or hang.
    os._exit(1)
