"""What to do about something that happened: pure, from the incident so far to new facts and effects.

`decide` reads no clock, makes no id and does no I/O: it is given `now` and `ids`. The caller stores what it
returns in one transaction (`responders.handle`), so a decision is either whole or did not happen.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, Protocol

from responders import effects, wording
from responders.containment import combine, covers, describe
from responders.effects import Delivered, Effect, Permanent, Role
from responders.incident import SEVERITIES, Containment, Incident, allowed, apply
from responders.policy import Policy, target_of
from schemas import incident as log
from schemas.control import EVERY_AGENT, ControlAck, ControlState, Target
from schemas.detection import Detection
from schemas.incident import Actor, Fact, IncidentEvent

ENGINE: Final = Actor()
_TEXT_CHARS: Final = 1024
OPENED: Final = "opened"
"""The page of an incident that opened; later pages are named for their transition."""


class ActionRefused(Exception):  # noqa: N818 - the answer to a person, not a fault
    """What the person asked for is not possible now; the message is one line that says why."""


class Ids(Protocol):
    """Where ids come from: in the service the database, in tests a counter."""

    def incident_id(self, seed: str) -> str:
        """The id of the incident that ``seed`` (a detection or command id) opens; same seed, same id."""

    def command_id(self) -> str:
        """A new id for a command."""

    def epoch(self, target: Target) -> int:
        """The next epoch of the target: greater than every one before it."""


@dataclass(frozen=True, slots=True)
class DetectionSeen:
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
class PageOutcome:
    """A page went out, showing the incident at ``rendered_version``, or failed for good."""

    page: str
    channel: str
    outcome: Delivered | Permanent
    attempts: int
    rendered_version: int = 0


@dataclass(frozen=True, slots=True)
class TimerFired:
    kind: Literal["confirm", "verify"]
    target: Target
    epoch: int


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
    """Do what was proposed."""


Action = Acknowledge | Resolve | MarkFalseAlarm | AddNote | Contain | Lift | Approve


@dataclass(frozen=True, slots=True)
class PersonActs:
    person: str
    action: Action


Input = DetectionSeen | AckSeen | CommandDelivered | PageOutcome | TimerFired | PersonActs


@dataclass(frozen=True, slots=True)
class Decision:
    """``events`` follow the incident that was given; ``incident`` is what they make of it."""

    incident: Incident | None
    events: tuple[IncidentEvent, ...] = ()
    effects: tuple[Effect, ...] = ()


def decide(given: Input, incident: Incident | None, policy: Policy, now: datetime, ids: Ids) -> Decision:
    """The decision about ``given`` for ``incident`` (None: no open incident is concerned).

    Deciding twice about the same thing decides nothing the second time.

    Raises:
        ActionRefused: a person asked for what is not possible.
    """
    draft = _Draft(incident, policy, now, ids)
    match given:
        case DetectionSeen():
            _on_detection(draft, given.detection)
        case PersonActs():
            _on_person(draft, given.person, given.action)
        case AckSeen() if incident is not None:
            _on_ack(draft, given)
        case CommandDelivered() if incident is not None:
            _on_delivered(draft, given)
        case PageOutcome() if incident is not None:
            _on_page_outcome(draft, given)
        case TimerFired() if incident is not None:
            _on_timer(draft, given)
    return draft.done()


_SHOWN: Final = frozenset(
    {
        "detection_joined",
        "severity_raised",
        "containment_proposed",
        "containment_requested",
        "containment_applied",
        "containment_refused",
        "containment_unconfirmed",
        "containment_verified",
        "containment_disobeyed",
        "containment_released",
        "acknowledged",
        "mitigated",
        "resolved",
        "false_alarm",
        "note",
    }
)
"""The facts that change what a page says."""


class _Draft:
    """A decision in the making: each fact is checked against the table as it is added."""

    def __init__(self, incident: Incident | None, policy: Policy, now: datetime, ids: Ids) -> None:
        self.maybe = incident
        self.policy = policy
        self.now = now
        self.ids = ids
        self._events: list[IncidentEvent] = []
        self._effects: list[Effect] = []

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

    def page(self, page: str, headline: str) -> None:
        for channel in self.policy.paging.channels:
            self.page_to(channel, page, headline)

    def page_to(self, channel: str, page: str, headline: str) -> None:
        """Once a transition and channel: asking again does nothing."""
        if (page, channel) in self.incident.pages:
            return
        self.add(log.PageRequested(page=page, channel=channel, headline=headline[:_TEXT_CHARS]))
        self.effect(effects.Page(self.incident.incident_id, page, channel))

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

    def timer(self, kind: Literal["confirm", "verify"], target: Target, epoch: int, after_ms: int) -> None:
        due = self.now + timedelta(milliseconds=after_ms)
        self.effect(effects.SetTimer(self.incident.incident_id, kind, target, epoch, due))

    def done(self) -> Decision:
        if self._events:
            if any(event.type in _SHOWN for event in self._events):
                self._update_pages()
            first, last = self._events[0], self._events[-1]
            self.effect(effects.PublishIncidentEvents(first.incident_id, first.version, last.version))
        return Decision(self.maybe, tuple(self._events), tuple(self._effects))

    def _update_pages(self) -> None:
        """The first page of each channel says how things stand; the others are replies to it."""
        channels: set[str] = set()
        for status in self.incident.pages.values():
            if status.state == "delivered" and status.channel not in channels:
                channels.add(status.channel)
                self.update_page(status.page, status.channel)

    def update_page(self, page: str, channel: str) -> None:
        self.effect(effects.UpdatePage(self.incident.incident_id, page, channel, self.incident.version))


def _on_detection(draft: _Draft, detection: Detection) -> None:
    if draft.maybe is None:
        if detection.severity == "info":
            return  # worth knowing, not worth an incident
        draft.open(detection.detection_id, _triggered_by(detection), ENGINE)
        if detection.severity in draft.policy.paging.severities:
            draft.page(OPENED, wording.headline(detection))
    else:
        _join(draft, detection)
    if detection.detector == "disobeyed_control":
        _disobeyed(draft, detection)
    elif detection.suggested is not None:
        _suggested(draft, detection, detection.suggested)


def _triggered_by(detection: Detection) -> log.Triggered:
    return log.Triggered(
        tenant=detection.tenant,
        agent=detection.agent,
        session=detection.session,
        severity=detection.severity,
        onset=detection.onset,
        summary=detection.summary,
        detection=detection,
    )


def _join(draft: _Draft, detection: Detection) -> None:
    """Only what is new goes into the log: a storm of one detection is one fact, the inbox has them all."""
    known = {(d.detector, d.agent, d.session, d.severity) for d in draft.incident.detections}
    if (detection.detector, detection.agent, detection.session, detection.severity) not in known:
        draft.add(log.DetectionJoined(detection=detection))
    before = draft.incident.severity
    if SEVERITIES.index(detection.severity) > SEVERITIES.index(before):
        draft.add(
            log.SeverityRaised(before=before, after=detection.severity, detection_id=detection.detection_id)
        )
        if detection.severity in draft.policy.paging.severities:
            draft.page(f"raised:{detection.severity}", wording.headline(detection))


def _disobeyed(draft: _Draft, detection: Detection) -> None:
    """Every order to this agent that it had to obey is now known to be ignored; each is told once."""
    about = target_of(detection)
    for each in tuple(draft.incident.containments.values()):
        concerned = covers(each.target, about) or covers(about, each.target)
        everyone = each.target.agent == EVERY_AGENT and each.target.tenant == about.tenant
        if not (concerned or everyone) or not each.active or each.state == "disobeyed" or each.epoch is None:
            continue
        draft.add(
            log.ContainmentDisobeyed(
                target=each.target, epoch=each.epoch, detection_id=detection.detection_id
            )
        )
        draft.page(f"disobeyed:{each.command_id}", wording.headline(detection))


def _suggested(draft: _Draft, detection: Detection, suggested: ControlState) -> None:
    target = target_of(detection)
    held = draft.incident.containment_of(target)
    wanted = suggested
    if held is not None and held.active:
        wanted = combine([held.wanted, suggested])
        if wanted == combine([held.wanted]):
            return
    if held is not None and held.released_at is not None and detection.time <= held.released_at:
        return  # seen before a person let it run again
    trust = draft.policy.containment.trust_in(detection, suggested)
    if trust == "automatic":
        draft.contain(target, wanted, detection.summary, detection_id=detection.detection_id)
    elif held is None or (held.state == "none" and held.wanted != wanted):
        draft.add(log.ContainmentProposed(target=target, state=wanted, trust=trust, reason=detection.summary))


def _on_ack(draft: _Draft, given: AckSeen) -> None:
    held = _held(draft.incident, given.target)
    if held is None or held.epoch is None or given.ack.epoch < held.epoch or held.state != "requested":
        return
    ack, point = given.ack, given.ack.enforcement_point
    if ack.result == "applied":
        draft.add(
            log.ContainmentApplied(
                target=held.target, epoch=held.epoch, enforcement_point=point, time_applied=ack.time
            ),
            Actor(kind="gate", name=point),
        )
        draft.timer("verify", held.target, held.epoch, draft.policy.containment.verify_quiet_ms)
    elif held.refused_at is None:
        reason = ack.reason or "no reason given"
        draft.add(
            log.ContainmentRefused(
                target=held.target, epoch=held.epoch, enforcement_point=point, reason=reason
            ),
            Actor(kind="gate", name=point),
        )
        draft.page(
            f"refused:{held.command_id}", f"{_name(held)} refused to {describe(held.wanted)}: {reason}"
        )


def _on_delivered(draft: _Draft, given: CommandDelivered) -> None:
    held = _held(draft.incident, given.target)
    if held is None or held.epoch is None or held.epoch > given.epoch or held.delivered_at is not None:
        return
    draft.add(log.ContainmentDelivered(target=held.target, epoch=held.epoch))


def _on_page_outcome(draft: _Draft, given: PageOutcome) -> None:
    status = draft.incident.pages.get((given.page, given.channel))
    if status is None or status.state != "requested":
        return
    outcome = given.outcome
    if isinstance(outcome, Delivered):
        stale = given.rendered_version < draft.incident.version
        draft.add(
            log.PageDelivered(
                page=given.page,
                channel=given.channel,
                conversation=outcome.conversation or given.channel,
                message=outcome.message or given.page,
                attempts=given.attempts,
            )
        )
        if stale:
            draft.update_page(given.page, given.channel)
        return
    draft.add(
        log.PageFailed(
            page=given.page,
            channel=given.channel,
            reason=outcome.reason[:_TEXT_CHARS],
            attempts=given.attempts,
        )
    )
    fallback = draft.policy.paging.fallback
    if fallback is not None and fallback != given.channel:
        draft.page_to(fallback, given.page, status.headline)


def _on_timer(draft: _Draft, given: TimerFired) -> None:
    held = _held(draft.incident, given.target)
    if held is None or held.epoch != given.epoch:
        return
    if given.kind == "confirm" and held.state == "requested":
        waited_ms = float(draft.policy.containment.confirm_within_ms)
        draft.add(log.ContainmentUnconfirmed(target=held.target, epoch=given.epoch, waited_ms=waited_ms))
    elif given.kind == "verify" and held.state == "applied":
        quiet_ms = float(draft.policy.containment.verify_quiet_ms)
        draft.add(log.ContainmentVerified(target=held.target, epoch=given.epoch, quiet_ms=quiet_ms))
        _mitigate(draft)


def _mitigate(draft: _Draft) -> None:
    active = [each for each in draft.incident.containments.values() if each.active]
    if all(each.state == "verified" for each in active) and allowed(draft.incident, "mitigated"):
        draft.add(log.Mitigated())


def _on_person(draft: _Draft, person: str, action: Action) -> None:
    actor = Actor(kind="person", name=person[:256] or "someone")
    if isinstance(action, Contain):
        _contain_by_hand(draft, actor, action)
        return
    if draft.maybe is None:
        raise ActionRefused("there is no such incident: list them with watchkeeper incidents")
    incident = draft.incident
    match action:
        case Acknowledge():
            _must_be_open(incident)
            if incident.state == "triggered" or incident.acknowledged_at is None:
                draft.add(log.Acknowledged(), actor)
        case Resolve():
            _must_be_open(incident)
            draft.add(log.Resolved(reason=_cut(action.reason)), actor)
        case MarkFalseAlarm():
            _must_be_open(incident)
            draft.add(log.FalseAlarm(reason=_cut(action.reason)), actor)
        case AddNote():
            draft.add(log.Note(text=_cut(action.text)), actor)
        case Lift():
            _lift(draft, actor, action)
        case Approve():
            _approve(draft, actor)


def _must_be_open(incident: Incident) -> None:
    if not incident.open:
        how = "marked a false alarm" if incident.false_alarm else "resolved"
        raise ActionRefused(f"{incident.incident_id} was already {how} by {incident.resolved_by}")


def _contain_by_hand(draft: _Draft, actor: Actor, action: Contain) -> None:
    words = describe(action.state)
    if draft.maybe is None:
        name = wording.name_of(action.target.agent)
        summary = f"{actor.name} ordered {name} to {words}: {action.reason}"[:_TEXT_CHARS]
        fact = log.Triggered(
            tenant=action.target.tenant,
            agent=action.target.agent,
            session=action.target.session,
            severity="warning",
            onset=draft.now,
            summary=summary,
        )
        draft.open(draft.ids.command_id(), fact, actor)
        if draft.incident.severity in draft.policy.paging.severities:
            draft.page(OPENED, summary)
        draft.add(log.Acknowledged(), actor)
    draft.contain(action.target, action.state, _cut(action.reason), actor=actor)


def _lift(draft: _Draft, actor: Actor, action: Lift) -> None:
    held = [c for c in draft.incident.containments.values() if c.active and covers(action.target, c.target)]
    if not held:
        raise ActionRefused(f"{draft.incident.incident_id} does not hold {action.target.key}")
    reason = _cut(action.reason)
    for each in held:
        epoch, command_id = draft.ids.epoch(each.target), draft.ids.command_id()
        draft.add(
            log.ContainmentReleased(target=each.target, epoch=epoch, command_id=command_id, reason=reason),
            actor,
        )
        draft.effect(effects.Release(draft.incident.incident_id, each.target, epoch, command_id, reason))


def _approve(draft: _Draft, actor: Actor) -> None:
    _must_be_open(draft.incident)
    waiting = [c for c in draft.incident.containments.values() if c.proposed == "approve" and not c.active]
    if not waiting:
        raise ActionRefused(f"{draft.incident.incident_id} has nothing that waits for approval")
    for each in waiting:
        draft.contain(each.target, each.wanted, each.reason, actor=actor)


def _cut(text: str) -> str:
    """What a person wrote, as long as the log takes it."""
    return text[:_TEXT_CHARS]


def _held(incident: Incident, target: Target) -> Containment | None:
    held = incident.containment_of(target)
    return held if held is not None and held.active else None


def _name(held: Containment) -> str:
    name = wording.name_of(held.target.agent)
    return name if held.target.session is None else f"{name} in session {held.target.session}"
