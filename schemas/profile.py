"""``agent.profile/1``: what is normal for an agent, learned from its healthy sessions.

There is no profile before there is enough evidence, so whatever is on ``agent.profiles`` may be judged by.
``detectors.profile`` holds the engine's counterpart; a test keeps the two equal.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter

from schemas.base import Contract, Count, Identifier

PROFILE_SCHEMA: Final = "agent.profile/1"

Shape = Annotated[str, Field(max_length=8192)]


class Range(Contract):
    """What healthy sessions took: quantiles of a sample of them, and the most of all."""

    p50: Annotated[float, Field(ge=0)] = 0.0
    p95: Annotated[float, Field(ge=0)] = 0.0
    max: Annotated[float, Field(ge=0)] = 0.0


class ToolProfile(Contract):
    """How a tool is called, and what it returns, when all is well. Failed calls are not in it."""

    sessions: Count = Field(default=0, description="Healthy sessions in which it was called.")
    calls: Count = 0
    keyed_calls: Count = Field(default=0, description="Calls that named their argument keys.")
    required: list[Identifier] = Field(default_factory=list, description="Argument keys every call had.")
    keys: list[Identifier] = Field(default_factory=list, description="Argument keys any call had.")
    shapes: dict[Shape, Count] = Field(
        default_factory=dict,
        description="Result shape to the calls that returned it; `#` and a hash where it is too long.",
    )
    effects: list[Identifier] = Field(default_factory=list)
    counted_calls: Count = Field(default=0, description="Calls that said both result_items and result_total.")
    short_calls: Count = Field(default=0, description="Of those counted: fewer items than the total.")
    hollow_calls: Count = Field(
        default=0, description="Of those counted: no item although the total is not 0."
    )
    empty_calls: Count = Field(default=0, description="Calls that returned no item, whatever the total.")
    open: bool = Field(
        default=False, description="Not all could be kept: that it is not here proves nothing."
    )


class AgentProfile(Contract):
    """One agent. Lists are sorted; credentials are hashes (xxh64, hex)."""

    schema_: Literal["agent.profile/1"] = Field(default=PROFILE_SCHEMA, alias="schema")
    tenant: Identifier = "default"
    agent: Identifier
    sessions: Count = Field(description="Healthy sessions learned from: the evidence there is.")
    updated_ms: Annotated[int, Field(description="Event time of the newest of them.")] = 0
    tools: dict[Identifier, ToolProfile] = Field(default_factory=dict)
    credentials: list[Identifier] = Field(default_factory=list)
    scopes: list[Identifier] = Field(default_factory=list)
    models: dict[Identifier, list[Identifier]] = Field(
        default_factory=dict, description="Request model to the response models that answered."
    )
    steps: Range = Field(default_factory=Range)
    tokens: Range = Field(default_factory=Range)
    cost_usd: Range = Field(default_factory=Range)
    duration_ms: Range = Field(default_factory=Range)
    input_tokens: Range = Field(default_factory=Range, description="Of a session's largest model call.")
    open: bool = Field(
        default=False, description="Not all could be kept: that it is not here proves nothing."
    )


PROFILE: TypeAdapter[AgentProfile] = TypeAdapter(AgentProfile)
