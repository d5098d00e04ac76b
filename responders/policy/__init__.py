"""What whoever runs the engine decides, as data: who is paged for what, and what the engine may do itself.

A policy file is TOML; every value has a default, so an empty file is a policy. A section, a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from config import policy_file
from config.objectives import WithObjectives
from config.policy_file import PolicyError
from responders.policy.containment import ContainmentPolicy, ContainmentRule
from responders.policy.grouping import INHIBITIONS, Group, Grouping, Inhibit, agents_of
from responders.policy.hours import Hours
from responders.policy.paging import (
    Escalation,
    Owner,
    Paging,
    QuietHours,
    Regrade,
    Route,
    Silence,
    Step,
    Storm,
)
from responders.policy.people import ANYONE, Deed, Role, Roles
from responders.policy.section import Match
from schemas.base import Identifier
from schemas.control import Target
from schemas.detection import Detection


@dataclass(frozen=True, slots=True)
class Told:
    """Where a page goes, and whom it calls by name."""

    channels: tuple[str, ...]
    people: tuple[str, ...] = ()


class Policy(WithObjectives):
    """Objectives are what agents are held to: the stream workers read them. ``pacing`` is how many pages a
    minute a channel is given at most.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    paging: Paging = Paging()
    route: tuple[Route, ...] = ()
    severity: tuple[Regrade, ...] = ()
    escalation: Escalation = Escalation()
    quiet_hours: tuple[QuietHours, ...] = ()
    storm: Storm = Storm()
    pacing: Mapping[Identifier, Annotated[int, Field(ge=1)]] = {}
    grouping: Grouping = Grouping()
    inhibit: tuple[Inhibit, ...] = INHIBITIONS
    silence: tuple[Silence, ...] = ()
    containment: ContainmentPolicy = ContainmentPolicy()
    roles: Roles = Roles()
    owner: tuple[Owner, ...] = ()

    def with_channels(self, *channels: str) -> Policy:
        """This policy with ``channels`` where it names none itself."""
        if self.paging.channels:
            return self
        return self.model_copy(update={"paging": self.paging.model_copy(update={"channels": channels})})

    @property
    def channels(self) -> tuple[str, ...]:
        """Every channel that the policy names."""
        named = [*self.paging.channels, *(name for route in self.route for name in route.channels)]
        named += [name for step in self.escalation.steps for name in step.channels]
        return tuple(dict.fromkeys([*named, *filter(None, (self.paging.fallback,))]))

    def graded(self, detection: Detection) -> Detection:
        """The detection as severe as the policy takes it; the first rule that fits decides."""
        rule = next((each for each in self.severity if each.fits(detection)), None)
        if rule is None or rule.to == detection.severity:
            return detection
        return detection.model_copy(update={"severity": rule.to})

    def told(self, detection: Detection, now: datetime) -> Told:
        """Who is told of a detection at this time."""
        channels: list[str] = []
        people: list[str] = []
        for route in self.route:
            if route.fits(detection) and (route.hours is None or now in route.hours):
                channels += route.channels
                people += route.people
                if not route.also:
                    break
        else:
            channels += self.paging.channels
        return Told(tuple(dict.fromkeys(channels)), tuple(dict.fromkeys(people)))

    def silenced_until(self, detection: Detection, now: datetime) -> tuple[datetime, str] | None:
        """Until when the policy's silences keep the detection from paging, and why; None: they do not."""
        ours = (each for each in self.silence if each.until > now and each.fits(detection))
        return max(((each.until, each.reason) for each in ours), default=None)

    def quiet_until(self, severity: str, now: datetime) -> datetime | None:
        """When the quiet hours that hold for the severity are over; None outside of them."""
        ends = [hours.end_of(now) for hours in self.quiet_hours if severity in hours.severities]
        return max((end for end in ends if end is not None), default=None)

    def owner_of(self, tenant: str, agent: str) -> Owner | None:
        """Whose agent it is: the first entry that names it."""
        return next((each for each in self.owner if each.owns(tenant, agent)), None)


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
    "ANYONE",
    "DEFAULT",
    "ContainmentPolicy",
    "ContainmentRule",
    "Deed",
    "Escalation",
    "Group",
    "Grouping",
    "Hours",
    "Inhibit",
    "Match",
    "Owner",
    "Paging",
    "Policy",
    "PolicyError",
    "QuietHours",
    "Regrade",
    "Role",
    "Roles",
    "Route",
    "Silence",
    "Step",
    "Storm",
    "Told",
    "agents_of",
    "load",
    "parse",
    "target_of",
]
