"""What the decider is given: something that happened, what lies around it, and where ids come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from responders.effects import Delivered, Permanent, TimerKind
from schemas.control import ControlAck, ControlState, Target
from schemas.detection import Detection, Severity


class ActionRefused(Exception):  # noqa: N818 - the answer to a person, not a fault
    """What the person asked for is not possible now; the message is one line that says why."""


class NoSuchIncident(ActionRefused):
    """There is no incident with the id that the person gave."""


class Ids(Protocol):
    """Where ids come from: in the service the database, in tests a counter."""

    def incident_id(self, seed: str) -> str:
        """The id of the incident that ``seed`` (a detection or command id) opens; same seed, same id."""

    def command_id(self) -> str:
        """A new id for a command."""

    def epoch(self, target: Target) -> int:
        """The next epoch of the target: greater than every one before it."""


@dataclass(frozen=True, slots=True)
class SilenceInForce:
    """A silence that a person ordered, as far as it concerns what is decided about."""

    silence_id: str
    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Around:
    """What lies around an incident, of what bears upon paging.

    ``pages_lately`` counts the transitions paged in the tenant within the last minute; ``kin`` is the
    incident the same cause had before; ``follows`` says that the incident decided about is that of a source
    of which the detection is a consequence. ``let_run_at`` is when a person last let run whom the detection
    is about. ``troubles`` is why pages (page and channel) have not arrived.
    """

    silences: Sequence[SilenceInForce] = ()
    pages_lately: int = 0
    kin: str | None = None
    follows: bool = False
    let_run_at: datetime | None = None
    troubles: Mapping[tuple[str, str], str] = field(default_factory=dict)


NOTHING_AROUND = Around()


@dataclass(frozen=True, slots=True)
class DetectionSeen:
    """The detection, as severe as the policy takes it."""

    detection: Detection


@dataclass(frozen=True, slots=True)
class OrderIgnored:
    """An agent goes on that this incident, too, has told to stop; another one tells of the detection."""

    detection: Detection


@dataclass(frozen=True, slots=True)
class AckSeen:
    """``target`` is whom the acknowledged command was for."""

    ack: ControlAck
    target: Target


@dataclass(frozen=True, slots=True)
class CommandDelivered:
    """The broker has the command with this epoch."""

    target: Target
    epoch: int


@dataclass(frozen=True, slots=True)
class CommandRefused:
    """The broker refuses the command with this epoch for good."""

    target: Target
    epoch: int
    reason: str


@dataclass(frozen=True, slots=True)
class PageOutcome:
    """A page went out, showing the incident at ``rendered_version``, or failed for good."""

    page: str
    channel: str
    outcome: Delivered | Permanent
    attempts: int
    rendered_version: int = 0


@dataclass(frozen=True, slots=True)
class TimerFired:
    """``number`` is the command's epoch, the step of an escalation, or the version at which it was set."""

    kind: TimerKind
    target: Target | None
    number: int


@dataclass(frozen=True, slots=True)
class Consequence:
    """An incident that follows from another."""

    incident_id: str
    agent: str
    headline: str


@dataclass(frozen=True, slots=True)
class Absorb:
    """The incident is the cause of these others."""

    consequences: tuple[Consequence, ...]


@dataclass(frozen=True, slots=True)
class MergeInto:
    """The incident is a consequence of ``cause``."""

    cause: str
    headline: str


@dataclass(frozen=True, slots=True)
class ListInDigest:
    """One more incident than pages a minute allow: the digest, which is an incident of its own, tells it.

    ``told_at`` is when the digest before it was sent, which somebody is on.
    """

    incident_id: str
    page: str
    tenant: str
    agent: str
    severity: Severity
    headline: str
    channels: tuple[str, ...]
    told_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class PartFails:
    """A part of the engine fails, for this cause: a channel, with a ``page`` of ``incident`` that ``told``
    gets instead, or a topic.
    """

    part: str
    cause: str
    reason: str
    incident: str | None = None
    page: str | None = None
    told: str | None = None


@dataclass(frozen=True, slots=True)
class PartWorks:
    """A part of the engine does what it is for."""

    part: str


@dataclass(frozen=True, slots=True)
class SilenceBegins:
    """A person wants to hear nothing of this for a while."""

    person: str
    silence: SilenceInForce


@dataclass(frozen=True, slots=True)
class SilenceEnds:
    """A person wants to hear of it again before the silence is over."""

    person: str
    silence_id: str


@dataclass(frozen=True, slots=True)
class Acknowledge:
    pass


@dataclass(frozen=True, slots=True)
class Resolve:
    reason: str = ""


@dataclass(frozen=True, slots=True)
class MarkFalseAlarm:
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AddNote:
    text: str


@dataclass(frozen=True, slots=True)
class Silence:
    """No page of this incident before ``until``."""

    until: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EndSilence:
    """Page of this incident again: the silence that was for it alone is over."""


@dataclass(frozen=True, slots=True)
class Contain:
    """Halt, degrade or whatever else ``state`` says. Opens an incident when there is none."""

    target: Target
    state: ControlState
    reason: str


@dataclass(frozen=True, slots=True)
class Lift:
    """No longer hold ``target``, nor a session of it."""

    target: Target
    reason: str


@dataclass(frozen=True, slots=True)
class Approve:
    """Do what was proposed: for ``target``, or everything that waits."""

    target: Target | None = None


@dataclass(frozen=True, slots=True)
class Deny:
    """Do not do what was proposed: for ``target``, or anything that waits."""

    target: Target | None = None
    reason: str = ""


Action = (
    Acknowledge | Resolve | MarkFalseAlarm | AddNote | Silence | EndSilence | Contain | Lift | Approve | Deny
)


@dataclass(frozen=True, slots=True)
class PersonActs:
    person: str
    action: Action


Input = (
    DetectionSeen
    | OrderIgnored
    | AckSeen
    | CommandDelivered
    | CommandRefused
    | PageOutcome
    | TimerFired
    | PersonActs
    | Absorb
    | MergeInto
    | ListInDigest
    | PartFails
    | PartWorks
    | SilenceBegins
    | SilenceEnds
)
