"""An incident: what it is made of, and the fold over its events that makes it.

What may follow what is in the tables of `responders.lifecycle`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Literal

from responders.containment import combine, scope_of
from responders.lifecycle import (
    CONTAINMENT,
    LIFECYCLE,
    ContainmentState,
    IllegalTransition,
    State,
    diagram,
)
from responders.pages import wording
from schemas import incident as log
from schemas.control import EVERY_AGENT, ControlState, Target
from schemas.detection import Detection, Severity
from schemas.incident import Fact, IncidentEvent

SEVERITIES: Final[tuple[Severity, ...]] = ("info", "warning", "critical")

_WORST_FIRST: Final[tuple[ContainmentState, ...]] = (
    "disobeyed",
    "requested",
    "applied",
    "verified",
    "released",
    "none",
)


@dataclass(frozen=True, slots=True)
class Containment:
    """What an incident wants of one target, and the proof so far. ``None`` times have not happened.
    ``residual`` is how much was seen of it after the order, and ``residual_named`` of what.
    """

    target: Target
    wanted: ControlState
    reason: str
    state: ContainmentState = "none"
    proposed: Literal["shadow", "approve"] | None = None
    proposal: ControlState | None = None
    epoch: int | None = None
    command_id: str | None = None
    enforcement_point: str | None = None
    refusal: str | None = None
    refused_by: str | None = None
    undeliverable: str | None = None
    residual: int | None = None
    residual_named: tuple[tuple[str, int], ...] = ()
    proposed_at: datetime | None = None
    proposed_version: int | None = None
    answer_until: datetime | None = None
    denied_at: datetime | None = None
    denied_by: str | None = None
    unanswered_at: datetime | None = None
    requested_at: datetime | None = None
    issued_at: datetime | None = None
    delivered_at: datetime | None = None
    undeliverable_at: datetime | None = None
    applied_at: datetime | None = None
    unconfirmed_at: datetime | None = None
    refused_at: datetime | None = None
    verified_at: datetime | None = None
    disobeyed_at: datetime | None = None
    released_at: datetime | None = None

    @property
    def active(self) -> bool:
        """Whether the incident still holds the target."""
        return self.state not in ("none", "released")

    @property
    def awaited(self) -> bool:
        """Whether something waits for a person's yes or no."""
        return self.proposed == "approve" and self.proposal is not None and self.denied_at is None


@dataclass(frozen=True, slots=True)
class PageStatus:
    """One page: a transition told to one channel; ``version`` is the incident's when it was requested."""

    page: str
    channel: str
    headline: str
    state: Literal["requested", "delivered", "failed"]
    requested_at: datetime
    version: int
    delivered_at: datetime | None = None
    conversation: str | None = None
    message: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Deferral:
    """A page nobody has got yet: looked at again at ``until``, or told in the digest ``told_in``."""

    page: str
    headline: str
    reason: Literal["quiet_hours", "silence", "consequence", "storm"]
    until: datetime | None
    told_in: str | None
    version: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Related:
    """Another incident that this one stands for: a consequence, or one of a storm."""

    incident_id: str
    agent: str
    headline: str
    severity: Severity | None = None
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Incident:
    """The fold of an incident's events up to ``version``. ``containments`` go by ``scope_of`` the target.
    ``untold`` is how many it lists since its last page.
    """

    incident_id: str
    version: int
    state: State
    severity: Severity
    tenant: str
    agent: str
    session: str | None
    onset: datetime
    summary: str
    opened_at: datetime
    opened_by: log.Actor
    updated_at: datetime
    detections: tuple[Detection, ...] = ()
    containments: Mapping[str, Containment] = field(default_factory=lambda: MappingProxyType({}))
    pages: Mapping[tuple[str, str], PageStatus] = field(default_factory=lambda: MappingProxyType({}))
    acknowledged_by: str | None = None
    acknowledged_at: datetime | None = None
    mitigated_at: datetime | None = None
    resolved_by: str | None = None
    resolved_at: datetime | None = None
    false_alarm: bool = False
    resolution: str = ""
    notes: tuple[str, ...] = ()
    deferrals: Mapping[str, Deferral] = field(default_factory=lambda: MappingProxyType({}))
    late: frozenset[tuple[str, str]] = frozenset()
    attended: bool = False
    escalations: int = 0
    escalation_step: int = 0
    escalating_since: datetime | None = None
    silenced_until: datetime | None = None
    silence_id: str | None = None
    silenced_by: str | None = None
    silenced_for: str = ""
    kin: tuple[str, ...] = ()
    absorbed: tuple[Related, ...] = ()
    listed: tuple[Related, ...] = ()
    untold: int = 0
    part: str | None = None
    part_failures: tuple[tuple[str | None, str | None], ...] = ()
    merged_into: str | None = None

    @property
    def open(self) -> bool:
        return self.state != "resolved"

    @property
    def containment(self) -> ContainmentState:
        """Of all targets, the one a person must look at first."""
        states = {each.state for each in self.containments.values()}
        return next((state for state in _WORST_FIRST if state in states), "none")

    @property
    def agents(self) -> tuple[str, ...]:
        """Everyone involved, the first one first."""
        named = [self.agent, *(each.agent for each in self.detections)]
        named += [each.agent for each in self.absorbed]
        return tuple(dict.fromkeys(named))

    @property
    def broken_channel(self) -> str | None:
        """The channel that the incident is about: it is not told of it there."""
        is_one = self.part is not None and self.part.startswith(wording.CHANNEL)
        return self.part.removeprefix(wording.CHANNEL) if self.part is not None and is_one else None

    @property
    def headline(self) -> str:
        """What opened it, in one line."""
        if self.part is not None:
            return self.summary.partition(". ")[0]
        return wording.headline(self.detections[0]) if self.detections else self.summary

    @property
    def worst(self) -> Detection | None:
        """The newest detection of the incident's severity: what a person should read first. Of a fleet's
        incident one about the fleet: the others are its consequences.
        """
        severe = [each for each in self.detections if each.severity == self.severity]
        of_the_fleet = [each for each in severe if each.agent == self.agent == EVERY_AGENT]
        found = of_the_fleet or severe or self.detections[:1]
        return found[-1] if found else None

    def containment_of(self, target: Target) -> Containment | None:
        return self.containments.get(scope_of(target))


def fold(events: Iterable[IncidentEvent]) -> Incident | None:
    """The incident that ``events`` (in order, from version 1) make; None for no events.

    Raises:
        IllegalTransition: an event may not follow, or a version is missing or double.
    """
    incident: Incident | None = None
    for event in events:
        incident = apply(incident, event)
    return incident


def apply(incident: Incident | None, event: IncidentEvent) -> Incident:
    """``incident`` after one more event; the one given is unchanged.

    Raises:
        IllegalTransition: by the tables, or because the version does not follow.
    """
    version = 0 if incident is None else incident.version
    if event.version != version + 1:
        raise IllegalTransition(f"{event.incident_id}: version {event.version} cannot follow {version}")
    before = None if incident is None else incident.state
    after = LIFECYCLE[before].get(event.type)
    if after is None:
        raise IllegalTransition(f"{event.incident_id}: {event.type} cannot follow in state {before}")
    if incident is None:
        return _opened(event)
    if incident.incident_id != event.incident_id:
        raise IllegalTransition(f"{event.event_id} is not an event of {incident.incident_id}")
    moved = replace(incident, version=event.version, state=after, updated_at=event.time)
    if (before, after) == ("mitigated", "triggered"):
        moved = _unattended(moved)
    return _with_fact(moved, event.data, event)


def _unattended(incident: Incident) -> Incident:
    """It needs a person again. Whoever is being called already goes on being called."""
    if not incident.attended:
        return incident
    return replace(incident, attended=False, escalating_since=None, escalation_step=0)


def allowed(incident: Incident, fact_type: str) -> bool:
    """Whether a fact of this type may follow, by the lifecycle alone."""
    return fact_type in LIFECYCLE[incident.state]


def _opened(event: IncidentEvent) -> Incident:
    data = event.data
    assert isinstance(data, log.Triggered)
    return Incident(
        incident_id=event.incident_id,
        version=event.version,
        state="triggered",
        severity=data.severity,
        tenant=data.tenant,
        agent=data.agent,
        session=data.session,
        onset=data.onset,
        summary=data.summary,
        opened_at=event.time,
        opened_by=event.actor,
        updated_at=event.time,
        detections=() if data.detection is None else (data.detection,),
    )


def _with_fact(incident: Incident, data: Fact, event: IncidentEvent) -> Incident:
    changes: dict[str, Any]
    match data:
        case log.DetectionJoined():
            onset = min(incident.onset, data.detection.onset)
            changes = {"detections": (*incident.detections, data.detection), "onset": onset}
        case log.SeverityRaised():
            changes = {"severity": data.after}
        case log.PageRequested() | log.PageDelivered() | log.PageFailed():
            changes = {"pages": _pages(incident, data, event)}
            if isinstance(data, log.PageRequested):
                changes["untold"] = 0
            if not incident.attended:
                changes["escalating_since"] = incident.escalating_since or event.time
        case log.PageDeferred() | log.PageLate() | log.Escalated() | log.Silenced() | log.SilenceEnded():
            changes = _waiting(incident, data, event)
        case log.KinLinked() | log.IncidentAbsorbed() | log.IncidentListed():
            changes = _relations(incident, data)
        case log.PartFailed():
            changes = _part(incident, data)
        case log.Acknowledged() | log.Mitigated() | log.Note():
            changes = _progress(incident, data, event)
        case log.Resolved() | log.FalseAlarm() | log.Merged():
            changes = _closing(data, event)
        case log.Triggered():
            raise IllegalTransition(f"{event.event_id}: an incident is triggered once")
        case _:
            changes = {"containments": _containments(incident, data, event)}
    return replace(incident, **changes)


def _progress(
    incident: Incident, data: log.Acknowledged | log.Mitigated | log.Note, event: IncidentEvent
) -> dict[str, Any]:
    match data:
        case log.Acknowledged():
            return {
                "acknowledged_by": event.actor.name,
                "acknowledged_at": event.time,
                "attended": True,
                "escalating_since": None,
            }
        case log.Mitigated():
            return {"mitigated_at": event.time}
        case log.Note():
            return {"notes": (*incident.notes, data.text)}


def _closing(data: log.Resolved | log.FalseAlarm | log.Merged, event: IncidentEvent) -> dict[str, Any]:
    return {
        "resolved_by": event.actor.name,
        "resolved_at": event.time,
        "resolution": data.reason,
        "false_alarm": isinstance(data, log.FalseAlarm),
        "merged_into": data.into if isinstance(data, log.Merged) else None,
    }


def _relations(
    incident: Incident, data: log.KinLinked | log.IncidentAbsorbed | log.IncidentListed
) -> dict[str, Any]:
    match data:
        case log.KinLinked():
            return {"kin": (*incident.kin, data.kin)}
        case log.IncidentAbsorbed():
            related = Related(data.consequence, data.agent, data.headline)
            return {"absorbed": (*incident.absorbed, related)}
        case log.IncidentListed():
            related = Related(data.listed, data.agent, data.headline, data.severity, tuple(data.channels))
            return {"listed": (*incident.listed, related), "untold": incident.untold + 1}


def _part(incident: Incident, data: log.PartFailed) -> dict[str, Any]:
    failures = (*incident.part_failures, (data.incident, data.page))
    pages = sum(page is not None for _, page in failures)
    summary = wording.part_fails(data.part, data.cause, data.reason, pages, data.told)
    return {"part": data.part, "part_failures": failures, "summary": summary}


def _waiting(
    incident: Incident,
    data: log.PageDeferred | log.PageLate | log.Escalated | log.Silenced | log.SilenceEnded,
    event: IncidentEvent,
) -> dict[str, Any]:
    match data:
        case log.PageDeferred():
            told = Deferral(
                data.page, data.headline, data.reason, data.until, data.told_in, event.version, event.time
            )
            return {"deferrals": MappingProxyType({**incident.deferrals, data.page: told})}
        case log.PageLate():
            return {"late": incident.late | {(data.page, data.channel)}}
        case log.Escalated():
            return {"escalations": incident.escalations + 1, "escalation_step": data.step}
        case log.Silenced():
            by = event.actor.name if event.actor.kind == "person" else None
            return {
                "silenced_until": data.until,
                "silence_id": data.silence_id,
                "silenced_by": by,
                "silenced_for": data.reason,
            }
        case log.SilenceEnded():
            return {"silenced_until": None, "silence_id": None}


def _pages(
    incident: Incident, data: log.PageRequested | log.PageDelivered | log.PageFailed, event: IncidentEvent
) -> Mapping[tuple[str, str], PageStatus]:
    key = (data.page, data.channel)
    before = incident.pages.get(key)
    if isinstance(data, log.PageRequested):
        if before is not None:
            raise IllegalTransition(
                f"{event.event_id}: page {data.page} to {data.channel} was requested before"
            )
        after = PageStatus(data.page, data.channel, data.headline, "requested", event.time, event.version)
    elif before is None or before.state != "requested":
        raise IllegalTransition(f"{event.event_id}: no page {data.page} to {data.channel} is under way")
    elif isinstance(data, log.PageDelivered):
        after = replace(
            before,
            state="delivered",
            delivered_at=event.time,
            conversation=data.conversation,
            message=data.message,
        )
    else:
        after = replace(before, state="failed", reason=data.reason)
    return MappingProxyType({**incident.pages, key: after})


_ContainmentFact = (
    log.ContainmentProposed
    | log.ContainmentDenied
    | log.ContainmentUnanswered
    | log.ContainmentRequested
    | log.ContainmentIssued
    | log.ContainmentDelivered
    | log.ContainmentUndeliverable
    | log.ContainmentApplied
    | log.ContainmentRefused
    | log.ContainmentUnconfirmed
    | log.ContainmentVerified
    | log.ContainmentDisobeyed
    | log.ContainmentResidual
    | log.ContainmentReleased
)


def _containments(
    incident: Incident, data: _ContainmentFact, event: IncidentEvent
) -> Mapping[str, Containment]:
    key = scope_of(data.target)
    before = incident.containments.get(key)
    state: ContainmentState = "none" if before is None else before.state
    after_state = CONTAINMENT[state].get(data.type)
    if after_state is None:
        raise IllegalTransition(
            f"{event.event_id}: {data.type} of {data.target.key} cannot follow in state {state}"
        )
    if isinstance(data, log.ContainmentProposed | log.ContainmentRequested):
        after = _wanted(before, data, event)
    elif before is None:
        raise IllegalTransition(f"{event.event_id}: {data.type} of {data.target.key}, which was never wanted")
    elif isinstance(data, log.ContainmentDenied | log.ContainmentUnanswered) and not before.awaited:
        raise IllegalTransition(f"{event.event_id}: nothing waits for an answer about {data.target.key}")
    else:
        after = _proved(before, data, event)
    after = replace(after, state=after_state)
    return MappingProxyType({**incident.containments, key: after})


def _wanted(
    before: Containment | None, data: log.ContainmentProposed | log.ContainmentRequested, event: IncidentEvent
) -> Containment:
    """A new wish starts a new proof: the times of the one before stay in the log."""
    if isinstance(data, log.ContainmentProposed):
        base = before or Containment(data.target, data.state, data.reason)
        wanted = base.wanted if base.active else data.state
        return replace(
            base,
            wanted=wanted,
            reason=data.reason,
            proposed=data.trust,
            proposal=data.state,
            proposed_at=event.time,
            proposed_version=event.version,
            answer_until=data.until,
            denied_at=None,
            denied_by=None,
            unanswered_at=None,
        )
    after = Containment(data.target, data.state, data.reason, requested_at=event.time)
    if before is None or before.proposal is None or not before.awaited:
        return after
    if combine([data.state, before.proposal]) == combine([data.state]):
        return after
    # What is ordered is less than what was asked: the question stands.
    return replace(
        after,
        proposed=before.proposed,
        proposal=before.proposal,
        proposed_at=before.proposed_at,
        proposed_version=before.proposed_version,
        answer_until=before.answer_until,
        unanswered_at=before.unanswered_at,
    )


def _proved(before: Containment, data: _ContainmentFact, event: IncidentEvent) -> Containment:
    changes: dict[str, Any]
    match data:
        case log.ContainmentDenied():
            changes = {"denied_at": event.time, "denied_by": event.actor.name}
        case log.ContainmentUnanswered():
            changes = {"unanswered_at": event.time}
        case log.ContainmentIssued():
            changes = {"epoch": data.epoch, "command_id": data.command_id, "issued_at": event.time}
        case log.ContainmentDelivered():
            changes = {"delivered_at": before.delivered_at or event.time, "undeliverable": None}
        case log.ContainmentUndeliverable():
            changes = {"undeliverable": data.reason, "undeliverable_at": event.time}
        case log.ContainmentApplied():
            changes = _applied(before, data, event)
        case log.ContainmentRefused():
            changes = {
                "refused_at": event.time,
                "refusal": data.reason,
                "refused_by": data.enforcement_point,
            }
        case log.ContainmentUnconfirmed():
            changes = {"unconfirmed_at": event.time}
        case log.ContainmentVerified():
            changes = {"verified_at": event.time}
        case log.ContainmentDisobeyed() | log.ContainmentResidual():
            changes = {"residual": data.actions, "residual_named": _named(data)}
            changes["disobeyed_at"] = before.disobeyed_at or event.time
        case log.ContainmentReleased():
            changes = {"released_at": event.time}
        case _:
            raise IllegalTransition(f"{event.event_id}: {data.type} proves nothing")
    return replace(before, **changes)


def _applied(before: Containment, data: log.ContainmentApplied, event: IncidentEvent) -> dict[str, Any]:
    """The first one who obeys counts; whoever refused before does no longer."""
    changes: dict[str, Any] = {}
    if before.applied_at is None:
        changes = {"applied_at": event.time, "enforcement_point": data.enforcement_point}
    if data.enforcement_point == before.refused_by:
        changes |= {"refused_at": None, "refusal": None, "refused_by": None}
    return changes


def _named(data: log.ContainmentDisobeyed | log.ContainmentResidual) -> tuple[tuple[str, int], ...]:
    """What there was most of first."""
    return tuple(sorted(data.named.items(), key=lambda each: (-each[1], each[0])))


__all__ = [
    "CONTAINMENT",
    "LIFECYCLE",
    "SEVERITIES",
    "Containment",
    "ContainmentState",
    "Deferral",
    "IllegalTransition",
    "Incident",
    "PageStatus",
    "Related",
    "State",
    "allowed",
    "apply",
    "diagram",
    "fold",
]
