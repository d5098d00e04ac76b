"""Event streams made by hypothesis, dense with what detectors look for, and a pipeline that can crash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from detectors.base import Source
from detectors.offline import FAR_MS
from detectors.registry import SESSION
from detectors.session_pipeline import SessionPipeline, SessionPipelineOutput
from detectors.summary import Fact, SessionSummary
from detectors.testing import START_MS
from detectors.windows import Mark, Window
from schemas.base import from_epoch_ms
from schemas.detection import Detection
from schemas.event import AGENT_EVENT, AgentEvent
from schemas.topics import EVENTS

CALL = {"type": "tool.call", "tool": "search", "arguments_hash": "a", "result_hash": "r", "status": "ok"}
FAILED = {**CALL, "status": "error", "error_type": "invalid_api_key"}
LLM = {"type": "llm.call", "request_model": "m", "input_tokens": 900, "output_tokens": 100, "status": "ok"}
ASK = {"type": "message", "to_agent": "verifier", "intent": "clarification"}
KINDS: list[dict[str, Any]] = [
    CALL,
    CALL,
    {**CALL, "result_hash": "r2"},
    {**CALL, "tool": "undeclared"},
    FAILED,
    FAILED,
    {**CALL, "status": "error", "error_type": "rate_limit"},
    LLM,
    {**LLM, "refusal": True, "cost_usd": 0.1, "duration_ms": 5.5, "provider": "p"},
    {**LLM, "status": "error", "error_type": "overloaded"},
    ASK,
    {**ASK, "agent": "verifier", "to_agent": "agent"},
    {**ASK, "intent": "answer", "content_hash": "c"},
    {"type": "session.start", "declared_tools": ["search"], "budget": {"tokens": 5000, "wall_ms": 60_000}},
    {"type": "session.start", "credential": "key", "parent_session": "p"},
    {**CALL, "credential": "other", "argument_keys": ["q"], "result_shape": "[string]", "result_items": 2},
    {**CALL, "effect": "mail.send", "irreversible": True, "argument_keys": ["to"]},
    {**CALL, "result_shape": "{a:number}", "result_items": 0, "result_total": 3},
    {**CALL, "result_shape": "{b:string}", "result_items": 4},
    {"type": "effect", "ref": "e3", "confirmed": True},
    {"type": "effect", "ref": "e2", "confirmed": False},
    {"type": "retrieval", "index": "mail", "index_version": "1.2", "documents": 2, "owner": "u2"},
    {"type": "retrieval", "index": "mail", "index_version": "1.1", "documents": 0, "top_score": 0.5},
    {**LLM, "finish_reasons": ["length"], "response_model": "gpt-4"},
    {"type": "session.start", "goal": "g", "user": "u1", "allowed_effects": ["mail.read"]},
    {"type": "session.end", "outcome": "completed"},
    {"type": "evaluation", "name": "groundedness", "score": 0.7},
    {"type": "evaluation", "name": "tone", "score": 0.2, "attributes": {"language": "de", "beta": True}},
    {**LLM, "confidence": 0.8, "prompt_version": "v2", "embedding": [0.25, -1.5, 3.0], "ttft_ms": 80.0},
    {"type": "canary", "canary": "sum", "passed": False},
    {"type": "feedback", "kind": "thumb", "value": -1.0},
    {"type": "escalation", "to": "human"},
    {"type": "deployment", "component": "prompt", "name": "system", "to_version": "v2"},
    {"type": "heartbeat", "seq": 3},
]
GAPS_MS = [0, 0, 700, 3_000, 11_000, 2_000_000]


@st.composite
def streams(draw: st.DrawFn, max_size: int = 60) -> list[AgentEvent]:
    """Events of three sessions in time order; runs of the same kind are likely."""
    time_ms = START_MS
    made: list[AgentEvent] = []
    runs = st.tuples(
        st.sampled_from(KINDS), st.integers(1, 6), st.sampled_from(GAPS_MS), st.sampled_from("abc")
    )
    for kind, times, gap_ms, session in draw(st.lists(runs, min_size=1, max_size=14)):
        for _ in range(times):
            time_ms += gap_ms
            fields = {"agent": "agent", **kind, "session": session, "event_id": f"e{len(made)}"}
            made.append(AGENT_EVENT.validate_python({**fields, "time": from_epoch_ms(time_ms)}))
    return made[:max_size]


Outcome = dict[Any, Any]


def outcome(outputs: Sequence[SessionPipelineOutput]) -> Outcome:
    """What is left of outputs downstream: detections by id, windows by identity, the highest mark; summaries
    and facts by what they are of, wherever that stands.
    """
    kept: Outcome = {}
    for output in outputs:
        if isinstance(output, Detection):
            kept[output.detection_id] = (output.detector, output.severity, output.time, output.agent)
        elif isinstance(output, Window):
            kept[output.key, output.start_ms] = output.encode()
        elif isinstance(output, Mark):
            kept["mark"] = max(kept.get("mark", 0), output.watermark_ms)
        elif isinstance(output, SessionSummary):
            kept[output.key, output.session, output.start_ms, output.end_ms] = _placeless(output)
        elif isinstance(output, Fact):
            kept[output.event_id, output.kind] = _placeless(output)
    return kept


def _placeless(output: SessionSummary | Fact) -> bytes:
    nowhere = {"source_offset": 0, "source_index": 0, "source_ordinal": 0}
    return msgspec.structs.replace(output, **nowhere).encode()


class Driver:
    """A pipeline with its changelog: takes records, checkpoints, and comes back after a crash."""

    def __init__(self) -> None:
        self.pipeline = SessionPipeline(0, SESSION)
        self.changelog: dict[bytes, bytes] = {}
        self.marker: bytes | None = None
        self.marked = -1
        self.outputs: list[SessionPipelineOutput] = []

    def take(self, records: Sequence[AgentEvent], first: int, last: int) -> None:
        """Process the records from `first` up to, not including, `last`; two events share one offset."""
        for place in range(first, last):
            self.outputs += self.pipeline.process(records[place], Source(EVENTS, 0, place // 2))

    def checkpoint(self, place: int, keys: int | None = None) -> None:
        """Write all state, or only the first `keys` keys and no marker, as a crash half-way leaves it."""
        for number, (key, value) in enumerate(self.pipeline.dirty()):
            if keys is not None and number >= keys:
                return
            if value is None:
                self.changelog.pop(key, None)
            else:
                self.changelog[key] = value
        marker = self.pipeline.marker()
        if keys is None:
            self.marker, self.marked = marker, place

    def crash(self) -> None:
        """Lose everything but the changelog."""
        self.pipeline = SessionPipeline(0, SESSION)
        for key, value in self.changelog.items():
            self.pipeline.restore(key, value)
        if self.marker is not None:
            self.pipeline.restore_marker(self.marker)

    def finish(self) -> Outcome:
        """Let a day pass and sum up."""
        self.outputs += self.pipeline.advance(self.pipeline.watermark_ms + FAR_MS)
        return outcome(self.outputs)


def straight(records: Sequence[AgentEvent]) -> Outcome:
    """The outcome without any crash."""
    driver = Driver()
    driver.take(records, 0, len(records))
    return driver.finish()
