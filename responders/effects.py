"""What a decision wants done, and how doing it can end. Values only: nothing here does anything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from responders.containment import scope_of
from schemas.control import ControlState, Target

Role = Literal["engine", "operator"]
"""Whose key signs: only an operator's may lift containment."""


PACED: Final = "as many pages a minute as the policy allows"
"""Why a page waits that no channel keeps waiting."""

TimerKind = Literal["confirm", "verify", "approval", "page", "late", "escalate", "digest"]
"""Was the command confirmed, is it quiet since, did nobody approve, is a deferred page due, has a channel not
taken one, is nobody on it, is the next digest due.
"""


@dataclass(frozen=True, slots=True)
class Page:
    """Tell the people behind ``channel`` of a transition, once. What it says is rendered when it is sent."""

    incident_id: str
    page: str
    channel: str

    @property
    def key(self) -> str:
        return f"page:{self.incident_id}:{self.page}:{self.channel}"


@dataclass(frozen=True, slots=True)
class UpdatePage:
    """Edit a delivered page in place so that it says what is true at ``version`` or later."""

    incident_id: str
    page: str
    channel: str
    version: int

    @property
    def key(self) -> str:
        return f"update:{self.incident_id}:{self.page}:{self.channel}:{self.version}"


@dataclass(frozen=True, slots=True)
class ShowPicture:
    """Put a picture of the signal beside a delivered page, where the channel can show one."""

    incident_id: str
    page: str
    channel: str

    @property
    def key(self) -> str:
        return f"picture:{self.incident_id}:{self.page}:{self.channel}"


@dataclass(frozen=True, slots=True)
class PublishIncidentEvents:
    """Put the events ``first`` to ``last`` (both included) on ``incident.events``."""

    incident_id: str
    first: int
    last: int

    @property
    def key(self) -> str:
        return f"publish:{self.incident_id}:{self.first}"


@dataclass(frozen=True, slots=True)
class Hold:
    """The incident wants the target in ``state``: published until an enforcement point confirms."""

    incident_id: str
    target: Target
    state: ControlState
    epoch: int
    command_id: str
    reason: str
    role: Role


@dataclass(frozen=True, slots=True)
class Release:
    """The incident no longer holds the target. What other incidents want of it stays."""

    incident_id: str | None
    target: Target
    epoch: int
    command_id: str
    reason: str
    role: Role = "operator"


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Give ``kind`` back to the decider at ``due``, also after a restart. ``number`` tells those of a kind
    apart: the epoch of the command, the step of an escalation, or the incident's version.
    """

    incident_id: str
    kind: TimerKind
    target: Target | None
    number: int
    due: datetime

    @property
    def scope(self) -> str:
        return "" if self.target is None else scope_of(self.target)

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.incident_id}:{self.scope}:{self.number}"


@dataclass(frozen=True, slots=True)
class CancelTimers:
    """Forget the incident's timers of these kinds."""

    incident_id: str
    kinds: tuple[TimerKind, ...]


Effect = Page | UpdatePage | ShowPicture | PublishIncidentEvents | Hold | Release | SetTimer | CancelTimers
Sendable = Page | UpdatePage | ShowPicture | PublishIncidentEvents
"""The effects that leave the store through the outbox."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """Done. A page says where it is: the channel's own ids."""

    conversation: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Retryable:
    """Not done, or not known to be done (``in_doubt``): try again, at the earliest after ``after_ms``."""

    reason: str
    after_ms: int | None = None
    in_doubt: bool = False


@dataclass(frozen=True, slots=True)
class Permanent:
    """Not done, and trying again would not help."""

    reason: str


Outcome = Delivered | Retryable | Permanent
