"""otlp_spans, otlp_logs → agent.events: spans and log records of instrumented agents become agent events.

What a span does not say about its agent and session is taken from what its trace has said so far, then from
`service.name` and the trace id. That memory is a function of the records alone (facts carry the offset since
which they are known, traces are forgotten in order of arrival): a replay tells the same again, same ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
import orjson
import xxhash

from schemas.base import MAX_FUTURE_MS, MAX_PAST_MS
from schemas.dead_letter import DEAD_LETTER, DeadLetter
from schemas.event import AGENT_EVENT, EVENT_SCHEMA, AgentEvent
from schemas.topics import DEAD, EVENTS, OTLP_LOGS, OTLP_SPANS
from streams import otlp_events as to
from streams import semconv
from streams.decode import Flaw, UnreadableError, clock_flaw, flaw_within, validated, with_dead_letters
from streams.otlp_wire import Attributes, Log, Span, read_logs, read_spans
from streams.stage import Marker, Output, Record, RecordBatch, Stage

MAX_TRACES = 4_096
"""Traces remembered per partition; about 200 bytes each."""

_MAX_STARTS = 16
_MAX_TIME_NS = 2**63


class Start(msgspec.Struct, array_like=True):
    """A session.start that was sent: for whom, with which tools, and with which record."""

    agent: str
    tools: str
    offset: int


class Trace(msgspec.Struct):
    """What is known of a trace, each fact with the offset of the record that told it."""

    since: int
    agent: str | None = None
    agent_since: int = 0
    agent_by_step: bool = False
    session: str | None = None
    session_since: int = 0
    starts: list[Start] = []


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(Trace).decode


class Traces:
    """The memory of one partition of one topic, bounded: the trace that came first is forgotten first."""

    def __init__(self) -> None:
        self.by_key: dict[bytes, Trace] = {}
        self.changed: set[bytes] = set()

    def restore(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self.by_key.pop(key, None)
        else:
            self.by_key[key] = _DECODE(value)

    def settle(self) -> None:
        """Restored traces came in any order; theirs is that of arrival."""
        self.by_key = dict(sorted(self.by_key.items(), key=lambda entry: (entry[1].since, entry[0])))

    def get(self, key: bytes, offset: int) -> Trace:
        trace = self.by_key.get(key)
        if trace is None:
            trace = self.by_key[key] = Trace(since=offset)
            self.changed.add(key)
            while len(self.by_key) > MAX_TRACES:
                oldest = next(iter(self.by_key))
                del self.by_key[oldest]
                self.changed.add(oldest)
        return trace

    def learn(self, key: bytes, item: Span | Log, kind: semconv.Kind, offset: int) -> None:
        """Keeps the first agent and the first session that a trace names."""
        trace = self.get(key, offset)
        agent = to.text(item, "agent")
        if agent is not None and trace.agent is None:
            trace.agent, trace.agent_since = agent, offset
            trace.agent_by_step = kind != "agent"
            self.changed.add(key)
        session = to.text(item, "session")
        if session is not None and trace.session is None:
            trace.session, trace.session_since = session, offset
            self.changed.add(key)

    def starts(self, key: bytes, agent: str, tools: str, offset: int) -> bool:
        """Whether this record is the one to announce that the agent is at work (again: with other tools)."""
        trace = self.get(key, offset)
        own = (start for start in trace.starts if start.agent == agent)
        same = next((start for start in own if start.tools == tools or not tools), None)
        if same is not None:
            return same.offset == offset and same.tools == tools
        if len(trace.starts) >= _MAX_STARTS:
            return False
        trace.starts = [*trace.starts, Start(agent, tools, offset)]
        self.changed.add(key)
        return True


class Conversion(NamedTuple):
    """What a request came to. ``skipped`` counts what is no agent's, by kind of span."""

    events: list[AgentEvent | Flaw]
    skipped: int


def convert(value: bytes | None, topic: str, offset: int, traces: Traces) -> Conversion:
    """The events of one OTLP request, in order of their time; a `Flaw` stands where one could not be made.

    Args:
        value: ExportTraceServiceRequest (topic `otlp_spans`) or ExportLogsServiceRequest, protobuf or JSON.
        offset: where the request stands in its partition: what `traces` learns of it is known from there on.
    """
    if value is None:
        return Conversion([Flaw("malformed", "the value is empty: expected an OTLP export request")], 0)
    try:
        items: list[Any] = list(read_spans(value) if topic == OTLP_SPANS else read_logs(value))
    except UnreadableError as error:
        return Conversion([error.flaw], 0)
    steps: list[tuple[Span | Log, semconv.Kind, bytes]] = []
    found: list[AgentEvent | Flaw] = [item for item in items if isinstance(item, Flaw)]
    skipped = 0
    for item in items:
        if isinstance(item, Flaw):
            continue
        kind = _kind(item)
        if kind is None:
            skipped += 1
        elif (flaw := _unusable(item)) is not None:
            found.append(flaw)
        else:
            steps.append((item, kind, f"{topic}/{item.trace_id}".encode()))
    for item, kind, key in steps:
        traces.learn(key, item, kind, offset)
    raws: dict[str, dict[str, Any]] = {}
    for item, kind, key in steps:
        for raw in _events(item, kind, key, offset, traces):
            raws.setdefault(raw["event_id"], raw)
    in_order = sorted(raws.values(), key=lambda raw: (raw["time"], raw["type"] != "session.start"))
    return Conversion([*found, *map(_made, in_order)], skipped)


def _made(raw: dict[str, Any]) -> AgentEvent | Flaw:
    if "agent" not in raw:
        return Flaw("invalid", "agent: neither gen_ai.agent.name nor the resource's service.name is set")
    try:
        doubtful = b"\\u0000" in orjson.dumps(raw)
    except TypeError:  # what JSON cannot hold
        doubtful = True
    return (flaw_within(raw, 1) if doubtful else None) or validated(raw)


def _kind(item: Span | Log) -> semconv.Kind | None:
    if isinstance(item, Span):
        kind = semconv.kind_of(item.attributes)
        judged = any(event.name == semconv.EVALUATION_EVENT for event in item.events)
        return "evaluation" if kind is None and judged else kind
    name = item.event_name or to.text(item, "event_name")
    return {semconv.EVALUATION_EVENT: "evaluation", semconv.LLM_EVENT: "llm"}.get(name or "")  # type: ignore[return-value]


def _unusable(item: Span | Log) -> Flaw | None:
    if not item.trace_id.strip("0") and to.text(item, "session") is None:
        return Flaw("invalid", "session: the span has neither gen_ai.conversation.id nor a trace id")
    if not item.span_id.strip("0") and isinstance(item, Span):
        return Flaw("invalid", "event_id: the span has no span id")
    times = (item.start_ns, item.end_ns) if isinstance(item, Span) else (item.time_ns,)
    if not any(times) or not all(0 <= time < _MAX_TIME_NS for time in times):
        return Flaw("invalid", "time: expected nanoseconds since 1970 in the span's start and end")
    return None


def _events(
    item: Span | Log, kind: semconv.Kind, key: bytes, offset: int, traces: Traces
) -> Iterator[dict[str, Any]]:
    """The raw events of one span or record. Their ids come from its ids, so a redelivery has the same."""
    trace = traces.get(key, offset)
    known_agent = trace.agent if trace.agent_since <= offset else None
    known_session = trace.session if trace.session_since <= offset else None
    agent = to.text(item, "agent") or known_agent or semconv.first(item.resource, "service")
    session = to.text(item, "session") or known_session or item.trace_id
    base = {"schema": EVENT_SCHEMA, "agent": agent, "session": session, **to.base_fields(item)}
    base = {name: value for name, value in base.items() if value is not None}
    own_id = f"{item.trace_id}-{item.span_id}" if item.span_id else f"log-{_digest(repr(item))}"
    time = to.time_of(item)

    tools = to.declared_tools(item)
    if kind in ("llm", "tool", "agent") and agent is not None:
        digest = _digest(repr(tools)) if tools else ""
        if traces.starts(key, str(agent), digest, offset):
            start_id = "start-" + _digest(f"{base['tenant']}/{session}/{agent}/{digest}")
            begun = {"event_id": start_id, "type": "session.start", "time": to.start_of(item)}
            yield {**base, **_present(tools), **begun}
    if kind == "llm":
        yield {**base, **_present(to.llm_fields(item)), "event_id": own_id, "time": time}
    if isinstance(item, Span):
        yield from _span_events(item, kind, base, own_id, _ends_session(item, trace, offset))
        judgements: list[Attributes] = [
            event.attributes for event in item.events if event.name == semconv.EVALUATION_EVENT
        ]
        if kind == "evaluation" and not judgements:
            judgements = [item.attributes]
    else:
        judgements = [item.attributes] if kind == "evaluation" else []
    for place, judgement in enumerate(judgements):
        fields = to.evaluation_fields(item, judgement, own_id if item.span_id else None)
        yield {**base, **_present(fields), "event_id": f"{own_id}-eval-{place}", "time": time}


def _span_events(
    item: Span, kind: semconv.Kind, base: dict[str, Any], own_id: str, ends_session: bool
) -> Iterator[dict[str, Any]]:
    own = {"event_id": own_id, "time": to.time_of(item)}
    if kind == "tool":
        yield {**base, **_present(to.tool_fields(item)), **own}
    elif kind == "retrieval":
        yield {**base, **_present(to.retrieval_fields(item)), **own}
    elif kind == "handoff":
        sender = to.text(item, "from_agent")
        yield {**base, **({"agent": sender} if sender else {}), **_present(to.message_fields(item)), **own}
    elif kind == "agent" and ends_session:
        yield {**base, "type": "session.end", "outcome": to.outcome_of(item), **own}


def _ends_session(item: Span, trace: Trace, offset: int) -> bool:
    """Whether this agent's run is the whole one, not a part that another agent ordered.

    Parents end after their parts, so the parent is not known yet; but the first step of a trace is taken by
    the agent on top, and a span without a parent is on top.
    """
    if not item.parent_span_id.strip("0"):
        return True
    known = trace.agent_by_step and trace.agent_since <= offset
    return known and to.text(item, "agent") == trace.agent


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _digest(text: str) -> str:
    return xxhash.xxh3_64_hexdigest(text.encode("utf-8", "surrogatepass"))


class OtlpProcessor:
    """Runs `convert` over the records of one partition. Its state is what it knows of traces."""

    def __init__(self) -> None:
        self._traces = Traces()
        self._offsets: dict[str, int] = {}
        self._watermark_ms = 0
        self.counts: Counter[str] = Counter()

    def restore(self, key: bytes, value: bytes | None) -> None:
        self._traces.restore(key, value)

    def restore_marker(self, value: bytes) -> None:
        marker = Marker.decode(value)
        self._offsets, self._watermark_ms = dict(marker.offsets), marker.watermark_ms
        self._traces.settle()

    def process(self, batch: RecordBatch) -> Iterable[Output]:
        return [output for record in batch.records for output in self._outputs(record)]

    def tick(self, broker_now_ms: int) -> Iterable[Output]:
        return ()

    def dirty(self) -> Iterable[tuple[bytes, bytes | None]]:
        changed, self._traces.changed = self._traces.changed, set()
        return [(key, self.value(key)) for key in sorted(changed)]

    def value(self, key: bytes) -> bytes | None:
        trace = self._traces.by_key.get(key)
        return None if trace is None else _ENCODE(trace)

    def marker(self) -> bytes:
        return Marker(self._offsets, self._watermark_ms).encode()

    def _outputs(self, record: Record) -> Iterator[Output]:
        conversion = convert(record.value, record.topic, record.offset, self._traces)
        self.counts["skipped"] += conversion.skipped
        self._offsets[record.topic] = max(record.offset, self._offsets.get(record.topic, -1))
        self._watermark_ms = max(self._watermark_ms, record.timestamp)
        found = [_timely(item, record.timestamp) for item in conversion.events]
        place = (record.value, record.topic, record.partition, record.offset, record.timestamp)
        for item in with_dead_letters(found, *place):
            # The record's own time, so that a replay writes the same again.
            if isinstance(item, DeadLetter):
                self.counts["dead"] += 1
                yield Output(DEAD, record.key, DEAD_LETTER.dump_json(item), record.timestamp)
            else:
                self.counts["events"] += 1
                value = AGENT_EVENT.dump_json(item, exclude_none=True)
                yield Output(EVENTS, item.session.encode(), value, record.timestamp)


def _timely(item: AgentEvent | Flaw, broker_time_ms: int) -> AgentEvent | Flaw:
    if isinstance(item, Flaw):
        return item
    ahead_ms = item.time.timestamp() * 1000 - broker_time_ms
    return item if -MAX_PAST_MS <= ahead_ms <= MAX_FUTURE_MS else clock_flaw(ahead_ms)


def otlp_stage() -> Stage:
    """The stage as the worker runs it."""
    return Stage(
        name="otlp",
        sources=(OTLP_SPANS, OTLP_LOGS),
        make=lambda _: OtlpProcessor(),
        outputs=(EVENTS, DEAD),
    )
