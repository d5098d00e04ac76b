"""What a person does about an incident. Doing it twice is doing it once."""

from __future__ import annotations

from datetime import datetime

from responders.decider import containment
from responders.decider.draft import TEXT_CHARS, Draft
from responders.decider.inputs import (
    Acknowledge,
    Action,
    ActionRefused,
    AddNote,
    Approve,
    Contain,
    Deny,
    EndSilence,
    Lift,
    MarkFalseAlarm,
    NoSuchIncident,
    Resolve,
    Silence,
    SilenceEnds,
    SilenceInForce,
)
from responders.decider.paging import last_digest, silence_over
from responders.incident import Incident
from schemas import incident as log
from schemas.incident import Actor


def on_person(draft: Draft, person: str, action: Action) -> None:
    actor = Actor(kind="person", name=person[:256] or "someone")
    attended = draft.maybe is not None and draft.maybe.attended
    _act(draft, actor, action)
    if attended and not draft.incident.attended:
        draft.add(log.Acknowledged(), actor)  # whoever orders more is on it


def _act(draft: Draft, actor: Actor, action: Action) -> None:
    if isinstance(action, Contain):
        containment.by_hand(draft, actor, action)
        return
    if draft.maybe is None:
        raise NoSuchIncident("there is no such incident: see watchkeeper incidents, or /watchkeeper status")
    match action:
        case AddNote():
            draft.add(log.Note(text=action.text[:TEXT_CHARS]), actor)
        case Lift():
            containment.lift(draft, actor, action)
        case _:
            _while_open(draft, actor, action)


def _while_open(
    draft: Draft,
    actor: Actor,
    action: Acknowledge | Resolve | MarkFalseAlarm | Silence | EndSilence | Approve | Deny,
) -> None:
    _must_be_open(draft.incident)
    match action:
        case Acknowledge():
            if not draft.incident.attended:
                draft.cancel("page", "late", "escalate")
                draft.add(log.Acknowledged(), actor)
        case Resolve():
            _close(draft, log.Resolved(reason=action.reason[:TEXT_CHARS]), actor)
        case MarkFalseAlarm():
            _close(draft, log.FalseAlarm(reason=action.reason[:TEXT_CHARS]), actor)
        case Silence():
            silence(draft, actor, action.until, action.reason, None)
        case EndSilence():
            _end_silence(draft, actor)
        case Approve():
            containment.approve(draft, actor, action)
        case Deny():
            containment.deny(draft, actor, action)


def on_silence(draft: Draft, person: str, given: SilenceInForce) -> None:
    """A silence that concerns an incident that is open already."""
    if draft.incident.open:
        actor = Actor(kind="person", name=person[:256] or "someone")
        silence(draft, actor, given.until, given.reason, given.silence_id)


def silence(draft: Draft, actor: Actor, until: datetime, reason: str, silence_id: str | None) -> None:
    """No page before ``until``; then one more, if it is still open and nobody is on it."""
    if until <= draft.now:
        raise ActionRefused(f"a silence until {until:%Y-%m-%dT%H:%M:%SZ} is over: give a later time")
    draft.add(log.Silenced(until=until, reason=reason[:TEXT_CHARS], silence_id=silence_id), actor)
    if draft.incident.attended:
        return
    page, headline = (
        f"unsilenced:{draft.incident.version}",
        f"Still open after a silence: {draft.incident.headline}",
    )
    draft.add(log.PageDeferred(page=page, headline=headline[:TEXT_CHARS], reason="silence", until=until))
    draft.timer_at("page", None, draft.incident.version, until)


def _end_silence(draft: Draft, actor: Actor) -> None:
    """Of a silence that is for more than this incident it says what ends it."""
    incident = draft.incident
    if incident.silenced_until is None or incident.silenced_until <= draft.now:
        raise ActionRefused(f"{incident.incident_id} is not silent: list what is with watchkeeper silences")
    if incident.silence_id is not None:
        raise ActionRefused(
            f"{incident.incident_id} is silent with its agent: watchkeeper unsilence {incident.silence_id}"
        )
    if incident.silenced_by is None:
        raise ActionRefused(f"{incident.incident_id} is silent by the policy: end the silence there")
    draft.add(log.SilenceEnded(), actor)
    silence_over(draft)


def on_silence_end(draft: Draft, given: SilenceEnds) -> None:
    """A silence that this incident was under. Another one may still hold."""
    if draft.incident.open and draft.incident.silence_id == given.silence_id:
        actor = Actor(kind="person", name=given.person[:256] or "someone")
        draft.add(log.SilenceEnded(silence_id=given.silence_id), actor)
        silence_over(draft)


def _close(draft: Draft, fact: log.Resolved | log.FalseAlarm, actor: Actor) -> None:
    last_digest(draft)
    draft.cancel("page", "late", "escalate", "approval", "digest")
    draft.add(fact, actor)


def _must_be_open(incident: Incident) -> None:
    if incident.open:
        return
    if incident.merged_into is not None:
        raise ActionRefused(f"{incident.incident_id} is part of {incident.merged_into}: act on that one")
    how = "marked a false alarm" if incident.false_alarm else "resolved"
    raise ActionRefused(f"{incident.incident_id} was already {how} by {incident.resolved_by}")
