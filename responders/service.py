"""agent.detections, agent.control.acks → store → Slack or terminal, agent.control, incident.events.

The composition root of the responder. Records are committed after their decision; a record that cannot be
read is logged, counted and passed over. What is expected to fail is an outcome; what is not ends the process,
loudly.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from pydantic import ValidationError

from config.errors import CorrectableError
from config.kafka import client_options
from config.settings import Settings, SettingsError
from responders import actions, keys, looked_at
from responders.bus import KafkaBus
from responders.channels import opening as channels
from responders.channels import past_the_store
from responders.channels.http_channel import ChannelError
from responders.channels.repeats import Repeating, repeat_open
from responders.control import ControlPublisher
from responders.handle import Responder, Source, offsets_of
from responders.incident_log import KafkaIncidentLog
from responders.keys import KeyFileError
from responders.metrics import CONSUMED, MALFORMED, STORE_WAITS, UNKNOWN_ACKS
from responders.pages.wording import TOPIC
from responders.pauses import pause
from responders.picture.pictures import Pictures
from responders.policy import Policy, PolicyError
from responders.policy_watch import LOOK_EVERY_S, PolicyWatch
from responders.sender import PageChannel, Sender
from responders.slack.channel import SlackChannel
from responders.slack.front import front_of
from responders.slack.socket_mode import Link, SocketMode
from responders.slack.web_api import SlackRefusedError
from responders.store.database import StoreError
from responders.watched import Turn, Watched
from schemas import topics
from schemas.control import CONTROL_ACK, ControlAck
from schemas.detection import DETECTION, Detection

POLL_MS: Final = 200
"""How soon what another process wrote into the store is noticed."""
FETCH_WAIT_MS: Final = 50
ACKS_AT_ONCE: Final = 50
"""Everybody answers a global stop: a transaction each would keep the CPU and the disk from those it stops."""

UNHEARD_S: Final = 15.0
"""On top of what the one who hears allows itself."""
UNSTORED_S: Final = 20.0
"""A database that fails over is back by then."""
STUCK_S: Final = 5.0
"""Longer than the longest transaction. A store that a frozen process has locked gives no error for long."""
STUCK: Final = (
    "the store does not answer (another process has locked it and does not go on, or the database hangs):"
    " look for what has it open"
)

UNHEARD: Final = "the topic is gone, forbidden, or its broker does not answer"
LONGEST_WAIT_S: Final = 10.0
THREADS: Final = 16
STOP_WITHIN_S: Final = 5.0
T = TypeVar("T")
_log = structlog.get_logger(__name__)


class ServiceError(CorrectableError):
    """The responder cannot start; the message is one line that says what to do."""


@dataclass(slots=True)
class Work:
    """Wakes the loops that carry work out as soon as there may be some. ``waiting`` counts those that wait
    for the store, and ``reason`` says why.
    """

    outbox: asyncio.Event = field(default_factory=asyncio.Event)
    control: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    reason: str = ""

    def arrived(self) -> None:
        self.outbox.set()
        self.control.set()


@dataclass(slots=True)
class Beside:
    """What the process has beside the responder. ``slack`` is told how the connection for its buttons stands;
    ``hearing`` says whether `agent.control` can be read; ``policy`` is looked at for changes, at once when
    ``look`` is set.
    """

    slack: Link = field(default_factory=Link)
    hearing: Callable[[], bool] | None = None
    policy: PolicyWatch | None = None
    look: asyncio.Event = field(default_factory=asyncio.Event)


async def run(
    settings: Settings, stop: asyncio.Event, on_ready: Callable[[], None], beside: Beside | None = None
) -> None:
    """Respond until ``stop`` is set. ``on_ready`` is called once, when detections are being read.

    Raises:
        ServiceError: store, keys, policy, Slack token, broker or topics cannot be used; one line says what to
        do.
    """
    beside = beside or Beside()
    # More threads than there is ever waiting for the store: a new detection must not queue behind pages.
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="responder")
    asyncio.get_running_loop().set_default_executor(threads)
    try:
        responder = await asyncio.to_thread(actions.connect, settings)
        signing = await asyncio.to_thread(keys.load_or_create, settings.data_dir)
        channels.must_know(responder.policy, settings)
        client_options(settings.kafka)  # read the certificates now, to say what is wrong with them
    except (StoreError, PolicyError, KeyFileError, SettingsError) as error:
        raise ServiceError(str(error)) from None
    work = Work()
    try:
        async with (
            _channels(settings, responder.policy) as opened,
            # A producer has one request under way to each broker: commands must not wait for the log's.
            _producer(settings) as bus,
            _producer(settings) as log_bus,
            _consumer(settings, topics.DETECTIONS, responder) as detections,
            _consumer(settings, topics.ACKS, responder) as acks,
        ):
            pictures = Pictures(client_options(settings.kafka))
            sender = Sender(responder, opened, KafkaIncidentLog(log_bus), pictures=pictures)
            publisher = ControlPublisher(responder, bus, signing)
            watch = beside.policy or PolicyWatch(settings)
            watch.follow(responder)
            watch.tell(opened.follow)
            await publisher.announce()
            responder.looked_at_until = looked_at.NEVER
            await _all_until(
                stop,
                detections.consume(stop, DETECTION.validate_json, partial(_detections, responder), work),
                acks.consume(stop, CONTROL_ACK.validate_json, partial(_acks, responder), work, ACKS_AT_ONCE),
                carry_out(stop, sender, work.outbox, work),
                carry_out(stop, publisher, work.control, work),
                _loop(stop, None, lambda: asyncio.to_thread(responder.fire_timers), work),
                *(
                    _repeat(stop, responder, each, work)
                    for each in opened.values()
                    if isinstance(each, Repeating)
                ),
                _slack_buttons(stop, settings, responder, beside.slack, work),
                _follow_policy(stop, watch, beside.look),
                _watch_control(stop, responder, beside.hearing, work),
                looked_at.follow(stop, settings.kafka, responder),
                _watch_store(stop, responder, opened, work),
                _announce(stop, (detections, acks), on_ready),
            )
    except (ChannelError, SlackRefusedError) as error:
        raise ServiceError(str(error)) from None
    finally:
        await asyncio.to_thread(responder.store.close)


async def _all_until(stop: asyncio.Event, *parts: Awaitable[None]) -> None:
    """Run the parts until ``stop``; when one fails the others are stopped and its exception is raised.

    What is not done soon after ``stop`` is cut off: its claim runs out, and it is in doubt for whoever is
    next.
    """
    tasks = [asyncio.ensure_future(part) for part in parts]
    together = asyncio.gather(*tasks)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((together, stopping), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((together,), timeout=STOP_WITHIN_S)
        if together.done():
            together.result()
    finally:
        stopping.cancel()
        stop.set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _announce(
    stop: asyncio.Event, sources: tuple[_Consumer, ...], on_ready: Callable[[], None]
) -> None:
    waiting = [asyncio.ensure_future(each.joined.wait()) for each in sources]
    stopping = asyncio.ensure_future(stop.wait())
    everything = asyncio.gather(*waiting)
    try:
        await asyncio.wait((everything, stopping), return_when=asyncio.FIRST_COMPLETED)
        if everything.done():
            on_ready()
            _log.info("responder ready")
    finally:
        stopping.cancel()
        everything.cancel()


async def _loop(
    stop: asyncio.Event, wake: asyncio.Event | None, step: Callable[[], Awaitable[int]], work: Work
) -> None:
    """Do ``step`` whenever there may be work, and every `POLL_MS` for what another process has written."""
    while not stop.is_set():
        if wake is not None:
            wake.clear()
        if await _patiently(stop, step, work):
            work.arrived()
            continue
        await pause(wake or stop, POLL_MS / 1000)


async def _patiently(stop: asyncio.Event, step: Callable[[], Awaitable[int]], work: Work) -> int:
    """``step``'s count; while the store does not answer it is tried again, until ``stop``."""
    wait_s, waits = 0.2, False
    try:
        while not stop.is_set():
            try:
                return await step()
            except StoreError as error:
                work.waiting += not waits
                waits, work.reason = True, str(error)
                STORE_WAITS.inc()
                _log.error("store unavailable", reason=work.reason, again_in_s=wait_s)
                await pause(stop, wait_s)
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)
        return 0
    finally:
        work.waiting -= waits


async def _watch_store(
    stop: asyncio.Event, responder: Responder, opened: Mapping[str, PageChannel], work: Work
) -> None:
    """A store that takes nothing keeps everything else from being told: people are, past it."""
    watched, reason, began, told = Watched(UNSTORED_S), "", responder.clock(), past_the_store.Told()
    while not stop.is_set():
        stuck = responder.store.stuck_s() >= STUCK_S
        match watched.see(works=not work.waiting and not stuck):
            case "fails":
                reason, began = work.reason if work.waiting else STUCK, responder.clock()
                told = await past_the_store.tell(opened, responder.policy, reason, began)
            case "works" if told:
                await past_the_store.over(told, reason, began)
                told = past_the_store.Told()
        await pause(stop, 1.0)


async def _follow_policy(stop: asyncio.Event, watch: PolicyWatch, look: asyncio.Event) -> None:
    """Look at the policy file every so often, and at once when asked to."""
    while not stop.is_set():
        asked = look.is_set()
        look.clear()
        await asyncio.to_thread(watch.look, even_if_unchanged=asked)
        await _pause_for(stop, look, LOOK_EVERY_S)


async def _watch_control(
    stop: asyncio.Event, responder: Responder, hearing: Callable[[], bool] | None, work: Work
) -> None:
    """While `agent.control` cannot be read orders may reach nobody: people must know before they need one."""
    if hearing is None:
        return
    watched, part = Watched(UNHEARD_S), f"{TOPIC}{topics.CONTROL}"
    while not stop.is_set():
        turn = watched.see(works=hearing())
        if turn is not None:

            async def tell(turn: Turn = turn) -> int:
                if turn == "fails":
                    await asyncio.to_thread(responder.part_fails, part, "unheard", UNHEARD)
                else:
                    await asyncio.to_thread(responder.part_works, part)
                return 1

            await _patiently(stop, tell, work)
            work.arrived()
        await pause(stop, 1.0)


async def _pause_for(stop: asyncio.Event, other: asyncio.Event, seconds: float) -> None:
    """Until either is set, or so long."""
    waiting = [asyncio.ensure_future(event.wait()) for event in (stop, other)]
    await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for each in waiting:
        each.cancel()


class CarriesOut(Protocol):
    """Does what the store says is due: the pages and the log, or the commands."""

    async def start_due(self, ended: Callable[[], None]) -> int: ...

    async def finish(self) -> None: ...

    async def abandon(self) -> None: ...


async def carry_out(stop: asyncio.Event, doing: CarriesOut, wake: asyncio.Event, work: Work) -> None:
    """Begin what is due until ``stop``, and then bring what is under way to its end."""
    try:
        await _loop(stop, wake, lambda: doing.start_due(work.arrived), work)
        await doing.finish()
    finally:
        await doing.abandon()


async def _repeat(stop: asyncio.Event, responder: Responder, channel: Repeating, work: Work) -> None:
    while not stop.is_set():
        await _patiently(stop, lambda: repeat_open(responder, channel), work)
        await pause(stop, channel.repeat_every_s)


async def _slack_buttons(
    stop: asyncio.Event, settings: Settings, responder: Responder, link: Link, work: Work
) -> None:
    """What is pressed in Slack, over Socket Mode, when there is a token for it."""
    token = settings.slack.app_token
    if token is None or not token.get_secret_value():
        return
    front = front_of(responder, settings, work.arrived)
    while not stop.is_set():
        socket = SocketMode(token.get_secret_value(), settings.slack.base_url, front.serve, link)
        connecting = asyncio.ensure_future(socket.run(stop))
        try:
            await asyncio.wait({connecting})
        finally:
            connecting.cancel()
        # Pages and containment go on without: what should not happen there must not end them.
        if connecting.done() and not connecting.cancelled() and connecting.exception() is not None:
            link.problem = "Socket Mode has failed: report it with the log; it is tried again"
            _log.error("Slack buttons do not work", exc_info=connecting.exception())
            await pause(stop, LONGEST_WAIT_S)


def _detections(responder: Responder, found: Sequence[tuple[Detection, Source]]) -> None:
    for detection, source in found:
        responder.detection(detection, source)


def _acks(responder: Responder, found: Sequence[tuple[ControlAck, Source]]) -> None:
    for (ack, _), known in zip(found, responder.acks(found), strict=True):
        if not known:
            UNKNOWN_ACKS.inc()
            _log.warning("ack of an unknown command", command=ack.command_id, agent=ack.agent)


def _passed_over(record: Any, error: ValidationError) -> None:
    MALFORMED.labels(record.topic).inc()
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    _log.error(
        "malformed record passed over",
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        reason=f"{where}: {first['msg']}" if where else first["msg"],
    )


class _Consumer(ConsumerRebalanceListener):
    """One topic, read in order per partition, committed after each batch has been decided about."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, responder: Responder) -> None:
        self._consumer = consumer
        self._topic = topic
        self._responder = responder
        self.joined = asyncio.Event()

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Nothing is kept between batches, so there is nothing to give up."""

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Never start ahead of the store: put back from a backup, it reads again what it has lost."""
        decided = await asyncio.to_thread(offsets_of, self._responder.store, self._topic)
        for partition in assigned:
            known = decided.get(partition.partition)
            committed = await self._consumer.committed(partition)
            if known is not None and committed is not None and known < committed:
                self._consumer.seek(partition, known)
        self.joined.set()

    async def consume(
        self,
        stop: asyncio.Event,
        read: Callable[[bytes], T],
        decide: Callable[[Sequence[tuple[T, Source]]], None],
        work: Work,
        at_once: int = 1,
    ) -> None:
        """``decide`` about what is ``read`` from the records, so many of a partition at once."""
        while not stop.is_set():
            batches = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=500)
            done: dict[TopicPartition, int] = {}
            for partition, records in batches.items():
                for first in range(0, len(records), at_once):
                    some = records[first : first + at_once]
                    if not await self._handled(stop, read, decide, some, work):
                        return
                    done[partition] = some[-1].offset + 1
                    work.arrived()
            if done:
                await self._commit(done)

    async def _handled(
        self,
        stop: asyncio.Event,
        read: Callable[[bytes], T],
        decide: Callable[[Sequence[tuple[T, Source]]], None],
        records: Sequence[Any],
        work: Work,
    ) -> bool:
        """Whether the records are done with, readable or not; False only when stopped before."""
        found: list[tuple[T, Source]] = []
        for record in records:
            try:
                found.append(
                    (read(record.value or b""), Source(record.topic, record.partition, record.offset))
                )
            except ValidationError as error:
                _passed_over(record, error)

        async def step() -> int:
            await asyncio.to_thread(decide, found)
            return 1

        if found and not await _patiently(stop, step, work):
            return False
        CONSUMED.labels(self._topic).inc(len(found))
        return True

    async def _commit(self, done: dict[TopicPartition, int]) -> None:
        try:
            await self._consumer.commit(done)
        except (CommitFailedError, IllegalStateError) as error:
            # The partition is someone else's now: they read the records again, and the inbox knows them.
            _log.warning("offsets not committed", topic=self._topic, reason=type(error).__name__)
        except KafkaError as error:
            _log.warning("offsets not committed yet", topic=self._topic, reason=type(error).__name__)


@asynccontextmanager
async def _consumer(settings: Settings, topic: str, responder: Responder) -> AsyncIterator[_Consumer]:
    kafka = settings.kafka
    consumer = AIOKafkaConsumer(
        group_id=f"{kafka.group_prefix}-responder-{topic}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        # The embedded broker looks for new records only when a fetch begins and ends.
        fetch_max_wait_ms=FETCH_WAIT_MS,
        session_timeout_ms=kafka.session_timeout_ms,
        rebalance_timeout_ms=kafka.rebalance_timeout_ms,
        heartbeat_interval_ms=max(kafka.session_timeout_ms // 3, 300),
        **client_options(kafka),
    )
    reading = _Consumer(consumer, topic, responder)
    try:
        await consumer.start()
    except KafkaError as error:
        await consumer.stop()
        raise _no_broker(settings, error) from None
    try:
        if topic not in await consumer.topics():
            raise ServiceError(f"there is no topic {topic}: make it with watchkeeper topics create")
        consumer.subscribe([topic], listener=reading)
        yield reading
    finally:
        await consumer.stop()


@asynccontextmanager
async def _producer(settings: Settings) -> AsyncIterator[KafkaBus]:
    producer = AIOKafkaProducer(acks="all", request_timeout_ms=10_000, **client_options(settings.kafka))
    try:
        await producer.start()
    except KafkaError as error:
        await producer.stop()
        raise _no_broker(settings, error) from None
    try:
        yield KafkaBus(producer)
    finally:
        await producer.stop()


def _no_broker(settings: Settings, error: KafkaError) -> ServiceError:
    return ServiceError(
        f"no Kafka broker answers at {settings.kafka.bootstrap} ({type(error).__name__}): start one, or set"
        " WATCHKEEPER_KAFKA__BOOTSTRAP"
    )


@asynccontextmanager
async def _channels(settings: Settings, policy: Policy) -> AsyncIterator[channels.OpenChannels]:
    """Every channel that is set up; Slack's token is checked."""
    async with channels.open_channels(settings, policy) as opened:
        for channel in opened.values():
            if not isinstance(channel, SlackChannel):
                continue
            team = await channel.check()
            if team:
                _log.info("pages go to Slack", channel=channel.name, team=team)
            else:
                _log.warning("Slack does not answer now; pages wait for it", channel=channel.name)
        yield opened
