"""An incident: its states, the one table that says what may follow what, and the fold over its events.

Everything that changes state is here, in `LIFECYCLE` and `CONTAINMENT`; what is not in a table is illegal,
raises `IllegalTransition` and changes nothing. The diagram in the docs is drawn from the tables (`diagram`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Literal

from responders.containment import scope_of
from schemas import incident as log
from schemas.control import ControlState, Target
from schemas.detection import Detection, Severity
from schemas.incident import Fact, IncidentEvent

State = Literal["triggered", "acknowledged", "mitigated", "resolved"]
ContainmentState = Literal["none", "requested", "applied", "verified", "disobeyed", "released"]

SEVERITIES: Final[tuple[Severity, ...]] = ("info", "warning", "critical")

# Facts that may arrive at any time once the incident is open, and do not move it.
_ANY_TIME: Final = (
    "page_requested",
    "page_delivered",
    "page_failed",
    "containment_proposed",
    "containment_issued",
    "containment_delivered",
    "containment_applied",
    "containment_refused",
    "containment_unconfirmed",
    "containment_verified",
    "containment_released",
    "note",
)
_WHILE_OPEN: Final = (*_ANY_TIME, "detection_joined")


def _stay(state: State, facts: Iterable[str]) -> dict[str, State]:
    return dict.fromkeys(facts, state)


LIFECYCLE: Final[Mapping[State | None, Mapping[str, State]]] = {
    None: {"triggered": "triggered"},
    "triggered": {
        **_stay("triggered", _WHILE_OPEN),
        **_stay("triggered", ("severity_raised", "containment_requested", "containment_disobeyed")),
        "acknowledged": "acknowledged",
        "mitigated": "mitigated",
        "resolved": "resolved",
        "false_alarm": "resolved",
    },
    "acknowledged": {
        **_stay("acknowledged", _WHILE_OPEN),
        **_stay("acknowledged", ("severity_raised", "containment_requested", "containment_disobeyed")),
        "mitigated": "mitigated",
        "resolved": "resolved",
        "false_alarm": "resolved",
    },
    "mitigated": {
        **_stay("mitigated", _WHILE_OPEN),
        "acknowledged": "mitigated",
        # Worse than thought: it needs a person again.
        "severity_raised": "triggered",
        "containment_requested": "triggered",
        "containment_disobeyed": "triggered",
        "resolved": "resolved",
        "false_alarm": "resolved",
    },
    # Closed for good: the next detection opens a new incident. What was under way still reports back.
    "resolved": _stay("resolved", _ANY_TIME),
}
"""State, then the type of the fact, to the next state."""

CONTAINMENT: Final[Mapping[ContainmentState, Mapping[str, ContainmentState]]] = {
    "none": {"containment_proposed": "none", "containment_requested": "requested"},
    "requested": {
        "containment_requested": "requested",
        "containment_issued": "requested",
        "containment_delivered": "requested",
        "containment_refused": "requested",
        "containment_unconfirmed": "requested",
        "containment_applied": "applied",
        "containment_disobeyed": "disobeyed",
        "containment_released": "released",
    },
    "applied": {
        "containment_requested": "requested",
        "containment_delivered": "applied",
        "containment_applied": "applied",
        "containment_refused": "applied",
        "containment_verified": "verified",
        "containment_disobeyed": "disobeyed",
        "containment_released": "released",
    },
    "verified": {
        "containment_requested": "requested",
        "containment_delivered": "verified",
        "containment_applied": "verified",
        "containment_refused": "verified",
        "containment_disobeyed": "disobeyed",
        "containment_released": "released",
    },
    "disobeyed": {
        "containment_requested": "requested",
        "containment_delivered": "disobeyed",
        "containment_applied": "disobeyed",
        "containment_refused": "disobeyed",
        "containment_released": "released",
    },
    "released": {
        "containment_proposed": "released",
        "containment_requested": "requested",
        "containment_delivered": "released",
    },
}
"""The same for each target an incident contains. Issued and delivered are steps of requested."""

_WORST_FIRST: Final[tuple[ContainmentState, ...]] = (
    "disobeyed",
    "requested",
    "applied",
    "verified",
    "released",
    "none",
)


class IllegalTransition(Exception):  # noqa: N818 - a statement about the log, in the words of the table
    """The fact may not follow in this state. Nothing has changed."""


@dataclass(frozen=True, slots=True)
class Containment:
    """What an incident wants of one target, and the proof so far. ``None`` times have not happened."""

    target: Target
    wanted: ControlState
    reason: str
    state: ContainmentState = "none"
    proposed: Literal["shadow", "approve"] | None = None
    epoch: int | None = None
    command_id: str | None = None
    enforcement_point: str | None = None
    refusal: str | None = None
    requested_at: datetime | None = None
    issued_at: datetime | None = None
    delivered_at: datetime | None = None
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


@dataclass(frozen=True, slots=True)
class PageStatus:
    """One page: a transition told to one channel."""

    page: str
    channel: str
    headline: str
    state: Literal["requested", "delivered", "failed"]
    requested_at: datetime
    delivered_at: datetime | None = None
    conversation: str | None = None
    message: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Incident:
    """The fold of an incident's events up to ``version``. ``containments`` go by ``scope_of`` the target."""

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
        return tuple(dict.fromkeys(named))

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
    return _with_fact(moved, event.data, event)


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
        case log.Acknowledged():
            changes = {"acknowledged_by": event.actor.name, "acknowledged_at": event.time}
        case log.Mitigated():
            changes = {"mitigated_at": event.time}
        case log.Resolved() | log.FalseAlarm():
            changes = {
                "resolved_by": event.actor.name,
                "resolved_at": event.time,
                "resolution": data.reason,
                "false_alarm": isinstance(data, log.FalseAlarm),
            }
        case log.Note():
            changes = {"notes": (*incident.notes, data.text)}
        case log.Triggered():
            raise IllegalTransition(f"{event.event_id}: an incident is triggered once")
        case _:
            changes = {"containments": _containments(incident, data, event)}
    return replace(incident, **changes)


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
        after = PageStatus(data.page, data.channel, data.headline, "requested", requested_at=event.time)
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
    | log.ContainmentRequested
    | log.ContainmentIssued
    | log.ContainmentDelivered
    | log.ContainmentApplied
    | log.ContainmentRefused
    | log.ContainmentUnconfirmed
    | log.ContainmentVerified
    | log.ContainmentDisobeyed
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
        return replace(base, wanted=data.state, reason=data.reason, proposed=data.trust)
    return Containment(data.target, data.state, data.reason, requested_at=event.time)


def _proved(before: Containment, data: _ContainmentFact, event: IncidentEvent) -> Containment:
    changes: dict[str, Any]
    match data:
        case log.ContainmentIssued():
            changes = {"epoch": data.epoch, "command_id": data.command_id, "issued_at": event.time}
        case log.ContainmentDelivered():
            changes = {"delivered_at": before.delivered_at or event.time}
        case log.ContainmentApplied():
            first = before.applied_at is None
            changes = {"applied_at": event.time, "enforcement_point": data.enforcement_point} if first else {}
        case log.ContainmentRefused():
            changes = {"refused_at": event.time, "refusal": data.reason}
        case log.ContainmentUnconfirmed():
            changes = {"unconfirmed_at": event.time}
        case log.ContainmentVerified():
            changes = {"verified_at": event.time}
        case log.ContainmentDisobeyed():
            changes = {"disobeyed_at": event.time}
        case log.ContainmentReleased():
            changes = {"released_at": event.time}
        case _:
            raise IllegalTransition(f"{event.event_id}: {data.type} proves nothing")
    return replace(before, **changes)


def diagram() -> str:
    """Both tables as Mermaid state diagrams in Markdown, without the facts that do not move them."""
    return "\n".join(
        [
            "### Lifecycle of an incident",
            "",
            *_mermaid(LIFECYCLE),
            "",
            "### Containment of a target",
            "",
            *_mermaid(CONTAINMENT),
            "",
        ]
    )


def _mermaid(
    table: Mapping[State | None, Mapping[str, State]]
    | Mapping[ContainmentState, Mapping[str, ContainmentState]],
) -> list[str]:
    lines = ["```mermaid", "stateDiagram-v2"]
    for before, follow in table.items():
        moves: dict[str, list[str]] = {}
        for fact, after in follow.items():
            if after != before:
                moves.setdefault(after, []).append(fact)
        lines += [f"    {before or '[*]'} --> {after}: {', '.join(facts)}" for after, facts in moves.items()]
    return [*lines, "```"]
