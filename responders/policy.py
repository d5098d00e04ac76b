"""What whoever runs the engine decides, as data: who is paged for what, and what the engine may do itself.

A policy file is TOML; every value has a default, so an empty file is a policy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from config import policy_file
from config.objectives import WithObjectives
from config.policy_file import PolicyError
from schemas.base import Identifier
from schemas.control import ControlState, Mode, Target
from schemas.detection import Detection, Severity
from schemas.incident import Trust


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Paging(_Section):
    """Who is told. A page goes out on transitions only, to every channel; info never pages."""

    severities: frozenset[Literal["warning", "critical"]] = frozenset({"warning", "critical"})
    channels: tuple[Identifier, ...] = Field(
        default=(), description="Empty: the installation's own channel, Slack when it has a token."
    )
    fallback: Identifier | None = Field(
        default="terminal", description="Told when a channel has failed for good."
    )


class ContainmentRule(_Section):
    """How far the engine may go. The first rule that matches decides; what is not given matches all."""

    trust: Trust
    modes: frozenset[Mode] | None = None
    scope: Literal["session", "agent"] | None = None
    severities: frozenset[Severity] | None = None
    detectors: frozenset[Identifier] | None = None
    agents: frozenset[Identifier] | None = None
    tenants: frozenset[Identifier] | None = None

    def matches(self, detection: Detection, state: ControlState) -> bool:
        scope = "agent" if detection.session is None else "session"
        pairs = (
            (self.modes, state.mode),
            (self.severities, detection.severity),
            (self.detectors, detection.detector),
            (self.agents, detection.agent),
            (self.tenants, detection.tenant),
        )
        return self.scope in (None, scope) and all(wanted is None or had in wanted for wanted, had in pairs)


class ContainmentPolicy(_Section):
    """Halting a session on a critical detection and stepping down are automatic, and so is halting the agents
    of a spawn storm, which has a new session whenever one is halted. The rest asks a person.
    """

    rules: tuple[ContainmentRule, ...] = (
        ContainmentRule(
            trust="automatic",
            modes=frozenset({"halt"}),
            scope="session",
            severities=frozenset({"critical"}),
        ),
        ContainmentRule(
            trust="automatic",
            modes=frozenset({"halt"}),
            severities=frozenset({"critical"}),
            detectors=frozenset({"spawn_storm"}),
        ),
        ContainmentRule(trust="automatic", modes=frozenset({"degrade", "throttle"})),
    )
    otherwise: Trust = "approve"
    confirm_within_ms: Annotated[int, Field(ge=100)] = 20_000
    verify_quiet_ms: Annotated[int, Field(ge=100)] = 10_000
    republish_first_ms: Annotated[int, Field(ge=100)] = 1_000
    republish_at_most_ms: Annotated[int, Field(ge=100)] = 60_000

    def trust_in(self, detection: Detection, state: ControlState) -> Trust:
        for rule in self.rules:
            if rule.matches(detection, state):
                return rule.trust
        return self.otherwise


class Policy(WithObjectives):
    """Objectives are what agents are held to: the stream workers read them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    paging: Paging = Paging()
    containment: ContainmentPolicy = ContainmentPolicy()

    def with_channels(self, *channels: str) -> Policy:
        """This policy with ``channels`` where it names none itself."""
        if self.paging.channels:
            return self
        return self.model_copy(update={"paging": self.paging.model_copy(update={"channels": channels})})


DEFAULT = Policy()


def target_of(detection: Detection) -> Target:
    """Whom a detection's suggestion is for: the agent, in its session when the detection has one."""
    return Target(tenant=detection.tenant, agent=detection.agent, session=detection.session)


def load(path: Path | None) -> Policy:
    """The policy in the TOML file at ``path``; the default one without a file.

    Raises:
        PolicyError: the file cannot be read, is not TOML, or a value is wrong.
    """
    return DEFAULT if path is None else parse(policy_file.read(path), str(path))


def parse(text: str, name: str = "policy") -> Policy:
    """The policy in ``text``. Raises PolicyError, which starts with ``name:line: key``."""
    return policy_file.parse(Policy, text, name)


__all__ = [
    "DEFAULT",
    "ContainmentPolicy",
    "ContainmentRule",
    "Paging",
    "Policy",
    "PolicyError",
    "load",
    "parse",
    "target_of",
]
