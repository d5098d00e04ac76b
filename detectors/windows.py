"""Window accumulators: events added in, merged in any order, written to `agent.windows`.

These are the engine's mutable counterparts of `schemas.window` (same fields, a test keeps them equal).
Merging is associative and commutative because every field is an integer sum, a minimum, a maximum or the
smallest few of a set. What one event can add is capped: sums stay within 64 bits whatever an agent claims.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from detectors.summary import Fact, SessionSummary
from schemas.event import AgentEvent
from schemas.window import MARK_SCHEMA, WINDOW_SCHEMA

MERGED: Final = -1
MAX_NAMES: Final = 64
OTHER: Final = "other"
SAMPLE_SIZE: Final = 8
MAX_CALL_S: Final = 1e4
MAX_CALL_TOKENS: Final = 10**9
MAX_CALL_USD: Final = 1e6


class Moments(msgspec.Struct, omit_defaults=True):
    """Count, sum and sum of squares, the sums in micro-units."""

    count: int = 0
    sum_micro: int = 0
    sum_squares_micro: int = 0

    def add(self, value: float) -> None:
        micro = value * 1e6
        self.count += 1
        self.sum_micro += int(micro + 0.5)
        self.sum_squares_micro += int(value * micro + 0.5)

    def merge(self, other: Moments) -> None:
        self.count += other.count
        self.sum_micro += other.sum_micro
        self.sum_squares_micro += other.sum_squares_micro


class CallCounts(msgspec.Struct, omit_defaults=True):
    """Calls, and how many of them failed."""

    calls: int = 0
    errors: int = 0

    def merge(self, other: CallCounts) -> None:
        self.calls += other.calls
        self.errors += other.errors


class SequenceSpan(msgspec.Struct):
    """Distinct events of one agent process, and the range of `seq` they spanned."""

    count: int
    min_seq: int
    max_seq: int

    def merge(self, other: SequenceSpan) -> None:
        self.count += other.count
        self.min_seq = min(self.min_seq, other.min_seq)
        self.max_seq = max(self.max_seq, other.max_seq)


class Window(msgspec.Struct, tag_field="schema", tag=WINDOW_SCHEMA, omit_defaults=True, kw_only=True):
    """One agent's events of one event-time window; fields as in `schemas.window.AgentWindow`."""

    tenant: str
    agent: str
    start_ms: int
    duration_ms: int
    source_partition: int
    events: int = 0
    late_events: int = 0
    sessions_started: int = 0
    outcomes: dict[str, int] = {}
    llm_calls: int = 0
    llm_errors: int = 0
    refusals: int = 0
    refusals_known: int = 0
    refusal_event_ids: list[str] = []
    input_tokens: int = 0
    output_tokens: int = 0
    cost_known_calls: int = 0
    cost_unknown_calls: int = 0
    cost_usd_micro: int = 0
    tool_calls: int = 0
    tool_errors: int = 0
    escalations: int = 0
    messages: dict[str, int] = {}
    evaluations: dict[str, Moments] = {}
    canaries: dict[str, CallCounts] = {}
    feedback: dict[str, int] = {}
    llm_duration_s: Moments = msgspec.field(default_factory=Moments)
    tool_duration_s: Moments = msgspec.field(default_factory=Moments)
    providers: dict[str, CallCounts] = {}
    processes: dict[str, SequenceSpan] = {}

    @property
    def end_ms(self) -> int:
        return self.start_ms + self.duration_ms

    @property
    def key(self) -> str:
        """The record key on `agent.windows`: ``tenant/agent``."""
        return f"{self.tenant}/{self.agent}"

    def add(self, event: AgentEvent) -> None:
        """Count one event. Absent facts are not counted as their opposite."""
        self.events += 1
        if event.seq is not None:
            self._add_sequence(event.process or "", event.seq)
        adder = _ADDERS.get(event.type)
        if adder is not None:
            adder(self, event)

    def _add_sequence(self, process: str, seq: int) -> None:
        span = self.processes.get(process)
        if span is not None:
            span.count += 1
            if seq > span.max_seq:
                span.max_seq = seq
            elif seq < span.min_seq:
                span.min_seq = seq
        elif len(self.processes) < MAX_NAMES:
            self.processes[process] = SequenceSpan(1, seq, seq)

    def merge(self, other: Window) -> None:
        """Add `other`, a window of the same agent and start, into this one. `other` is left as it was."""
        if other.source_partition != self.source_partition:
            self.source_partition = MERGED
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _COUNTS:
            mine = getattr(self, name)
            for label, count in getattr(other, name).items():
                mine[label] = mine.get(label, 0) + count
        for name in _PARTS:
            _merge_parts(getattr(self, name), getattr(other, name))
        self.llm_duration_s.merge(other.llm_duration_s)
        self.tool_duration_s.merge(other.tool_duration_s)
        self.refusal_event_ids = sorted({*self.refusal_event_ids, *other.refusal_event_ids})[:SAMPLE_SIZE]

    def encode(self) -> bytes:
        """JSON of `schemas.window.AgentWindow`, zeros left out; the same bytes for the same counts."""
        return msgspec.json.encode(self, order="deterministic")


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


_COUNTS = ("outcomes", "messages", "feedback")
_PARTS = ("evaluations", "canaries", "providers", "processes")
_SUMS = (
    "events",
    "late_events",
    "sessions_started",
    "llm_calls",
    "llm_errors",
    "refusals",
    "refusals_known",
    "input_tokens",
    "output_tokens",
    "cost_known_calls",
    "cost_unknown_calls",
    "cost_usd_micro",
    "tool_calls",
    "tool_errors",
    "escalations",
)


def _merge_parts(mine: dict[str, Any], others: dict[str, Any]) -> None:
    for label, part in others.items():
        own = mine.get(label)
        if own is None:
            mine[label] = msgspec.structs.replace(part)
        else:
            own.merge(part)


def _label(counts: dict[str, Any], label: str) -> str:
    return label if label in counts or len(counts) < MAX_NAMES else OTHER


def _add_session_start(window: Window, _: Any) -> None:
    window.sessions_started += 1


def _add_session_end(window: Window, event: Any) -> None:
    window.outcomes[event.outcome] = window.outcomes.get(event.outcome, 0) + 1


def _add_llm_call(window: Window, event: Any) -> None:
    window.llm_calls += 1
    sent, received = event.input_tokens, event.output_tokens
    window.input_tokens += sent if sent < MAX_CALL_TOKENS else MAX_CALL_TOKENS
    window.output_tokens += received if received < MAX_CALL_TOKENS else MAX_CALL_TOKENS
    failed = event.status == "error"
    if failed:
        window.llm_errors += 1
    if event.refusal is not None:
        window.refusals_known += 1
        if event.refusal:
            window.refusals += 1
            window.refusal_event_ids = sorted({*window.refusal_event_ids, event.event_id})[:SAMPLE_SIZE]
    if event.cost_usd is None:
        window.cost_unknown_calls += 1
    else:
        window.cost_known_calls += 1
        cost_usd = event.cost_usd
        window.cost_usd_micro += int((cost_usd if cost_usd < MAX_CALL_USD else MAX_CALL_USD) * 1e6 + 0.5)
    if event.duration_ms is not None:
        duration_s = event.duration_ms / 1000
        window.llm_duration_s.add(duration_s if duration_s < MAX_CALL_S else MAX_CALL_S)
    if event.provider is not None:
        _count_call(window.providers, event.provider, failed)


def _add_tool_call(window: Window, event: Any) -> None:
    window.tool_calls += 1
    if event.status == "error":
        window.tool_errors += 1
    if event.duration_ms is not None:
        duration_s = event.duration_ms / 1000
        window.tool_duration_s.add(duration_s if duration_s < MAX_CALL_S else MAX_CALL_S)


def _add_message(window: Window, event: Any) -> None:
    window.messages[event.intent] = window.messages.get(event.intent, 0) + 1


def _add_escalation(window: Window, _: Any) -> None:
    window.escalations += 1


def _add_evaluation(window: Window, event: Any) -> None:
    label = _label(window.evaluations, event.name)
    moments = window.evaluations.get(label)
    if moments is None:
        moments = window.evaluations[label] = Moments()
    moments.add(event.score)


def _add_canary(window: Window, event: Any) -> None:
    _count_call(window.canaries, event.canary, not event.passed)


def _add_feedback(window: Window, event: Any) -> None:
    window.feedback[event.kind] = window.feedback.get(event.kind, 0) + 1


def _count_call(counts: dict[str, CallCounts], name: str, failed: bool) -> None:
    calls = counts.get(name)
    if calls is None:
        label = _label(counts, name)
        calls = counts.get(label)
        if calls is None:
            calls = counts[label] = CallCounts()
    calls.calls += 1
    if failed:
        calls.errors += 1


_ADDERS = {
    "session.start": _add_session_start,
    "session.end": _add_session_end,
    "llm.call": _add_llm_call,
    "tool.call": _add_tool_call,
    "message": _add_message,
    "escalation": _add_escalation,
    "evaluation": _add_evaluation,
    "canary": _add_canary,
    "feedback": _add_feedback,
}
