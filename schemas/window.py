"""``agent.window/1`` and ``agent.window.mark/1``: what an agent did in a stretch of event time, and how far a
partition has come.

Everything in a window is a count, an exact integer sum or a bounded sample, so that windows of one agent
and start merge to the same result in any order and grouping. Sums of measured values are kept in whole
micro-units (1e-6 of a score, a dollar or a second), because adding floats is not associative.

``detectors.windows`` holds the mutable counterparts that events are added into; a test keeps them equal.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter

from schemas.base import Contract, Count, Identifier

WINDOW_SCHEMA: Final = "agent.window/1"
MARK_SCHEMA: Final = "agent.window.mark/1"

Counts = Annotated[dict[Identifier, Count], Field(default_factory=dict)]


class Moments(Contract):
    """How many values there were, their sum and the sum of their squares, both in micro-units."""

    count: Count = 0
    sum_micro: int = 0
    sum_squares_micro: int = 0


class SequenceSpan(Contract):
    """Distinct events of one agent process, and the range of `seq` they spanned."""

    count: Count
    min_seq: Count
    max_seq: Count


class CallCounts(Contract):
    """Calls, and how many of them failed."""

    calls: Count = 0
    errors: Count = 0


class AgentWindow(Contract):
    """One agent's events of one event-time window, as one source partition saw them.

    (`tenant`, `agent`, `start_ms`, `source_partition`) identifies it: received twice, it is a duplicate.
    """

    schema_: Literal["agent.window/1"] = Field(default=WINDOW_SCHEMA, alias="schema")
    tenant: Identifier = "default"
    agent: Identifier
    start_ms: Annotated[int, Field(description="Epoch milliseconds, UTC; a multiple of duration_ms.")]
    duration_ms: Annotated[int, Field(gt=0)]
    source_partition: Annotated[int, Field(ge=-1, description="-1 after windows of several were merged.")]
    events: Count = 0
    late_events: Count = Field(
        default=0, description="Of events: those whose own window had been closed; counted here instead."
    )
    sessions_started: Count = 0
    outcomes: Counts
    llm_calls: Count = 0
    llm_errors: Count = 0
    refusals: Count = 0
    refusals_known: Count = Field(default=0, description="Calls that said whether they refused.")
    refusal_event_ids: Annotated[list[Identifier], Field(max_length=8)] = Field(
        default_factory=list, description="The alphabetically first refused calls: a sample that merges."
    )
    input_tokens: Count = 0
    output_tokens: Count = 0
    cost_known_calls: Count = 0
    cost_unknown_calls: Count = 0
    cost_usd_micro: Count = 0
    tool_calls: Count = 0
    tool_errors: Count = 0
    escalations: Count = 0
    messages: Counts = Field(description="By intent.")
    evaluations: dict[Identifier, Moments] = Field(default_factory=dict, description="By evaluation name.")
    canaries: dict[Identifier, CallCounts] = Field(default_factory=dict, description="Runs and failures.")
    feedback: Counts = Field(description="By kind.")
    llm_duration_s: Moments = Field(default_factory=Moments)
    tool_duration_s: Moments = Field(default_factory=Moments)
    providers: dict[Identifier, CallCounts] = Field(default_factory=dict)
    processes: dict[str, SequenceSpan] = Field(
        default_factory=dict, description="'' is an agent's only process."
    )


class AgentWindowMark(Contract):
    """All windows of `source_partition` that end at or before `watermark_ms` have been emitted."""

    schema_: Literal["agent.window.mark/1"] = Field(default=MARK_SCHEMA, alias="schema")
    source_partition: Annotated[int, Field(ge=0)]
    watermark_ms: int


WindowRecord = Annotated[AgentWindow | AgentWindowMark, Field(discriminator="schema_")]
WINDOW_RECORD: TypeAdapter[WindowRecord] = TypeAdapter(WindowRecord)
"""Whatever is on ``agent.windows``."""
