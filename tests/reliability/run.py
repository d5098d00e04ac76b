"""One run over what is on `agent.events`: workers behind a proxy each, in a consumer group of their own."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from detectors.records import Progress
from schemas import topics
from streams import behaviour, sessions
from streams.changelog import changelog_topic
from streams.checkpoint import MARKER_KEY
from tests.integration.parts.kafka_proxy import KafkaProxy
from tests.reliability.bus import Bus
from tests.reliability.outcome import Outcome, outcome_of
from tests.reliability.worker import StreamWorker, Trap, environment

DONE_TIMEOUT_S = 90.0
_LATENCY_MS = 2


@dataclass(frozen=True, slots=True)
class Run:
    bus: Bus
    group: str
    workers: Sequence[StreamWorker]
    proxies: Sequence[KafkaProxy]
    trap: Trap

    def start(self) -> None:
        """All workers, ready."""
        for worker in self.workers:
            worker.start()
        for worker in self.workers:
            worker.await_ready()

    @property
    def done(self) -> bool:
        """Everything on `agent.events` and then on `agent.windows` is committed. The windows of committed
        events are on the bus, so there is no more to come."""
        return all(
            {partition: end for partition, end in self.bus.ends(topic).items() if end}.items()
            <= self.bus.broker.committed(self.group, topic).items()
            for topic in (topics.EVENTS, topics.WINDOWS)
        )

    def await_done(self, timeout_s: float = DONE_TIMEOUT_S) -> None:
        self.until(lambda: self.done, timeout_s)

    def until(self, condition: Callable[[], bool], timeout_s: float = DONE_TIMEOUT_S) -> None:
        """Fails when it takes too long, or when a worker ends meanwhile."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            for worker in self.workers:
                assert worker.running, f"a worker ended by itself:\n{worker.log_tail()}"
            assert time.monotonic() < deadline, self._stuck()
            time.sleep(0.25)

    def finish(self) -> Outcome:
        """When all is done: stop the workers, in order, and see what there is."""
        self.await_done()
        for worker in self.workers:
            worker.await_ready()
        for worker in self.workers:
            worker.stop()
        return self.outcome()

    def outcome(self) -> Outcome:
        return outcome_of(self.bus, self.group)

    def assert_commits_are_covered(self) -> None:
        """No committed offset is past what the newest checkpoint in the changelog covers."""
        for stage, source in ((sessions.NAME, topics.EVENTS), (behaviour.NAME, topics.WINDOWS)):
            # First: what is committed meanwhile may be covered by what is written meanwhile.
            committed = self.bus.broker.committed(self.group, source)
            covered = dict.fromkeys(committed, 0)
            for record in self.bus.broker.records(changelog_topic(self.group, stage)):
                if record.key == MARKER_KEY:
                    applied = Progress.decode(record.value or b"").offsets.get(source, -1)
                    covered[record.partition] = max(applied + 1, covered.get(record.partition, 0))
            for partition, offset in committed.items():
                assert offset <= covered[partition], f"{source}[{partition}]: {offset} is committed"

    def _stuck(self) -> str:
        lines = [
            f"{topic}: {self.bus.broker.committed(self.group, topic)} of {self.bus.ends(topic)} committed"
            for topic in (topics.EVENTS, topics.WINDOWS)
        ]
        return "\n".join(["not done in time", *lines, *(worker.log_tail() for worker in self.workers)])


@contextmanager
def new_run(bus: Bus, folder: Path, *, workers: int = 1, **settings: object) -> Iterator[Run]:
    """Workers that are not started yet, over what `bus.load` has put there."""
    prefix = f"run-{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        proxies = [stack.enter_context(KafkaProxy.before(bus.broker, way)) for way in range(workers)]
        ours = []
        for number, proxy in enumerate(proxies):
            proxy.latency_ms = _LATENCY_MS
            env = environment(proxy.address, prefix, folder / f"data-{number}", **settings)
            worker = StreamWorker(env, folder / f"{prefix}-{number}.log")
            stack.callback(worker.end)
            ours.append(worker)
        yield Run(bus, f"{prefix}-stream", ours, proxies, Trap(ours, proxies))
