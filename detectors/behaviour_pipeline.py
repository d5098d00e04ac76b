"""One partition of `agent.windows`: windows merged per agent and closed when every source has passed, joined
into frames and shown to the detectors of behaviour; sessions learned from; facts shown to those of the fleet.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
from xxhash import xxh64_intdigest

from detectors.activity import Activity
from detectors.base import (
    BehaviourDetector,
    FleetContext,
    FleetDetector,
    Source,
    SummaryDetector,
    TimedBehaviourDetector,
    WindowContext,
    slot,
)
from detectors.learning import Learned, Learner
from detectors.objectives import Objective
from detectors.profile import AgentProfile
from detectors.records import AgentRecord, Frame, Progress
from detectors.registry import ENGINE, FLEET, FLEET_WINDOWS, SUMMARIES, behaviour
from detectors.summary import AgentUse, Fact, SessionSummary
from detectors.windows import FLEET_AGENT, Mark, Window, WindowRecord
from schemas.detection import Detection
from schemas.health import AgentHealth

BehaviourPipelineOutput = Detection | AgentProfile | AgentHealth
FRAME_MS: Final = 10_000
FRAME_EVENTS: Final = 32
SESSIONS_A_FRAME: Final = 32
NEVER: Final = float("inf")
NO_ACTIVITY: Final = Activity()


class BehaviourPipeline:
    """Takes the windows, marks, summaries and facts of one partition in offset order.

    A window closes once the marks of all `source_partitions` have passed its end. Until then the windows of
    an agent and start are kept by source partition, so that one received twice replaces itself; after that it
    is ignored. Closed windows are joined into a frame until it holds `FRAME_EVENTS` events or spans
    `FRAME_MS` and only then shown: what detectors cost follows agents and seconds, not events. Which windows
    are merged, and in which order detectors see them, therefore depends neither on how traffic is split over
    partitions nor on how far one lags behind another.

    Summaries are learned from at once, and shown, a sample of them, in the order of their ends. Facts count
    at once. Those of one source partition come in the order of their events, so one that is not after the
    last is one received twice.

    `objectives` is what agents are held to, unless `detectors` are given.
    """

    def __init__(
        self,
        source_partitions: int,
        detectors: Sequence[BehaviourDetector] | None = None,
        fleet: Sequence[FleetDetector] = FLEET,
        fleet_windows: Sequence[BehaviourDetector] = FLEET_WINDOWS,
        summaries: Sequence[SummaryDetector] | None = None,
        learner: Learner = Learner(),  # noqa: B008 - frozen
        objectives: Sequence[Objective] = (),
    ) -> None:
        if summaries is None:
            summaries = SUMMARIES if detectors is None else ()
        if detectors is None:
            detectors = (*behaviour(objectives), *ENGINE)
        self.source_partitions = source_partitions
        self.stale = 0
        self._detectors = [(slot(one), one) for one in detectors]
        self._fleet = [(slot(one), one) for one in fleet]
        self._fleet_windows = [(slot(one), one) for one in fleet_windows]
        self._summaries = [(slot(one), one) for one in summaries]
        self._timed = [
            (name, one) for name, one in self._detectors if isinstance(one, TimedBehaviourDetector)
        ]
        self._learner = learner
        self._types = {slot(one): one.State for one in (*detectors, *fleet, *fleet_windows, *summaries)}
        self._agents: dict[str, AgentRecord] = {}
        self._pending: dict[int, dict[str, AgentRecord]] = {}
        self._unshown: dict[str, AgentRecord] = {}
        self._heap: list[tuple[float, str]] = []
        self._progress = Progress()
        self._floor_ms = 0
        self._dirty: list[AgentRecord] = []
        self._context = WindowContext()
        self._fleet_context = FleetContext()
        self._source = Source("", 0, 0)

    def process(self, item: WindowRecord, source: Source) -> list[BehaviourPipelineOutput]:
        """Take one record of `agent.windows`; return what it, or the windows that it closes, complete."""
        self._progress.offsets[source.topic] = source.offset
        self._source = source
        if isinstance(item, Mark):
            return self._pass_mark(item)
        agent = FLEET_AGENT if isinstance(item, Fact) and item.kind != "deployment" else item.agent
        record = self._record(item.tenant, agent)
        if record.restored is not None and source.offset <= record.restored.get(source.topic, -1):
            return []
        record.applied[source.topic] = source.offset
        self._touch(record)
        if isinstance(item, Window):
            self._keep(record, item, source)
            return []
        if not record.first_time(item):
            return []
        return self._learn(record, item) if agent else self._show_fact(record, item)

    def finish(self) -> list[BehaviourPipelineOutput]:
        """After the last record: show what still waits, without letting time pass."""
        found: list[BehaviourPipelineOutput] = []
        waiting = {name: record for records in self._pending.values() for name, record in records.items()}
        self._pending.clear()
        for _, record in sorted({**self._unshown, **waiting}.items()):
            for start_ms in sorted(record.pending):
                found += self._join(record, start_ms)
            found += self._show(record)
            found += self._show_sessions(record, None)
        self._unshown.clear()
        return found

    def dirty(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Every key that changed since the last call and its bytes."""
        records, self._dirty = self._dirty, []
        for record in records:
            record.dirty = False
            yield record.key, record.encode()

    def value(self, key: bytes) -> bytes | None:
        """The bytes of one key as it is now; None if there is none."""
        record = self._agents.get(key.decode())
        return None if record is None else record.encode()

    def marker(self) -> bytes:
        """How far this has come, to be written after everything `dirty` gave."""
        return self._progress.encode()

    def restore(self, key: bytes, value: bytes | None) -> None:
        """Take back what `dirty` gave, before any window. A key may come more than once: the last counts."""
        name = key.decode()
        old = self._agents.pop(name, None)
        self._unshown.pop(name, None)
        for start_ms in old.pending if old is not None else ():
            self._pending[start_ms].pop(name, None)
        if value is None:
            return
        record = self._agents[name] = AgentRecord.decode(value, self._types)
        for start_ms in record.pending:
            self._pending.setdefault(start_ms, {})[name] = record
        if record.frame is not None or record.sessions:
            self._unshown[name] = record
        self._schedule(record)

    def restore_marker(self, value: bytes) -> None:
        """Take back the newest marker, after every key."""
        self._progress = Progress.decode(value)
        self._floor_ms = self._lowest_mark()
        self._progress.watermark_ms = self._floor_ms

    def _record(self, tenant: str, agent: str) -> AgentRecord:
        key = f"{tenant}/{agent}"
        record = self._agents.get(key)
        if record is None:
            record = self._agents[key] = AgentRecord(tenant=tenant, agent=agent)
        return record

    def _keep(self, record: AgentRecord, window: Window, source: Source) -> None:
        if window.end_ms <= max(record.floor_ms, self._floor_ms):
            self.stale += 1
            return
        record.pending.setdefault(window.start_ms, {})[window.source_partition] = (window, source.offset)
        self._pending.setdefault(window.start_ms, {})[record.name] = record

    def _learn(self, record: AgentRecord, item: SessionSummary | Fact) -> list[BehaviourPipelineOutput]:
        if isinstance(item, SessionSummary) and self._summaries:
            self._keep_session(record, item)
        if isinstance(item, SessionSummary) and not item.healthy:
            return []
        if record.learned is None:
            record.learned = Learned()
        if isinstance(item, Fact):
            self._learner.forget(record.learned, item)
        else:
            self._learner.learn(record.learned, item)
        return self._profile(record)

    def _keep_session(self, record: AgentRecord, item: SessionSummary) -> None:
        """Of those that end in the same stretch of `FRAME_MS`, those with the smallest hashes."""
        kept = msgspec.structs.replace(item, use=AgentUse())
        stretch = kept.end_ms // FRAME_MS
        together = [each for each in record.sessions if each.end_ms // FRAME_MS == stretch]
        record.sessions.append(kept)
        self._unshown[record.name] = record
        if len(together) >= SESSIONS_A_FRAME:
            record.sessions.remove(max([*together, kept], key=_session_rank))

    def _profile(self, record: AgentRecord, now_ms: int = 0) -> list[BehaviourPipelineOutput]:
        """The agent's profile, if it is due."""
        if record.learned is None:
            return []
        profile = self._learner.due(record.learned, record.tenant, record.agent, now_ms)
        return [] if profile is None else [profile]

    def _show_fact(self, record: AgentRecord, item: SessionSummary | Fact) -> list[BehaviourPipelineOutput]:
        if not isinstance(item, Fact):
            return []
        context = self._fleet_context
        context.tenant = item.tenant
        context.session = None
        context.agent = item.agent
        context.time_ms = item.time_ms
        context.event_id = item.event_id
        context.source = Source(item.source_topic, item.source_partition, item.source_offset)
        found: list[BehaviourPipelineOutput] = []
        for name, detector in self._fleet:
            if item.kind in detector.wants:
                found.extend(detector.update(self._state(record, name), item, context))
        return found

    def _pass_mark(self, mark: Mark) -> list[BehaviourPipelineOutput]:
        marks = self._progress.marks
        marks[mark.source_partition] = max(mark.watermark_ms, marks.get(mark.source_partition, 0))
        floor_ms = self._lowest_mark()
        if floor_ms <= self._floor_ms:
            return []
        self._floor_ms = self._progress.watermark_ms = floor_ms
        found: list[BehaviourPipelineOutput] = []
        for start_ms in sorted(start_ms for start_ms in self._pending if start_ms < floor_ms):
            for name, record in sorted(self._pending.pop(start_ms).items()):
                self._unshown[name] = record
        for name, record in sorted(self._unshown.items()):
            found += self._settle(record)
            if record.frame is None and not record.sessions:
                del self._unshown[name]
        while self._heap and self._heap[0][0] <= floor_ms - FRAME_MS:
            due_ms, name = heapq.heappop(self._heap)
            due = self._agents.get(name)
            if due is not None and due.due_ms == due_ms:
                found += self._run_timers(due, floor_ms - FRAME_MS)
        return found

    def _lowest_mark(self) -> int:
        marks = self._progress.marks
        if len(marks) < self.source_partitions:
            return 0
        return min(marks.values())

    def _settle(self, record: AgentRecord) -> list[BehaviourPipelineOutput]:
        """Join what has been closed of an agent, and show what is complete."""
        found: list[BehaviourPipelineOutput] = []
        for start_ms in sorted(start_ms for start_ms in record.pending if start_ms < self._floor_ms):
            found += self._join(record, start_ms)
        if record.frame is not None and self._floor_ms >= record.frame.window.start_ms + FRAME_MS:
            found += self._show(record)
        if record.sessions:
            found += self._show_sessions(record, self._floor_ms)
        return found

    def _join(self, record: AgentRecord, start_ms: int) -> list[BehaviourPipelineOutput]:
        """Close the windows of one start, into the frame that is open or a new one."""
        found: list[BehaviourPipelineOutput] = []
        frame = record.frame
        if frame is not None and start_ms >= frame.window.start_ms + FRAME_MS:
            found += self._show(record)
        for _, (window, offset) in sorted(record.pending.pop(start_ms).items()):
            frame = record.frame
            if frame is None:
                frame = record.frame = Frame(window.empty(), offset, offset)
            frame.window.merge(window)
            frame.from_offset = min(frame.from_offset, offset)
            frame.to_offset = max(frame.to_offset, offset)
        assert record.frame is not None
        record.floor_ms = max(record.floor_ms, record.frame.window.end_ms)
        self._touch(record)
        if record.frame.window.events >= FRAME_EVENTS:
            found += self._show(record)
        return found

    def _show(self, record: AgentRecord) -> list[BehaviourPipelineOutput]:
        frame = record.frame
        if frame is None:
            return []
        record.frame = None
        window = frame.window
        found = self._run_timers(record, window.start_ms)
        found += self._profile(record, window.end_ms)
        context = self._set_context(record, window.end_ms, frame)
        context.activity = window.total()
        detectors = self._detectors if record.agent else self._fleet_windows
        for name, detector in detectors:
            found.extend(detector.update(self._state(record, name), window, context))
        self._touch(record)
        self._schedule(record)
        return found

    def _show_sessions(self, record: AgentRecord, until_ms: int | None) -> list[BehaviourPipelineOutput]:
        """Show the sessions that ended before, once nothing that ended with them can come any more."""
        if until_ms is not None:
            until_ms -= until_ms % FRAME_MS
        ready = [each for each in record.sessions if until_ms is None or each.end_ms < until_ms]
        if not ready:
            return []
        record.sessions = [each for each in record.sessions if each not in ready]
        found: list[BehaviourPipelineOutput] = []
        for summary in sorted(ready, key=lambda each: (each.end_ms, each.session, each.source_ordinal)):
            context = self._set_context(record, summary.end_ms, None)
            context.activity = NO_ACTIVITY
            for name, detector in self._summaries:
                found.extend(detector.update(self._state(record, name), summary, context))
        self._touch(record)
        return found

    def _run_timers(self, record: AgentRecord, until_ms: float) -> list[BehaviourPipelineOutput]:
        """Ask the detectors that wanted to be asked by then, the earliest first."""
        found: list[BehaviourPipelineOutput] = []
        while record.due_ms <= until_ms:
            due_ms = record.due_ms
            context = self._set_context(record, due_ms, None)
            context.activity = NO_ACTIVITY
            for name, detector in self._timed:
                state = self._state(record, name)
                if detector.due_ms(state) == due_ms:
                    found.extend(detector.on_timer(state, context))
            self._touch(record)
            self._schedule(record)
        return found

    def _schedule(self, record: AgentRecord) -> None:
        if not record.agent or not self._timed:
            return
        dues = [detector.due_ms(self._state(record, name)) for name, detector in self._timed]
        due_ms = min((due for due in dues if due is not None), default=NEVER)
        if due_ms != record.due_ms:
            record.due_ms = due_ms
            if due_ms != NEVER:
                heapq.heappush(self._heap, (due_ms, record.name))

    def _set_context(self, record: AgentRecord, time_ms: float, frame: Frame | None) -> WindowContext:
        context = self._context
        context.tenant = record.tenant
        context.agent = record.agent
        context.session = None
        context.time_ms = time_ms
        context.event_id = ""
        topic, partition, _ = self._source
        offset = record.applied.get(topic, 0) if frame is None else frame.to_offset
        context.source = Source(topic, partition, offset)
        context.from_offset = offset if frame is None else frame.from_offset
        context.standings = record.standings
        return context

    def _state(self, record: AgentRecord, name: str) -> Any:
        state = record.slots.get(name)
        if state is None:
            state = record.slots[name] = self._types[name]()
        return state

    def _touch(self, record: AgentRecord) -> None:
        if not record.dirty:
            record.dirty = True
            self._dirty.append(record)


def _session_rank(summary: SessionSummary) -> tuple[int, int]:
    return xxh64_intdigest(summary.session.encode()), summary.source_ordinal


def detections(found: Iterable[BehaviourPipelineOutput]) -> list[Detection]:
    """Only the detections."""
    return [each for each in found if isinstance(each, Detection)]
