"""What an agent's behaviour is held to: behavioural objectives, from the policy file's ``[[objective]]``.

An objective says which share of what the agent does must be good, over so many days::

    [[objective]]
    name = "answers"
    indicator = "completion_rate"
    objective = 0.95
    window_days = 28
    agents = ["support"]

Of indicators that are means of something, good is what is not over a limit (``latency_over_ms``,
``cost_over_usd``); of an evaluation (``evaluation:groundedness``), the mean score itself is the share.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from config.policy_file import parse, read
from schemas.base import Identifier

RATES: Final = (
    "completion_rate",
    "error_rate",
    "refusal_rate",
    "escalation_rate",
    "clarification_rate",
    "canary_failure_rate",
)
LIMITS: Final = {"latency": "latency_over_ms", "cost_per_session": "cost_over_usd"}
"""Indicators that need a limit, and how it is given."""
EVALUATION: Final = "evaluation:"
MOST_OF_AN_AGENT: Final = 8


class Objective(BaseModel):
    """One objective. Agents and tenants that are not given are all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Identifier
    indicator: Identifier
    objective: Annotated[float, Field(ge=0.5, lt=1, description="The share that must be good.")]
    window_days: Annotated[int, Field(ge=3, le=30)] = 28
    latency_over_ms: Annotated[float, Field(gt=0)] | None = Field(default=None, validate_default=True)
    cost_over_usd: Annotated[float, Field(gt=0)] | None = Field(default=None, validate_default=True)
    agents: frozenset[Identifier] | None = None
    tenants: frozenset[Identifier] | None = None

    @field_validator("indicator")
    @classmethod
    def _known(cls, indicator: str) -> str:
        if indicator in RATES or indicator in LIMITS or indicator.startswith(EVALUATION):
            return indicator
        raise ValueError(f"must be one of {', '.join((*RATES, *LIMITS))} or {EVALUATION}NAME")

    @field_validator(*LIMITS.values())
    @classmethod
    def _limit_goes_with_its_indicator(cls, limit: float | None, info: ValidationInfo) -> float | None:
        indicator = info.data.get("indicator")
        if indicator is not None and (limit is not None) != (LIMITS.get(indicator) == info.field_name):
            raise ValueError(f"{indicator} takes no limit" if limit is not None else f"{indicator} needs one")
        return limit

    def applies(self, tenant: str, agent: str) -> bool:
        """Whether the agent is held to it."""
        return (self.tenants is None or tenant in self.tenants) and (
            self.agents is None or agent in self.agents
        )


class WithObjectives(BaseModel):
    """What holds objectives, under the name of the TOML array. They have different names, and one agent no
    more than it can be watched for.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    objective: tuple[Objective, ...] = ()

    @field_validator("objective")
    @classmethod
    def _can_be_watched(cls, objectives: tuple[Objective, ...]) -> tuple[Objective, ...]:
        names = [each.name for each in objectives]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"two objectives are named {twice}")
        tenants = {"", *(name for each in objectives for name in each.tenants or ())}
        agents = {"", *(name for each in objectives for name in each.agents or ())}
        for tenant, agent in sorted(product(tenants, agents)):
            if sum(each.applies(tenant, agent) for each in objectives) > MOST_OF_AN_AGENT:
                raise ValueError(f"more than {MOST_OF_AN_AGENT} objectives for {agent or 'one agent'}")
        return objectives


def load(path: Path | None) -> tuple[Objective, ...]:
    """The objectives in the policy file at `path`; none without a file. Other sections are not looked at.

    Raises:
        PolicyError: the file cannot be read, is not TOML, or an objective is wrong.
    """
    if path is None:
        return ()
    return parse(WithObjectives, read(path), str(path)).objective
