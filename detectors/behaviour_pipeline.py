"""One partition of `agent.windows`: windows merged per agent and closed when every source has passed, healthy
sessions learned from, facts shown to the detectors of the fleet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from detectors.base import BehaviourDetector, FleetContext, FleetDetector, Source, WindowContext, slot
from detectors.learning import Learned, Learner
from detectors.profile import AgentProfile
from detectors.records import AgentRecord, Progress
from detectors.registry import BEHAVIOUR, ENGINE, FLEET
from detectors.summary import Fact, SessionSummary
from detectors.windows import Mark, Window, WindowRecord
from schemas.detection import Detection

BehaviourPipelineOutput = Detection | AgentProfile
FLEET_AGENT = ""
"""No agent has this name: the key of what is known of a tenant's fleet is ``tenant/``."""


class BehaviourPipeline:
    """Takes the windows, marks, summaries and facts of one partition in offset order.

    A window closes once the marks of all `source_partitions` have passed its end. Until then the windows of
    an agent and start are kept by source partition, so that one received twice replaces itself; after that it
    is ignored. Which windows are merged, and in which order detectors see them, therefore depends neither on
    how traffic is split over partitions nor on how far one lags behind another.

    Summaries and facts count at once. Those of one source partition come in the order of their events, so one
    that is not after the last is one received twice.
    """

    def __init__(
        self,
        source_partitions: int,
        detectors: Sequence[BehaviourDetector] = (*BEHAVIOUR, *ENGINE),
        fleet: Sequence[FleetDetector] = FLEET,
        learner: Learner = Learner(),  # noqa: B008 - frozen
    ) -> None:
        self.source_partitions = source_partitions
        self.stale = 0
        self._detectors: list[tuple[str, BehaviourDetector]] = [(slot(one), one) for one in detectors]
        self._fleet: list[tuple[str, FleetDetector]] = [(slot(one), one) for one in fleet]
        self._learner = learner
        self._types = {slot(one): one.State for one in (*detectors, *fleet)}
        self._agents: dict[str, AgentRecord] = {}
        self._pending: dict[int, dict[str, AgentRecord]] = {}
        self._progress = Progress()
        self._floor_ms = 0
        self._dirty: list[AgentRecord] = []
        self._context = WindowContext()
        self._fleet_context = FleetContext()

    def process(self, item: WindowRecord, source: Source) -> list[BehaviourPipelineOutput]:
        """Take one record of `agent.windows`; return what it, or the windows that it closes, complete."""
        self._progress.offsets[source.topic] = source.offset
        if isinstance(item, Mark):
            return self._pass_mark(item, source)
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
        return self._learn(record, item) if agent else self._show_fleet(record, item)

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
        for start_ms in old.pending if old is not None else ():
            self._pending[start_ms].pop(name, None)
        if value is None:
            return
        record = self._agents[name] = AgentRecord.decode(value, self._types)
        for start_ms in record.pending:
            self._pending.setdefault(start_ms, {})[name] = record

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
        self._pending.setdefault(window.start_ms, {})[window.key] = record

    def _learn(self, record: AgentRecord, item: SessionSummary | Fact) -> list[BehaviourPipelineOutput]:
        if record.learned is None:
            record.learned = Learned()
        if isinstance(item, Fact):
            self._learner.forget(record.learned, item)
        else:
            self._learner.learn(record.learned, item)
        return self._profile(record)

    def _profile(self, record: AgentRecord, now_ms: int = 0) -> list[BehaviourPipelineOutput]:
        """The agent's profile, if it is due."""
        if record.learned is None:
            return []
        profile = self._learner.due(record.learned, record.tenant, record.agent, now_ms)
        return [] if profile is None else [profile]

    def _show_fleet(self, record: AgentRecord, item: SessionSummary | Fact) -> list[BehaviourPipelineOutput]:
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
                state = record.slots.get(name)
                if state is None:
                    state = record.slots[name] = self._types[name]()
                found.extend(detector.update(state, item, context))
        return found

    def _pass_mark(self, mark: Mark, source: Source) -> list[BehaviourPipelineOutput]:
        marks = self._progress.marks
        marks[mark.source_partition] = max(mark.watermark_ms, marks.get(mark.source_partition, 0))
        floor_ms = self._lowest_mark()
        if floor_ms <= self._floor_ms:
            return []
        self._floor_ms = self._progress.watermark_ms = floor_ms
        detections: list[BehaviourPipelineOutput] = []
        for start_ms in sorted(self._pending):
            if start_ms >= floor_ms:
                break
            for _, record in sorted(self._pending.pop(start_ms).items()):
                detections.extend(self._close(record, start_ms, source))
        return detections

    def _lowest_mark(self) -> int:
        marks = self._progress.marks
        if len(marks) < self.source_partitions:
            return 0
        return min(marks.values())

    def _close(self, record: AgentRecord, start_ms: int, source: Source) -> list[BehaviourPipelineOutput]:
        parts = sorted(record.pending.pop(start_ms).items())
        merged = _copy(parts[0][1][0])
        for _, (window, _) in parts[1:]:
            merged.merge(window)
        record.floor_ms = max(record.floor_ms, merged.end_ms)
        self._touch(record)
        offsets = [offset for _, (_, offset) in parts]
        context = self._context
        context.tenant = record.tenant
        context.agent = record.agent
        context.session = None
        context.time_ms = merged.end_ms
        context.event_id = ""
        context.source = Source(source.topic, source.partition, max(offsets))
        context.from_offset = min(offsets)
        found = self._profile(record, merged.end_ms)
        for name, detector in self._detectors:
            state = record.slots.get(name)
            if state is None:
                state = record.slots[name] = self._types[name]()
            found.extend(detector.update(state, merged, context))
        return found

    def _touch(self, record: AgentRecord) -> None:
        if not record.dirty:
            record.dirty = True
            self._dirty.append(record)


def _copy(window: Window) -> Window:
    encoded: Any = msgspec.msgpack.encode(window)
    return msgspec.msgpack.decode(encoded, type=Window)
