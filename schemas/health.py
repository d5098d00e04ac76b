"""``agent.health/1``: how an agent stands as a whole, and in each respect. Not to know is a state too."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter

from schemas.base import Contract, Identifier, Utc

HEALTH_SCHEMA: Final = "agent.health/1"

HealthState = Literal["healthy", "degraded", "unhealthy", "cannot tell"]
PartState = Literal["healthy", "warning", "critical", "cannot tell", "shown"]
Score = Annotated[float, Field(ge=0, le=100)]


class HealthPart(Contract):
    """One respect. Without evidence it has no score and does not count in the whole; what is `shown` is not
    judged, and stands for reading beside the others.
    """

    state: PartState
    score: Score | None = Field(default=None, description="100 is normal.")
    weight: Annotated[float, Field(ge=0)]
    metric: Identifier
    observed: float | None = None
    expected: float | None = None


class AgentHealth(Contract):
    """The newest of an agent counts."""

    schema_: Literal["agent.health/1"] = Field(default=HEALTH_SCHEMA, alias="schema")
    tenant: Identifier = "default"
    agent: Identifier
    time: Utc = Field(description="Event time up to which it speaks.")
    state: HealthState
    since: Utc | None = Field(default=None, description="Event time from which on it has been so.")
    score: Score | None = Field(default=None, description="None when it cannot be told.")
    parts: dict[Identifier, HealthPart] = Field(
        default_factory=dict, description="By detector; `step_success` and `end_to_end` besides."
    )


HEALTH: TypeAdapter[AgentHealth] = TypeAdapter(AgentHealth)
