"""What is on ``agent.windows``: what an agent did in a stretch of event time (``agent.window/1``), how far a
partition has come (``agent.window.mark/1``), what a session did (``agent.session.summary/1``), and
facts that mean something only beside those of other sessions (``agent.fact/1``).

Everything in a window is a count, an exact integer sum or a bounded sample, so that windows of one agent
and start merge to the same result in any order and grouping. Sums of measured values are kept in whole
micro-units (1e-6 of a score, a dollar or a second), because adding floats is not associative.

``detectors.windows`` and ``detectors.summary`` hold the mutable counterparts that events are added into; a
test keeps them equal.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter

from schemas.base import Contract, Count, Identifier

WINDOW_SCHEMA: Final = "agent.window/1"
MARK_SCHEMA: Final = "agent.window.mark/1"
SUMMARY_SCHEMA: Final = "agent.session.summary/1"
FACT_SCHEMA: Final = "agent.fact/1"

Counts = Annotated[dict[Identifier, Count], Field(default_factory=dict)]
Bins = Annotated[dict[int, Count], Field(default_factory=dict)]


class Moments(Contract):
    """How many values there were, their sum and the sum of their squares, both in micro-units."""

    count: Count = 0
    sum_micro: int = 0
    sum_squares_micro: int = 0


class Scores(Moments):
    """Moments, and counts by twentieths."""

    bins: Bins = Field(description="By `min(floor(20 * score), 19)`.")


class SequenceSpan(Contract):
    """Distinct events of one agent process, and the range of `seq` they spanned."""

    count: Count
    min_seq: Count
    max_seq: Count


class CallCounts(Contract):
    """Calls, and how many of them failed."""

    calls: Count = 0
    errors: Count = 0


class ToolUse(CallCounts):
    """Calls of a tool, failures, and how long calls took."""

    duration_s: Moments = Field(default_factory=Moments)
    duration_bins: Bins = Field(description="By log bin of milliseconds.")


class CalibrationBin(Contract):
    """Answers whose stated confidence was in a tenth of 0 to 1: how many, their confidences' sum in
    micro-units, and how many turned out right.
    """

    count: Count = 0
    confidence_micro: Count = 0
    right: Count = 0


class Calibration(Contract):
    """Stated confidence against what turned out, by tenth of confidence."""

    bins: dict[int, CalibrationBin] = Field(default_factory=dict)


class EmbeddingSums(Contract):
    """Sums over embeddings, in micro-units: by component, of squared norms, and of seeded projections and
    their squares (`detectors.embeddings`).
    """

    count: Count = 0
    sums_micro: list[int] = Field(default_factory=list)
    squared_norms_micro: Count = 0
    projections_micro: list[int] = Field(default_factory=list)
    squared_projections_micro: list[int] = Field(default_factory=list)


class Activity(Contract):
    """What was counted under one combination of slices."""

    llm_calls: Count = 0
    llm_errors: Count = 0
    throttled: Count = Field(default=0, description="Of llm_errors: rate limits and overload.")
    refusals: Count = 0
    refusals_known: Count = Field(default=0, description="Calls that said whether they refused.")
    echo_calls: Count = Field(
        default=0, description="Of refusals_known: soon after a refusal in the same session."
    )
    echo_refusals: Count = Field(default=0, description="Of refusals: the same. They tell of one cause.")
    repeat_errors: Count = Field(
        default=0,
        description="Of calls that failed: the same had failed in the session, and not worked since.",
    )
    input_tokens: Count = 0
    output_tokens: Count = 0
    cost_known_calls: Count = 0
    cost_unknown_calls: Count = 0
    cost_usd_micro: Count = 0
    output_tokens_bins: Bins = Field(
        description="Successful model calls by output length, in bins of 5 tokens below 100 and of 25 above."
    )
    llm_duration_bins: Bins = Field(description="Successful model calls by log bin of milliseconds.")
    ttft_s: Moments = Field(default_factory=Moments)
    tool_calls: Count = 0
    tool_errors: Count = 0
    effects: Count = Field(default=0, description="Successful tool calls that name an effect.")
    tools: dict[Identifier, ToolUse] = Field(default_factory=dict)
    retrievals: Count = 0
    retrieved_documents: Count = 0
    escalations: Count = 0
    messages: Counts = Field(description="By intent.")
    sessions_started: Count = 0
    outcomes: Counts = Field(description="Sessions that ended, by outcome.")
    sessions_escalated: Count = Field(default=0, description="Of those ended: with an escalation.")
    sessions_clarified: Count = Field(default=0, description="Of those ended: with a clarification asked.")
    session_cost_bins: Bins = Field(description="Ended sessions of known cost by log bin of micro-dollars.")
    session_work: Moments = Field(
        default_factory=Moments, description="Of sessions that ended: ln(1 + tool calls) + ln(1 + effects)."
    )
    evaluations: dict[Identifier, Scores] = Field(default_factory=dict, description="By evaluation name.")
    evaluators: dict[Identifier, CallCounts] = Field(
        default_factory=dict, description="By who scored: scores, and those below 0.5."
    )
    canaries: dict[Identifier, CallCounts] = Field(default_factory=dict, description="Runs and failures.")
    feedback: Counts = Field(description="By kind; thumbs as `thumb_up` and `thumb_down`.")
    calibration: dict[str, Calibration] = Field(
        default_factory=dict,
        description="By what told that an answer was right (`outcome`, `thumb`, an evaluation's name).",
    )
    judged: dict[Identifier, CallCounts] = Field(
        default_factory=dict,
        description="By evaluation name: thumbs in sessions it scored, and those that said otherwise.",
    )
    embeddings: dict[Identifier, EmbeddingSums] = Field(
        default_factory=dict, description="By model and length: only such can be compared."
    )


class ProviderCalls(CallCounts):
    """Model calls of a provider, those that failed and were throttled, and by agent."""

    throttled: Count = 0
    agents: dict[Identifier, CallCounts] = Field(default_factory=dict)


class DeploymentSeen(Contract):
    """Something an agent is made of has changed."""

    time_ms: int
    event_id: Identifier
    component: Identifier
    name: Identifier
    from_version: Identifier | None = None
    to_version: Identifier


class AgentWindow(Contract):
    """One agent's events of one event-time window, as one source partition saw them.

    (`tenant`, `agent`, `start_ms`, `source_partition`) identifies it: received twice, it is a duplicate.
    Without an agent it is of the tenant's whole fleet: `events` are model calls, and only `providers` is
    filled.
    """

    schema_: Literal["agent.window/1"] = Field(default=WINDOW_SCHEMA, alias="schema")
    tenant: Identifier = "default"
    agent: Annotated[str, Field(max_length=256)]
    start_ms: Annotated[int, Field(description="Epoch milliseconds, UTC; a multiple of duration_ms.")]
    duration_ms: Annotated[int, Field(gt=0)]
    source_partition: Annotated[int, Field(ge=-1, description="-1 after windows of several were merged.")]
    events: Count = 0
    late_events: Count = Field(
        default=0, description="Of events: those whose own window had been closed; counted here instead."
    )
    samples: dict[str, Annotated[list[Identifier], Field(max_length=8)]] = Field(
        default_factory=dict,
        description="By what they show (`refusal`, `error`, …): the alphabetically first events, a sample "
        "that merges.",
    )
    processes: dict[str, SequenceSpan] = Field(
        default_factory=dict, description="'' is an agent's only process."
    )
    deployments: Annotated[list[DeploymentSeen], Field(max_length=8)] = Field(default_factory=list)
    parts: dict[str, Activity] = Field(
        default_factory=dict,
        description="By combination of slices, as `detectors.slices` writes it; `other` holds what there was "
        "no room for.",
    )
    providers: dict[Identifier, ProviderCalls] = Field(default_factory=dict, description="Of a fleet.")


class AgentWindowMark(Contract):
    """All windows of `source_partition` that end at or before `watermark_ms` have been emitted."""

    schema_: Literal["agent.window.mark/1"] = Field(default=MARK_SCHEMA, alias="schema")
    source_partition: Annotated[int, Field(ge=0)]
    watermark_ms: int


class CallForm(Contract):
    """One way a session called a tool and what came back; calls that failed are left out."""

    tool: Identifier
    keys: list[Identifier] | None = Field(default=None, description="The names of the arguments.")
    shape: Annotated[str, Field(max_length=8192)] | None = Field(
        default=None, description="Of the result; `#` and a hash where it is too long."
    )
    effect: Identifier | None = None
    scope: Identifier | None = None
    calls: Count = 0
    counted_calls: Count = Field(default=0, description="Calls that said both result_items and result_total.")
    short_calls: Count = Field(default=0, description="Of those counted: fewer items than the total.")
    hollow_calls: Count = Field(default=0, description="Of those counted: no item, and a total above 0.")
    empty_calls: Count = Field(default=0, description="Calls that returned no item, whatever the total.")
    open: bool = Field(default=False, description="Other calls of the tool were left out.")


class AgentUse(Contract):
    """What one agent of a session used. Credentials are hashes."""

    calls: list[CallForm] = Field(default_factory=list)
    credentials: list[Identifier] = Field(default_factory=list)
    models: dict[Identifier, list[Identifier]] = Field(
        default_factory=dict, description="Request model to the response models that answered."
    )
    input_tokens: Count = Field(default=0, description="Of the largest model call.")
    open: bool = Field(default=False, description="Not all was kept: that it is not here proves nothing.")


class AgentSessionSummary(Contract):
    """What one agent did in a session that has ended. `use` is told of `healthy` ones only: those that ended
    well and in which no detector found fault.

    The event that ended it (`source_*`) identifies it: received twice, it is a duplicate.
    """

    schema_: Literal["agent.session.summary/1"] = Field(default=SUMMARY_SCHEMA, alias="schema")
    tenant: Identifier = "default"
    agent: Identifier
    session: Identifier
    start_ms: int
    end_ms: int
    healthy: bool = True
    outcome: Identifier = "completed"
    steps: Count = 0
    llm_calls: Count = 0
    tool_calls: Count = 0
    errors: Count = Field(default=0, description="Model and tool calls that failed.")
    escalations: Count = 0
    clarifications: Count = 0
    tokens: Count = 0
    cost_usd_micro: Count = 0
    cost_unknown_calls: Count = 0
    use: AgentUse = Field(default_factory=AgentUse)
    source_topic: Identifier
    source_partition: Count
    source_offset: Count
    source_index: Count = Field(default=0, description="Which event of the record.")
    source_ordinal: Count = Field(default=0, description="Which of what the event caused.")


class AgentFact(Contract):
    """A session begun by another (`spawn`), the first use of a credential in a session by an agent
    (`credential`), or a change of what an agent is made of (`deployment`). `source_*` identifies it.
    """

    schema_: Literal["agent.fact/1"] = Field(default=FACT_SCHEMA, alias="schema")
    tenant: Identifier = "default"
    kind: Literal["spawn", "credential", "deployment"]
    agent: Identifier
    session: Identifier
    time_ms: int
    event_id: Identifier
    parent_session: Identifier | None = Field(default=None, description="Of a spawn.")
    credential: Identifier | None = Field(default=None, description="Its hash.")
    component: Identifier | None = Field(default=None, description="Of a deployment.")
    name: Identifier | None = Field(default=None, description="Of a deployment.")
    source_topic: Identifier
    source_partition: Count
    source_offset: Count
    source_index: Count = 0
    source_ordinal: Count = 0


WindowRecord = Annotated[
    AgentWindow | AgentWindowMark | AgentSessionSummary | AgentFact, Field(discriminator="schema_")
]
WINDOW_RECORD: TypeAdapter[WindowRecord] = TypeAdapter(WindowRecord)
"""Whatever is on ``agent.windows``."""
