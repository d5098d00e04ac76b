"""Window accumulators: events added in, merged in any order, written to `agent.windows`.

These are the engine's mutable counterparts of `schemas.window` (same fields, a test keeps them equal).
Merging is associative and commutative because every field is an integer sum, a minimum, a maximum or the
smallest few of a set (`detectors.activity`, `detectors.bounded`).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from detectors.activity import MAX_NAMES, Activity, CallCounts
from detectors.bounded import count_under, merge_under
from detectors.slices import OTHER, dimensions
from detectors.summary import Fact, SessionSummary
from schemas.event import AgentEvent
from schemas.window import MARK_SCHEMA, WINDOW_SCHEMA

MERGED: Final = -1
MAX_PARTS: Final = 48
SAMPLE_SIZE: Final = 8
FLEET_AGENT: Final = ""
"""No agent has this name: it stands for all agents of a tenant."""


class SequenceSpan(msgspec.Struct):
    """Distinct events of one agent process, and the range of `seq` they spanned."""

    count: int
    min_seq: int
    max_seq: int

    def merge(self, other: SequenceSpan) -> None:
        self.min_seq = min(self.min_seq, other.min_seq) if self.count else other.min_seq
        self.max_seq = max(self.max_seq, other.max_seq) if self.count else other.max_seq
        self.count += other.count


class ProviderCalls(msgspec.Struct, omit_defaults=True):
    """Model calls of a provider, those that failed and were throttled, and by agent."""

    calls: int = 0
    errors: int = 0
    throttled: int = 0
    agents: dict[str, CallCounts] = {}

    def merge(self, other: ProviderCalls) -> None:
        self.calls += other.calls
        self.errors += other.errors
        self.throttled += other.throttled
        merge_under(self.agents, other.agents, CallCounts, most=MAX_NAMES, rest=OTHER)


class DeploymentSeen(msgspec.Struct, order=True, frozen=True, omit_defaults=True):
    """Something an agent is made of has changed."""

    time_ms: int
    event_id: str
    component: str
    name: str
    to_version: str
    from_version: str | None = None


class Window(msgspec.Struct, tag_field="schema", tag=WINDOW_SCHEMA, omit_defaults=True, kw_only=True):
    """One agent's events of one event-time window; fields as in `schemas.window.AgentWindow`."""

    tenant: str
    agent: str
    start_ms: int
    duration_ms: int
    source_partition: int
    events: int = 0
    late_events: int = 0
    samples: dict[str, list[str]] = {}
    processes: dict[str, SequenceSpan] = {}
    deployments: list[DeploymentSeen] = []
    parts: dict[str, Activity] = {}
    providers: dict[str, ProviderCalls] = {}

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.duration_ms

    @property
    def key(self) -> str:
        """The record key on `agent.windows`: ``tenant/agent``, or the tenant for a whole fleet."""
        return f"{self.tenant}/{self.agent}" if self.agent else self.tenant

    def empty(self) -> Window:
        """One of the same agent, time and partition in which nothing has happened."""
        return Window(
            tenant=self.tenant,
            agent=self.agent,
            start_ms=self.start_ms,
            duration_ms=self.duration_ms,
            source_partition=self.source_partition,
        )

    def total(self) -> Activity:
        """All slices together. Not to be changed."""
        if len(self.parts) == 1:
            return next(iter(self.parts.values()))
        whole = Activity()
        for part in self.parts.values():
            whole.merge(part)
        return whole

    def add(self, event: AgentEvent, slice_key: str, facts: Any) -> None:
        """Count one event of a session; `facts` are the session's, the event taken in."""
        self.events += 1
        if event.seq is not None:
            self._add_sequence(event.process or "", event.seq)
        if event.type == "deployment":
            self._add_deployment(event)
            return
        part = self.parts.get(slice_key)
        if part is None:
            part = count_under(self.parts, slice_key, Activity, most=MAX_PARTS, rest=OTHER)
            assert part is not None
        what = part.add(event, facts)
        if what is not None:
            known = self.samples.get(what, ())
            self.samples[what] = sorted({*known, event.event_id})[:SAMPLE_SIZE]

    def _add_sequence(self, process: str, seq: int) -> None:
        span = self.processes.get(process)
        if span is not None:
            span.count += 1
            if seq > span.max_seq:
                span.max_seq = seq
            elif seq < span.min_seq:
                span.min_seq = seq
            return
        span = count_under(self.processes, process, _no_span, most=MAX_NAMES, rest=None)
        if span is not None:
            span.merge(SequenceSpan(1, seq, seq))

    def _add_deployment(self, event: Any) -> None:
        seen = DeploymentSeen(
            event.time_ms, event.event_id, event.component, event.name, event.to_version, event.from_version
        )
        self.deployments = sorted({*self.deployments, seen})[:SAMPLE_SIZE]

    def merge(self, other: Window) -> None:
        """Add `other`, a window of the same agent, which is left as it was, into this one. It spans both."""
        if other.source_partition != self.source_partition:
            self.source_partition = MERGED
        end_ms = max(self.end_ms, other.end_ms)
        self.start_ms = min(self.start_ms, other.start_ms)
        self.duration_ms = end_ms - self.start_ms
        self.events += other.events
        self.late_events += other.late_events
        for what, event_ids in other.samples.items():
            self.samples[what] = sorted({*self.samples.get(what, ()), *event_ids})[:SAMPLE_SIZE]
        if other.deployments:
            self.deployments = sorted({*self.deployments, *other.deployments})[:SAMPLE_SIZE]
        merge_under(self.processes, other.processes, _no_span, most=MAX_NAMES, rest=None)
        merge_under(self.parts, other.parts, Activity, most=MAX_PARTS, rest=OTHER)
        merge_under(self.providers, other.providers, ProviderCalls, most=MAX_NAMES, rest=OTHER)

    def encode(self) -> bytes:
        """JSON of `schemas.window.AgentWindow`, zeros left out; the same bytes for the same counts."""
        return msgspec.json.encode(msgspec.to_builtins(self, str_keys=True, order="deterministic"))


class Mark(msgspec.Struct, tag_field="schema", tag=MARK_SCHEMA):
    """All windows of `source_partition` that end at or before `watermark_ms` have been emitted."""

    source_partition: int
    watermark_ms: int

    def encode(self) -> bytes:
        """JSON of `schemas.window.AgentWindowMark`."""
        return msgspec.json.encode(self)


WindowRecord = Window | Mark | SessionSummary | Fact
"""Whatever is on `agent.windows`."""

_DECODER = msgspec.json.Decoder(WindowRecord)


def decode(value: bytes) -> WindowRecord:
    """A record of `agent.windows`. Raises `msgspec.DecodeError` when it is not one."""
    record: WindowRecord = _DECODER.decode(value)
    return record


def fleet_windows(windows: list[Window]) -> list[Window]:
    """What agents' windows of one start and source partition say of their providers, by tenant."""
    fleets: dict[str, Window] = {}
    for window in windows:
        for key, part in window.parts.items():
            if not part.llm_calls:
                continue
            provider = dimensions(key).get("provider")
            if provider is None:
                continue
            fleet = fleets.get(window.tenant)
            if fleet is None:
                fleet = fleets[window.tenant] = Window(
                    tenant=window.tenant,
                    agent=FLEET_AGENT,
                    start_ms=window.start_ms,
                    duration_ms=window.duration_ms,
                    source_partition=window.source_partition,
                )
            calls = ProviderCalls(
                part.llm_calls,
                part.llm_errors,
                part.throttled,
                {window.agent: CallCounts(part.llm_calls, part.llm_errors)},
            )
            merge_under(fleet.providers, {provider: calls}, ProviderCalls, most=MAX_NAMES, rest=OTHER)
            fleet.events += part.llm_calls
    return list(fleets.values())


def _no_span() -> SequenceSpan:
    return SequenceSpan(0, 0, 0)
