"""``agent.event/1``: what an agent did, without what it said.

Every event type is a model; :data:`AgentEvent` is their union, told apart by ``type``. Durations are
milliseconds, money is US dollars, probabilities and scores are 0 to 1. ``cost_usd`` unknown is None, never 0.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints, TypeAdapter

from schemas.base import (
    AttributeValue,
    Contract,
    Count,
    Dollars,
    Hash,
    Identifier,
    Milliseconds,
    Probability,
    ShortText,
    Utc,
    epoch_ms,
)

EVENT_SCHEMA: Final = "agent.event/1"

Status = Literal["ok", "error"]
Outcome = Literal["completed", "failed", "refused", "escalated", "abandoned", "cancelled"]
Intent = Literal["request", "clarification", "answer", "delegate", "result"]
AttributeName = Annotated[str, StringConstraints(min_length=1, max_length=64)]
NameList = Annotated[list[Identifier], Field(max_length=512)]


class EventBase(Contract):
    """What every event carries."""

    schema_: Literal["agent.event/1"] = Field(default=EVENT_SCHEMA, alias="schema")
    event_id: Identifier = Field(description="Unique; redelivery with the same id changes nothing.")
    time: Utc
    agent: Identifier
    session: Identifier
    tenant: Identifier = "default"
    agent_version: Identifier | None = None
    trace_id: Identifier | None = None
    span_id: Identifier | None = None
    parent_span_id: Identifier | None = None
    seq: Count | None = Field(default=None, description="Per agent process, to notice lost telemetry.")
    process: Identifier | None = Field(
        default=None, description="Which process counts seq (service.instance.id); default: one per agent."
    )
    attributes: Annotated[dict[AttributeName, AttributeValue], Field(max_length=32)] | None = None

    @property
    def time_ms(self) -> int:
        """The time in epoch milliseconds."""
        return epoch_ms(self.time)


class ToolSchema(Contract):
    """What a tool says its arguments are."""

    required: NameList = Field(default_factory=list)
    properties: NameList = Field(default_factory=list)


class Budget(Contract):
    """Caps a session brings along; what is absent is not capped by the session."""

    tokens: Count | None = None
    steps: Count | None = None
    cost_usd: Dollars | None = None
    wall_ms: Milliseconds | None = None
    fan_out: dict[Identifier, Count] | None = None


class SessionStart(EventBase):
    type: Literal["session.start"] = "session.start"
    goal: Identifier | None = Field(default=None, description="A name or a hash of the goal, not its text.")
    declared_tools: NameList | None = None
    tool_schemas: dict[Identifier, ToolSchema] | None = None
    allowed_effects: NameList | None = None
    credential: Identifier | None = None
    scopes: NameList | None = None
    budget: Budget | None = None
    user: Hash | None = None
    parent_session: Identifier | None = None
    idle_timeout_ms: Milliseconds | None = Field(
        default=None,
        description="How long the session may be silent before it counts as left: 1 s to 5 h, else cut to "
        "that; default 30 min.",
    )


class SessionEnd(EventBase):
    type: Literal["session.end"] = "session.end"
    outcome: Outcome


class LlmCall(EventBase):
    type: Literal["llm.call"] = "llm.call"
    provider: Identifier | None = None
    request_model: Identifier
    response_model: Identifier | None = None
    prompt_version: Identifier | None = None
    input_tokens: Count
    output_tokens: Count
    cache_read_tokens: Count | None = None
    cost_usd: Dollars | None = None
    duration_ms: Milliseconds | None = None
    ttft_ms: Milliseconds | None = None
    finish_reasons: Annotated[list[Identifier], Field(max_length=16)] | None = None
    refusal: bool | None = None
    confidence: Probability | None = None
    output_chars: Count | None = None
    output_hash: Hash | None = None
    embedding: Annotated[list[float], Field(max_length=64)] | None = None
    status: Status
    error_type: Identifier | None = None


class ToolCall(EventBase):
    type: Literal["tool.call"] = "tool.call"
    tool: Identifier
    arguments_hash: Hash
    argument_keys: NameList | None = None
    result_hash: Hash | None = None
    result_shape: Annotated[str, StringConstraints(max_length=8192)] | None = Field(
        default=None, description="Fingerprint of key paths and types."
    )
    result_items: Count | None = None
    result_total: Count | None = None
    duration_ms: Milliseconds | None = None
    status: Status
    error_type: Identifier | None = None
    credential: Identifier | None = None
    scope: Identifier | None = None
    effect: Identifier | None = Field(default=None, examples=["email.send", "db.delete"])
    irreversible: bool | None = None
    approval: Identifier | None = None
    targets: Count | None = None
    foreign_arguments: bool | None = None


class Effect(EventBase):
    type: Literal["effect"] = "effect"
    ref: Identifier = Field(description="event_id of the tool call")
    confirmed: bool


class Retrieval(EventBase):
    type: Literal["retrieval"] = "retrieval"
    index: Identifier
    index_version: Identifier | None = None
    documents: Count
    top_score: float | None = None
    owner: Hash | None = Field(default=None, description="Hash of the user the memory belongs to.")
    as_of: Utc | None = None


class Message(EventBase):
    type: Literal["message"] = "message"
    to_agent: Identifier
    intent: Intent
    content_hash: Hash | None = None


class Escalation(EventBase):
    type: Literal["escalation"] = "escalation"
    to: Literal["human", "queue", "agent"]
    reason: ShortText | None = None


class Evaluation(EventBase):
    type: Literal["evaluation"] = "evaluation"
    name: Identifier
    score: Probability
    label: Identifier | None = None
    ref: Identifier | None = None
    evaluator: Identifier | None = None


class Canary(EventBase):
    type: Literal["canary"] = "canary"
    canary: Identifier
    passed: bool
    score: Probability | None = None


class Deployment(EventBase):
    type: Literal["deployment"] = "deployment"
    component: Literal["prompt", "model", "tool", "index", "config", "agent"]
    name: Identifier
    from_version: Identifier | None = None
    to_version: Identifier


class Feedback(EventBase):
    type: Literal["feedback"] = "feedback"
    kind: Literal["ticket", "thumb"]
    value: float | None = None


class Heartbeat(EventBase):
    type: Literal["heartbeat"] = "heartbeat"


AgentEvent = Annotated[
    SessionStart
    | SessionEnd
    | LlmCall
    | ToolCall
    | Effect
    | Retrieval
    | Message
    | Escalation
    | Evaluation
    | Canary
    | Deployment
    | Feedback
    | Heartbeat,
    Field(discriminator="type"),
]
"""Any agent event. ``type`` decides which model is validated."""

AGENT_EVENT: TypeAdapter[AgentEvent] = TypeAdapter(AgentEvent)
EVENT_TYPES: tuple[type[EventBase], ...] = (
    SessionStart,
    SessionEnd,
    LlmCall,
    ToolCall,
    Effect,
    Retrieval,
    Message,
    Escalation,
    Evaluation,
    Canary,
    Deployment,
    Feedback,
    Heartbeat,
)
