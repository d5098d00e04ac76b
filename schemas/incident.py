"""``incident.event/1``: the log of an incident, one fact an event, published from the store's outbox.

An incident is nothing but its events, in the order of ``version`` (1, 2, 3 … without a gap). The names of the
types are stable: they are what is stored, so a type is never renamed and a field never changes its meaning.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter, computed_field

from schemas.base import Contract, Count, Identifier, Milliseconds, ShortText, Utc
from schemas.control import ControlState, Target
from schemas.detection import Detection, Severity

INCIDENT_SCHEMA: Final = "incident.event/1"

Trust = Literal["shadow", "approve", "automatic"]
"""Shadow says what it would have done; approve asks a person; automatic does it."""


class Actor(Contract):
    """Who did it: the engine itself, a person (``name`` is who), or an enforcement point beside an agent."""

    kind: Literal["engine", "person", "gate"] = "engine"
    name: Identifier = "watchkeeper"


class Triggered(Contract):
    """The incident is open. Without a detection a person opened it by acting."""

    type: Literal["triggered"] = "triggered"
    tenant: Identifier
    agent: Identifier
    session: Identifier | None = None
    severity: Severity
    onset: Utc
    summary: ShortText
    detection: Detection | None = None


class DetectionJoined(Contract):
    """A detection of the same cause, from a detector, agent or session the incident had not seen yet."""

    type: Literal["detection_joined"] = "detection_joined"
    detection: Detection


class SeverityRaised(Contract):
    type: Literal["severity_raised"] = "severity_raised"
    before: Severity
    after: Severity
    detection_id: Identifier


class PageRequested(Contract):
    """Someone is to be told. ``page`` names the transition: one page a transition and channel, ever."""

    type: Literal["page_requested"] = "page_requested"
    page: Identifier
    channel: Identifier
    headline: ShortText
    people: Annotated[list[Identifier], Field(max_length=32)] = Field(default_factory=list)


class PageDeferred(Contract):
    """Nobody is told now, and why. ``until`` is when it is looked at again; without one it is told elsewhere:
    in the digest ``told_in``.
    """

    type: Literal["page_deferred"] = "page_deferred"
    page: Identifier
    headline: ShortText
    reason: Literal["quiet_hours", "silence", "consequence", "storm"]
    until: Utc | None = None
    told_in: Identifier | None = None


class PageLate(Contract):
    """Nobody knows whether the channel has it; it goes on being tried, and another channel is told."""

    type: Literal["page_late"] = "page_late"
    page: Identifier
    channel: Identifier
    waited_ms: Milliseconds


class Escalated(Contract):
    """Nobody said that they are on it: step ``step`` (from 1) of the policy's chain is told."""

    type: Literal["escalated"] = "escalated"
    step: Annotated[int, Field(ge=1)]
    waited_ms: Milliseconds


class Silenced(Contract):
    """No page before ``until``. By a person, or by a silence that was in force when it opened."""

    type: Literal["silenced"] = "silenced"
    until: Utc
    reason: ShortText = ""
    silence_id: Identifier | None = None


class SilenceEnded(Contract):
    """A person has ended the silence before its time: what it kept back is told if it still matters."""

    type: Literal["silence_ended"] = "silence_ended"
    silence_id: Identifier | None = None


class KinLinked(Contract):
    """The same cause had an incident before."""

    type: Literal["kin_linked"] = "kin_linked"
    kin: Identifier


class IncidentAbsorbed(Contract):
    """Another incident turned out to be a consequence of this one, which now stands for both."""

    type: Literal["incident_absorbed"] = "incident_absorbed"
    consequence: Identifier
    agent: Identifier
    headline: ShortText


class Merged(Contract):
    """It was a consequence of ``into``: closed here, goes on there."""

    type: Literal["merged"] = "merged"
    into: Identifier
    reason: ShortText


class IncidentListed(Contract):
    """One incident of a storm, told by the digest that this incident is."""

    type: Literal["incident_listed"] = "incident_listed"
    listed: Identifier
    severity: Severity
    agent: Identifier
    headline: ShortText
    channels: Annotated[list[Identifier], Field(max_length=64)] = Field(default_factory=list)


class PartFailed(Contract):
    """A part of the engine, which the incident is about, failed once more: a channel (``channel NAME``) with
    a page of ``incident``, which ``told`` got instead, or a topic (``topic NAME``).
    """

    type: Literal["part_failed"] = "part_failed"
    part: Identifier
    cause: Identifier
    reason: ShortText
    incident: Identifier | None = None
    page: Identifier | None = None
    told: Identifier | None = None


class PageDelivered(Contract):
    """``conversation`` and ``message`` are the channel's own ids, to edit the page in place."""

    type: Literal["page_delivered"] = "page_delivered"
    page: Identifier
    channel: Identifier
    conversation: Identifier
    message: Identifier
    attempts: Annotated[int, Field(ge=1)]


class PageFailed(Contract):
    type: Literal["page_failed"] = "page_failed"
    page: Identifier
    channel: Identifier
    reason: ShortText
    attempts: Annotated[int, Field(ge=1)]


class _OfTarget(Contract):
    target: Target


class _OfCommand(_OfTarget):
    epoch: Count


class ContainmentProposed(_OfTarget):
    """What would have been done under ``shadow``, or waits for a person under ``approve``: ``until`` then."""

    type: Literal["containment_proposed"] = "containment_proposed"
    state: ControlState
    trust: Literal["shadow", "approve"]
    reason: ShortText
    until: Utc | None = None


class ContainmentDenied(_OfTarget):
    """A person said no, or the policy does for whom nobody answered: the actor tells."""

    type: Literal["containment_denied"] = "containment_denied"
    reason: ShortText = ""


class ContainmentUnanswered(_OfTarget):
    """Nobody approved or denied in time. That is not a no: it still can be approved."""

    type: Literal["containment_unanswered"] = "containment_unanswered"
    waited_ms: Milliseconds


class ContainmentRequested(_OfTarget):
    """The incident wants the target in this state; ``detection_id`` says why, unless a person asked."""

    type: Literal["containment_requested"] = "containment_requested"
    state: ControlState
    reason: ShortText
    detection_id: Identifier | None = None


class ContainmentIssued(_OfCommand):
    """The command is in the store, with its epoch: from here on it cannot be forgotten."""

    type: Literal["containment_issued"] = "containment_issued"
    command_id: Identifier


class ContainmentDelivered(_OfCommand):
    """The broker has the signed command."""

    type: Literal["containment_delivered"] = "containment_delivered"


class ContainmentUndeliverable(_OfCommand):
    """The broker refuses the command. It goes on being tried, and nobody obeys it meanwhile."""

    type: Literal["containment_undeliverable"] = "containment_undeliverable"
    reason: ShortText


class ContainmentApplied(_OfCommand):
    """An enforcement point obeys. ``time_applied`` is by its clock."""

    type: Literal["containment_applied"] = "containment_applied"
    enforcement_point: Identifier
    time_applied: Utc


class ContainmentRefused(_OfCommand):
    type: Literal["containment_refused"] = "containment_refused"
    enforcement_point: Identifier
    reason: ShortText


class ContainmentUnconfirmed(_OfCommand):
    """Nobody said that the command is obeyed. It goes on being published."""

    type: Literal["containment_unconfirmed"] = "containment_unconfirmed"
    waited_ms: Milliseconds


class ContainmentVerified(_OfCommand):
    """Applied, and for ``quiet_ms`` after that nothing was seen that the state forbids."""

    type: Literal["containment_verified"] = "containment_verified"
    quiet_ms: Milliseconds


class ContainmentDisobeyed(_OfCommand):
    """The target goes on: ``actions`` were seen since the order so far, and ``named`` says of what."""

    type: Literal["containment_disobeyed"] = "containment_disobeyed"
    detection_id: Identifier
    actions: Count | None = None
    named: Annotated[dict[Identifier, Count], Field(max_length=16)] = Field(default_factory=dict)


class ContainmentResidual(_OfCommand):
    """It still goes on: what it has done since the order by now."""

    type: Literal["containment_residual"] = "containment_residual"
    detection_id: Identifier
    actions: Count
    named: Annotated[dict[Identifier, Count], Field(max_length=16)] = Field(default_factory=dict)


class ContainmentReleased(_OfCommand):
    """The incident no longer holds the target; another incident still may."""

    type: Literal["containment_released"] = "containment_released"
    command_id: Identifier
    reason: ShortText


class Acknowledged(Contract):
    type: Literal["acknowledged"] = "acknowledged"


class Mitigated(Contract):
    """Everything the incident holds is verified to be contained. The cause is still there."""

    type: Literal["mitigated"] = "mitigated"


class Resolved(Contract):
    type: Literal["resolved"] = "resolved"
    reason: ShortText = ""


class FalseAlarm(Contract):
    type: Literal["false_alarm"] = "false_alarm"
    reason: ShortText = ""


class Note(Contract):
    type: Literal["note"] = "note"
    text: ShortText


Fact = Annotated[
    Triggered
    | DetectionJoined
    | SeverityRaised
    | PageRequested
    | PageDeferred
    | PageDelivered
    | PageLate
    | PageFailed
    | Escalated
    | Silenced
    | SilenceEnded
    | KinLinked
    | IncidentAbsorbed
    | IncidentListed
    | PartFailed
    | Merged
    | ContainmentProposed
    | ContainmentDenied
    | ContainmentUnanswered
    | ContainmentRequested
    | ContainmentIssued
    | ContainmentDelivered
    | ContainmentUndeliverable
    | ContainmentApplied
    | ContainmentRefused
    | ContainmentUnconfirmed
    | ContainmentVerified
    | ContainmentDisobeyed
    | ContainmentResidual
    | ContainmentReleased
    | Acknowledged
    | Mitigated
    | Resolved
    | FalseAlarm
    | Note,
    Field(discriminator="type"),
]
"""What happened."""


class IncidentEvent(Contract):
    """A fact with its place in the log of one incident. ``event_id`` is ``<incident_id>/<version>``."""

    schema_: Literal["incident.event/1"] = Field(default=INCIDENT_SCHEMA, alias="schema")
    incident_id: Identifier
    version: Annotated[int, Field(ge=1)]
    time: Utc
    actor: Actor = Actor()
    data: Fact

    @computed_field  # type: ignore[prop-decorator]
    @property
    def event_id(self) -> str:
        return f"{self.incident_id}/{self.version}"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def type(self) -> str:
        return self.data.type


INCIDENT_EVENT: TypeAdapter[IncidentEvent] = TypeAdapter(IncidentEvent)
