"""What belongs together: detections of one cause, and consequences with what they follow from."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from responders.policy.section import Detectors, Match, Minutes, Names, Seconds, Section, named
from schemas.control import EVERY_AGENT, Mode
from schemas.detection import Detection

Key = Literal["session", "agent", "agent_detector", "detector", "tenant"]
"""What two detections have in common; all are of one tenant."""

OUTAGE: Final = frozenset({"provider_outage"})
FLEET: Final = frozenset({"provider_outage", "shared_credential", "spawn_storm"})
_SEEN_IN_WINDOWS: Final = frozenset(
    {
        "error_rate",
        "latency",
        "completion_rate",
        "escalation_rate",
        "cost_per_session",
        "canary",
        "health_score",
        "slo_burn",
        "slice_regression",
        "session_outlier",
        "activity_collapse",
    }
)
_COST_OF_TRYING_AGAIN: Final = frozenset({"budget", "spend_forecast"})


class Group(Match):
    """How detections of a kind find their incident. The first rule that fits decides."""

    by: Annotated[tuple[Key, ...], Field(min_length=1)] = ("session", "agent")
    window_minutes: Minutes | None = None


class Grouping(Section):
    """Detections that share one of ``by`` join one incident: what comes first in ``by`` counts first. An
    incident that has been without a detection for the window takes in no more; a cause that comes again
    within ``kin_days`` is linked to the incident it had before.
    """

    by: Annotated[tuple[Key, ...], Field(min_length=1)] = ("session", "agent")
    window_minutes: Minutes = 24 * 60.0
    kin_days: Annotated[float, Field(ge=0, le=366)] = 14.0
    rules: tuple[Group, ...] = (Group(detectors=FLEET, by=("detector",)),)

    def of(self, detection: Detection) -> Group:
        """The rule for this detection, its window filled in."""
        rule = next((each for each in self.rules if each.fits(detection)), None) or Group(by=self.by)
        if rule.window_minutes is not None:
            return rule
        return rule.model_copy(update={"window_minutes": self.window_minutes})


class Inhibit(Section):
    """While an incident of ``source`` is open, what it causes in the agents it names pages nobody: it joins
    that incident, also when it came first.

    For ``for_minutes`` after the newest detection of the source, and ``before_minutes`` back from its onset.
    A consequence that comes first waits ``wait_seconds`` with its page for the source to show.
    """

    source: Annotated[Detectors, Field(min_length=1)]
    targets: Annotated[Detectors, Field(min_length=1)]
    suggests: frozenset[Mode | Literal["nothing"]] | None = None
    agents: Names | None = None
    tenants: Names | None = None
    for_minutes: Minutes = 120.0
    before_minutes: Minutes = 15.0
    wait_seconds: Seconds = 0.0

    def concerns(self, detection: Detection) -> bool:
        """Whether the detection may be a consequence."""
        about = Match(
            detectors=self.targets, suggests=self.suggests, agents=self.agents, tenants=self.tenants
        )
        return about.fits(detection)

    def springs_from(self, source: Detection) -> bool:
        """Whether the detection is one of a source; one that says it is over is none."""
        is_one = source.detector in self.source and source.severity != "info"
        return is_one and named(source.tenant, self.tenants)


def agents_of(source: Detection) -> frozenset[str]:
    """Whom a detection names: `EVERY_AGENT` is all of its tenant."""
    named_too = frozenset(source.agents)
    return named_too if source.agent == EVERY_AGENT and named_too else named_too | {source.agent}


INHIBITIONS = (
    Inhibit(source=OUTAGE, targets=_SEEN_IN_WINDOWS, wait_seconds=45),
    Inhibit(source=OUTAGE, targets=_COST_OF_TRYING_AGAIN),
    Inhibit(
        source=OUTAGE,
        targets=frozenset({"retry_storm"}),
        suggests=frozenset({"throttle", "nothing"}),
        wait_seconds=45,
    ),
    Inhibit(
        source=frozenset({"spawn_storm"}),
        targets=frozenset({"budget", "spend_forecast", "fan_out", "ping_pong", "tool_loop"}),
    ),
    Inhibit(source=frozenset({"telemetry_gap"}), targets=frozenset({"activity_collapse", "completion_rate"})),
)
