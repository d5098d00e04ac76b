"""Who is told what, when, and how often."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator

from responders.policy.hours import Hours
from responders.policy.section import Match, Names, Section, named
from schemas.base import Identifier, Utc
from schemas.detection import Severity

Paged = Literal["warning", "critical"]


class Paging(Section):
    """Who is told. A page goes out on transitions only, to every channel; info never pages."""

    severities: frozenset[Paged] = frozenset({"warning", "critical"})
    channels: tuple[Identifier, ...] = Field(
        default=(), description="Empty: the installation's own channel, Slack when it has a token."
    )
    fallback: Identifier | None = Field(
        default="terminal", description="Told when a channel has failed, or has not taken a page in time."
    )
    undelivered_after_seconds: Annotated[float, Field(ge=1, le=600)] = 40.0


class Route(Match):
    """Detections of a kind go to these channels. The first route that fits decides, unless ``also``: then
    those after it, or the default channels, are told too.
    """

    hours: Hours | None = None
    channels: Annotated[tuple[Identifier, ...], Field(min_length=1)]
    people: tuple[Identifier, ...] = ()
    also: bool = False


class Regrade(Match):
    """Detections of a kind are taken as more or less severe than their detector says."""

    to: Severity


class Step(Section):
    """Told ``after_minutes`` without anybody being on it, counted from the page. No channels: the same ones
    again.
    """

    after_minutes: Annotated[float, Field(gt=0, le=60 * 24 * 7)]
    channels: tuple[Identifier, ...] = ()
    people: tuple[Identifier, ...] = ()


class Escalation(Section):
    """The chain, for pages of these severities. With ``repeat_minutes`` the last step is told again and
    again, ``repeat_at_most`` times.
    """

    severities: frozenset[Paged] = frozenset({"critical"})
    steps: tuple[Step, ...] = (Step(after_minutes=10), Step(after_minutes=30))
    repeat_minutes: Annotated[float, Field(gt=0)] | None = None
    repeat_at_most: Annotated[int, Field(ge=1, le=1000)] = 10

    @field_validator("steps")
    @classmethod
    def _in_order(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        times = [step.after_minutes for step in steps]
        if any(later <= earlier for earlier, later in pairwise(times)):
            raise ValueError("each step must come after the one before it")
        return steps

    def step(self, number: int) -> Step | None:
        """Step ``number`` from 1, those that repeat the last one included."""
        if number <= len(self.steps):
            return self.steps[number - 1]
        repeats = number - len(self.steps)
        if not self.steps or self.repeat_minutes is None or repeats > self.repeat_at_most:
            return None
        last = self.steps[-1]
        after = last.after_minutes + repeats * self.repeat_minutes
        return Step.model_construct(after_minutes=after, channels=last.channels, people=last.people)


class QuietHours(Hours):
    """When those who are paged sleep: what is less than critical waits until they are over."""

    severities: frozenset[Literal["warning"]] = frozenset({"warning"})


class Storm(Section):
    """More than ``pages_a_minute`` in a tenant are told together: a digest lists them, at most one every
    ``digest_seconds``.
    """

    pages_a_minute: Annotated[int, Field(ge=1)] = 10
    digest_seconds: Annotated[float, Field(ge=5, le=3600)] = 60.0


class Silence(Match):
    """Detections of a kind page nobody before ``until``. They open incidents all the same, and what is still
    open and not acknowledged by then is paged.
    """

    until: Utc
    reason: Annotated[str, Field(max_length=512)] = ""


class Owner(Section):
    """Whose agents they are, and where it is written what to do."""

    agents: Names
    tenants: Names | None = None
    owner: Identifier
    runbook: Annotated[str, Field(max_length=1024)] | None = None

    def owns(self, tenant: str, agent: str) -> bool:
        return named(agent, self.agents) and named(tenant, self.tenants)
