"""A decision in the making: each fact is checked against the tables as it is added."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from responders import effects
from responders.decider.inputs import Around, Ids, Input
from responders.effects import Effect, Role, TimerKind
from responders.incident import Incident, apply
from responders.policy import Policy
from schemas import incident as log
from schemas.control import ControlState, Target
from schemas.incident import Actor, Fact, IncidentEvent

ENGINE: Final = Actor()
TEXT_CHARS: Final = 1024
OPENED: Final = "opened"
"""The page of an incident that opened; later pages are named for their transition."""

RAISED: Final = "raised:"
"""What the page of an incident that got worse begins with; then the severity."""

DISOBEYED: Final = "disobeyed:"
"""What the page of an order that is ignored begins with; then the command's id."""

DIGEST: Final = "digest"
"""The page of a storm, followed by its number."""

_WITH_BUTTONS: Final = "slack:"
"""What the channels are called whose pages have buttons."""

_SHOWN: Final = frozenset(
    {
        "detection_joined",
        "severity_raised",
        "kin_linked",
        "incident_absorbed",
        "incident_listed",
        "part_failed",
        "escalated",
        "silenced",
        "silence_ended",
        "page_late",
        "containment_proposed",
        "containment_denied",
        "containment_unanswered",
        "containment_requested",
        "containment_undeliverable",
        "containment_applied",
        "containment_refused",
        "containment_unconfirmed",
        "containment_verified",
        "containment_disobeyed",
        "containment_residual",
        "containment_released",
        "acknowledged",
        "mitigated",
        "resolved",
        "false_alarm",
        "merged",
        "note",
    }
)
"""The facts that change what a page says."""


@dataclass(frozen=True, slots=True)
class Follow:
    """Something to decide about another incident in the same transaction: ``to``, or a tenant's digest."""

    given: Input
    to: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """``events`` follow the incident that was given; ``incident`` is what they make of it."""

    incident: Incident | None
    events: tuple[IncidentEvent, ...] = ()
    effects: tuple[Effect, ...] = ()
    follow: tuple[Follow, ...] = ()


class Draft:
    """What a decision has come to so far; ``before`` is the incident that it began with."""

    def __init__(
        self, incident: Incident | None, policy: Policy, now: datetime, ids: Ids, around: Around
    ) -> None:
        self.before = self.maybe = incident
        self.policy = policy
        self.now = now
        self.ids = ids
        self.around = around
        self._events: list[IncidentEvent] = []
        self._effects: list[Effect] = []
        self._follow: list[Follow] = []

    @property
    def incident(self) -> Incident:
        assert self.maybe is not None
        return self.maybe

    def open(self, seed: str, fact: log.Triggered, actor: Actor) -> None:
        event = IncidentEvent(
            incident_id=self.ids.incident_id(seed), version=1, time=self.now, actor=actor, data=fact
        )
        self.maybe = apply(None, event)
        self._events.append(event)

    def add(self, fact: Fact, actor: Actor = ENGINE) -> None:
        before = self.incident
        event = IncidentEvent(
            incident_id=before.incident_id, version=before.version + 1, time=self.now, actor=actor, data=fact
        )
        self.maybe = apply(before, event)
        self._events.append(event)

    def effect(self, effect: Effect) -> None:
        self._effects.append(effect)

    def follow(self, given: Input, to: str | None = None) -> None:
        self._follow.append(Follow(given, to))

    def contain(
        self,
        target: Target,
        state: ControlState,
        reason: str,
        *,
        actor: Actor = ENGINE,
        detection_id: str | None = None,
    ) -> None:
        """Request and issue at once: what is asked for in a transaction is issued in it."""
        incident_id = self.incident.incident_id
        role: Role = "operator" if actor.kind == "person" else "engine"
        self.add(
            log.ContainmentRequested(target=target, state=state, reason=reason, detection_id=detection_id),
            actor,
        )
        epoch, command_id = self.ids.epoch(target), self.ids.command_id()
        self.add(log.ContainmentIssued(target=target, epoch=epoch, command_id=command_id))
        self.effect(effects.Hold(incident_id, target, state, epoch, command_id, reason, role))
        self.timer("confirm", target, epoch, self.policy.containment.confirm_within_ms)

    def timer(self, kind: TimerKind, target: Target | None, number: int, after_ms: float) -> None:
        self.timer_at(kind, target, number, self.now + timedelta(milliseconds=after_ms))

    def timer_at(self, kind: TimerKind, target: Target | None, number: int, due: datetime) -> None:
        self.effect(effects.SetTimer(self.incident.incident_id, kind, target, number, due))

    def cancel(self, *kinds: TimerKind) -> None:
        self.effect(effects.CancelTimers(self.incident.incident_id, kinds))

    def done(self) -> Decision:
        if self._events:
            if any(event.type in _SHOWN for event in self._events):
                self._update_pages()
            first, last = self._events[0], self._events[-1]
            self.effect(effects.PublishIncidentEvents(first.incident_id, first.version, last.version))
        return Decision(self.maybe, tuple(self._events), tuple(self._effects), tuple(self._follow))

    def _update_pages(self) -> None:
        """The first page of each channel says how things stand; the others are replies to it, and are edited
        where they have buttons: none may stand there that no longer counts.
        """
        channels: set[str] = set()
        for status in self.incident.pages.values():
            has_buttons = status.channel.startswith(_WITH_BUTTONS)
            if status.state == "delivered" and (has_buttons or status.channel not in channels):
                channels.add(status.channel)
                self.update_page(status.page, status.channel)

    def update_page(self, page: str, channel: str) -> None:
        self.effect(effects.UpdatePage(self.incident.incident_id, page, channel, self.incident.version))
