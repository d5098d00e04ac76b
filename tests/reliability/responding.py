"""`watchkeeper respond` as processes on one store, the Slack they page, and gates that obey what they order.

A scene has a tenant and a consumer group of its own: what other runs have left on the topics is not its.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import orjson
from aiohttp import web
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from sqlalchemy import select

from responders.fake_slack import GOOD_TOKEN, FakeSlack
from responders.fake_slack.workspace import Posted
from responders.handle import offsets_of
from responders.incident import Incident, fold
from responders.store import tables
from responders.store.event_store import Store, events_of
from responders.store.migrations import upgrade
from schemas import topics
from schemas.detection import Detection
from schemas.incident import IncidentEvent
from tests.integration.parts.kafka_proxy import KafkaProxy
from tests.reliability.bus import Bus
from tests.reliability.worker import COMMAND, StreamWorker, Trap, environment
from tests.responders.world import ack_of, detection

T = TypeVar("T")
DONE_TIMEOUT_S = 120.0
LATENCY_MS = 2
RESPOND = (*COMMAND[:-1], "respond", "--http-port", "0")
POLICY = """
[storm]
pages_a_minute = 100000

[containment]
verify_quiet_ms = 500
"""
PAST_THE_STORE = "page:STORE-"
_HISTORY = "containment_delivered", "containment_applied", "containment_verified", "mitigated"


class Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> Callable[[float], T]:
        """Begin; the result is asked for with how long to wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.start(work)(30.0)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


@dataclass
class WatchedSlack(FakeSlack):
    """Tells what it has accepted before it answers."""

    on_accepted: Callable[[str], None] = lambda _: None

    async def _called(self, method: str, request: web.Request) -> web.Response:
        answer = await super()._called(method, request)
        self.on_accepted(method)
        return answer

    def posted(self) -> Counter[str]:
        """How often each page of an incident is in the channel, by its key."""
        return Counter(key for _, key in self._pages() if not key.startswith(PAST_THE_STORE))

    def told_past_the_store(self) -> list[Posted]:
        """The pages that say that the store takes nothing."""
        return [page for page, key in self._pages() if key.startswith(PAST_THE_STORE)]

    def _pages(self) -> list[tuple[Posted, str]]:
        kept = list(self.messages)
        return [(each, each.metadata["event_payload"]["page_key"]) for each in kept if each.metadata]


@dataclass
class Gates:
    """Beside every agent of the tenant, and of those whose name starts alike, on the bus: confirms each
    command once, as soon as it is heard.
    """

    bootstrap: str
    tenant: str
    heard: dict[str, dict[str, Any]] = field(default_factory=dict)
    heard_s: dict[str, float] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)

    async def run(self) -> None:
        consumer: Any = AIOKafkaConsumer(
            topics.CONTROL,
            bootstrap_servers=self.bootstrap,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=20,
        )
        producer: Any = AIOKafkaProducer(bootstrap_servers=self.bootstrap)
        await consumer.start()
        await producer.start()
        try:
            while not self.stopping.is_set():
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    for record in records:
                        await self._obey(producer, record.key, orjson.loads(record.value))
        finally:
            await consumer.stop()
            await producer.stop()

    async def _obey(self, producer: Any, key: bytes, command: dict[str, Any]) -> None:
        ours = command["target"]["tenant"].startswith(self.tenant)
        if not ours or command["command_id"] in self.heard:
            return
        self.heard_s[command["command_id"]] = time.monotonic()
        self.heard[command["command_id"]] = command
        ack = ack_of(command, datetime.now(UTC)).model_dump_json(by_alias=True).encode()
        await producer.send_and_wait(topics.ACKS, ack, key=key)


@dataclass
class Scene:
    """Everything around the responders, which outlives them."""

    bus: Bus
    tenant: str
    group: str
    database: str
    slack: WatchedSlack
    slack_loop: Loop
    gates: Gates
    responders: Sequence[StreamWorker]
    trap: Trap
    store: Store
    sent: list[str] = field(default_factory=list)
    sent_s: dict[str, float] = field(default_factory=dict)

    def start(self, *which: int) -> None:
        """Those responders (all, when none is named), ready."""
        chosen = [self.responders[each] for each in which] or list(self.responders)
        for responder in chosen:
            responder.start()
        for responder in chosen:
            responder.await_ready()

    def detect(self, count: int) -> list[str]:
        """So many agents are found in a loop, each for the first time; their names."""
        names = [f"agent-{len(self.sent) + number:04}" for number in range(count)]
        self.bus.broker.produce(topics.DETECTIONS, [self._pair(name) for name in names])
        for name in names:
            self.sent_s[name] = time.monotonic()
        self.sent += names
        return names

    def detect_again(self, names: Sequence[str]) -> None:
        """The bus delivers at least once."""
        self.bus.broker.produce(topics.DETECTIONS, [self._pair(name) for name in names])

    def _pair(self, agent: str) -> tuple[bytes, bytes]:
        now = datetime.now(UTC)
        found: Detection = detection(
            f"{self.tenant}-{agent}",
            tenant=self.tenant,
            agent=agent,
            session=f"{self.tenant}-{agent}",
            time=now,
            onset=now,
        )
        return f"{self.tenant}/{agent}".encode(), found.model_dump_json(by_alias=True).encode()

    def incidents(self) -> list[Incident]:
        """Those of the tenant, and of the ones whose name starts alike."""
        with self.store.reading() as connection:
            ids = connection.execute(select(tables.incidents.c.incident_id)).scalars().all()
            folded = [fold(events_of(connection, each)) for each in ids]
        return [each for each in folded if each is not None and each.tenant.startswith(self.tenant)]

    def log(self, incident_id: str) -> list[IncidentEvent]:
        with self.store.reading() as connection:
            return events_of(connection, incident_id)

    @property
    def done(self) -> bool:
        """Every detection's incident is proved to be contained, and nothing waits to be sent."""
        with self.store.reading() as connection:
            states = connection.execute(
                select(tables.incidents.c.state).where(tables.incidents.c.tenant == self.tenant)
            ).scalars()
            mitigated = list(states).count("mitigated")
            waiting = connection.execute(
                select(tables.outbox.c.row_id).where(tables.outbox.c.status.in_(("pending", "claimed")))
            ).first()
        return mitigated == len(self.sent) and waiting is None

    def until(self, condition: Callable[[], object], timeout_s: float = DONE_TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, self._stuck()
            time.sleep(0.1)

    def finish(self, at_most_twice: int = 0) -> None:
        self.until(lambda: self.done)
        self.assert_nothing_lost_or_doubled(at_most_twice)

    def assert_nothing_lost_or_doubled(self, at_most_twice: int = 0) -> None:
        """``at_most_twice``: so many pages may be there twice, those of the named window."""
        incidents = self.incidents()
        found = [each.agent for each in incidents if each.tenant == self.tenant]
        assert sorted(found) == self.sent
        assert len(self.gates.heard) == len(incidents)
        wanted: set[str] = set()
        for incident in incidents:
            types = Counter(event.type for event in self.log(incident.incident_id))
            for once in ("triggered", "containment_requested", "containment_issued", *_HISTORY):
                assert types[once] == 1, f"{once}: {types}"
            slack = [page for page in incident.pages.values() if page.channel.startswith("slack:")]
            assert [page.state for page in slack] == ["delivered"], f"{incident.pages}"
            wanted |= {f"page:{incident.incident_id}:{page.page}:{page.channel}" for page in slack}
        posted = self.slack.posted()
        assert set(posted) == wanted, f"lost: {wanted - set(posted)}, not asked for: {set(posted) - wanted}"
        assert sum(posted.values()) - len(posted) <= at_most_twice, (
            f"doubled: {posted - Counter(set(posted))}"
        )
        self._assert_the_log_is_published(incidents)
        self.assert_offsets_are_covered()

    def _assert_the_log_is_published(self, incidents: Sequence[Incident]) -> None:
        on_the_bus: dict[str, set[int]] = {}
        for value in self.bus.values(topics.INCIDENTS):
            event = orjson.loads(value)
            on_the_bus.setdefault(event["incident_id"], set()).add(event["version"])
        for incident in incidents:
            assert on_the_bus[incident.incident_id] == set(range(1, incident.version + 1))

    def assert_offsets_are_covered(self) -> None:
        """Kafka's offset is never ahead of the database's."""
        for topic in (topics.DETECTIONS, topics.ACKS):
            # First: the database may go on meanwhile.
            committed = self.bus.broker.committed(f"{self.group}-responder-{topic}", topic)
            decided = offsets_of(self.store, topic)
            for partition, offset in committed.items():
                assert offset <= decided.get(partition, 0), f"{topic}[{partition}]: {offset} is committed"

    def _stuck(self) -> str:
        box = tables.outbox
        with self.store.reading() as connection:
            left = connection.execute(select(box).where(box.c.status.in_(("pending", "claimed")))).all()
        tails = [responder.log_tail() for responder in self.responders]
        counts = f"{len(self.sent)} sent, {len(self.gates.heard)} heard, at {time.time():.3f} s left:"
        return "\n".join([counts, *map(str, left), *tails])


@contextmanager
def new_scene(
    bus: Bus, folder: Path, database: str, *, responders: int = 1, policy: str = POLICY, **settings: object
) -> Iterator[Scene]:
    """Responders that are not started yet, each behind a proxy of its own."""
    name = f"scene-{uuid.uuid4().hex[:8]}"
    bus.empty(topics.DETECTIONS, topics.ACKS)
    # What other tests had agents do no stream worker of this scene will look at.
    bus.read_by(f"{name}-stream", topics.EVENTS)
    upgrade(database)
    (folder / "policy.toml").write_text(policy)
    with ExitStack() as stack:
        loop = Loop()
        stack.callback(loop.stop)
        slack = WatchedSlack()
        base_url = loop.run(slack.start())
        stack.callback(lambda: loop.run(slack.stop()))
        gates = Gates(bus.broker.bootstrap, name)
        obeying = loop.start(gates.run())
        stack.callback(lambda: obeying(30.0))
        stack.callback(gates.stopping.set)
        proxies = [stack.enter_context(KafkaProxy.before(bus.broker, way)) for way in range(responders)]
        workers = [
            StreamWorker(_environment(proxy, name, folder, database, base_url, settings), log, RESPOND)
            for number, proxy in enumerate(proxies)
            if (log := folder / f"{name}-{number}.log")
        ]
        for worker in workers:
            stack.callback(worker.end)
        for proxy in proxies:
            proxy.latency_ms = LATENCY_MS
        store = Store.open(database)
        stack.callback(store.close)
        trap = Trap(workers, proxies)
        yield Scene(bus, name, name, database, slack, loop, gates, workers, trap, store)


def _environment(
    proxy: KafkaProxy,
    group: str,
    folder: Path,
    database: str,
    slack_url: str,
    settings: Mapping[str, object],
) -> dict[str, str]:
    ours: dict[str, object] = {
        "DATABASE__URL": database,
        "POLICY": folder / "policy.toml",
        "SLACK__BOT_TOKEN": GOOD_TOKEN,
        "SLACK__BASE_URL": slack_url,
    }
    return environment(proxy.address, group, folder / "data", **ours, **settings)
