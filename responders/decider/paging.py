"""Telling people: whether now, later or in a digest; through which channel; and what when nobody answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from responders import effects
from responders.decider.correlation import is_source
from responders.decider.draft import DIGEST, DISOBEYED, ENGINE, OPENED, RAISED, TEXT_CHARS, Draft
from responders.decider.inputs import ListInDigest, PageOutcome, PartFails, PartWorks
from responders.effects import PACED, Delivered
from responders.incident import Deferral, Incident, PageStatus
from responders.pages.wording import CHANNEL, LATE, span
from responders.policy import Told
from schemas import incident as log
from schemas.control import EVERY_AGENT
from schemas.detection import Detection

PICTURED: Final = (RAISED, DISOBEYED)
"""Pages, beside the first, that tell of something to be seen."""

Reason = Literal["quiet_hours", "silence", "consequence", "storm"]


@dataclass(frozen=True, slots=True)
class Later:
    """Why a page does not go out now, and when it is looked at again."""

    reason: Reason
    until: datetime | None


def tell(draft: Draft, page: str, headline: str, detection: Detection) -> None:
    """Page the transition that ``detection`` brought about, unless something keeps it back: then that is
    a fact, and what is kept back comes up again by itself.
    """
    if detection.severity not in draft.policy.paging.severities:
        return
    told = draft.policy.told(detection, draft.now)
    later = held_back(draft, detection)
    if later is None:
        send(draft, page, headline, told)
        return
    if later.reason == "storm":
        _to_digest(draft, page, headline, told)
        return
    draft.add(
        log.PageDeferred(page=page, headline=headline[:TEXT_CHARS], reason=later.reason, until=later.until)
    )
    if later.reason == "silence" and later.until is not None:
        _silenced(draft, later.until)
    if later.until is not None:
        draft.timer_at("page", None, draft.incident.version, later.until)


def held_back(draft: Draft, detection: Detection) -> Later | None:
    """What speaks against paging now, the strongest reason first."""
    silences = [each.until for each in draft.around.silences if each.until > draft.now]
    of_policy = draft.policy.silenced_until(detection, draft.now)
    if of_policy is not None:
        silences.append(of_policy[0])
    if draft.incident.silenced_until is not None and draft.incident.silenced_until > draft.now:
        silences.append(draft.incident.silenced_until)
    if silences:
        return Later("silence", max(silences))
    quiet = draft.policy.quiet_until(detection.severity, draft.now)
    if quiet is not None:
        return Later("quiet_hours", quiet)
    waits = [
        draft.incident.opened_at + timedelta(seconds=rule.wait_seconds)
        for rule in draft.policy.inhibit
        if rule.concerns(detection)
    ]
    # Before it was opened is after the clock was set back: nobody knows how long it has waited.
    if waits and draft.incident.opened_at <= draft.now < max(waits):
        return Later("consequence", max(waits))
    # What the others of the storm follow from is the one page to send.
    if is_source(detection, draft.policy.inhibit):
        return None
    return Later("storm", None) if _storm(draft) else None


def _storm(draft: Draft) -> bool:
    return draft.around.pages_lately >= draft.policy.storm.pages_a_minute


def _silenced(draft: Draft, until: datetime) -> None:
    """Whose silence it is stands on the incident, once."""
    if draft.incident.silenced_until == until:
        return
    ordered = next((each for each in draft.around.silences if each.until == until), None)
    if ordered is not None:
        fact = log.Silenced(until=until, reason=ordered.reason, silence_id=ordered.silence_id)
    else:
        fact = log.Silenced(until=until, reason="the policy's silence")
    draft.add(fact)


def _to_digest(draft: Draft, page: str, headline: str, told: Told) -> None:
    incident = draft.incident
    draft.add(log.PageDeferred(page=page, headline=headline[:TEXT_CHARS], reason="storm"))
    draft.follow(
        ListInDigest(
            incident_id=incident.incident_id,
            page=page,
            tenant=incident.tenant,
            agent=incident.agent,
            severity=incident.severity,
            headline=headline,
            channels=told.channels,
        )
    )


def send(draft: Draft, page: str, headline: str, told: Told) -> None:
    """Page every channel of ``told``, and see to it that somebody answers."""
    channels = _working(draft, told.channels)
    called = [send_to(draft, channel, page, headline, told.people) for channel in channels]
    if any(called):
        late_ms = draft.policy.paging.undelivered_after_seconds * 1000
        draft.timer("late", None, draft.incident.version, late_ms)
        _call_until_answered(draft)


def _working(draft: Draft, channels: tuple[str, ...]) -> tuple[str, ...]:
    """Without the one that the incident is about; the fallback, when there is no other."""
    working = tuple(each for each in channels if each != draft.incident.broken_channel)
    fallback = draft.policy.paging.fallback
    return working or (() if fallback is None else (fallback,))


def send_to(draft: Draft, channel: str, page: str, headline: str, people: tuple[str, ...] = ()) -> bool:
    """Once a transition and channel: asking again does nothing, and is False. So does telling a broken
    channel that it is broken.
    """
    if (page, channel) in draft.incident.pages or channel == draft.incident.broken_channel:
        return False
    draft.add(
        log.PageRequested(page=page, channel=channel, headline=headline[:TEXT_CHARS], people=list(people))
    )
    draft.effect(effects.Page(draft.incident.incident_id, page, channel))
    return True


def tell_anyway(draft: Draft, page: str, headline: str) -> None:
    """What only a storm keeps back: an order that is refused or ignored, a person's doing, a question."""
    if _storm(draft):
        _to_digest(draft, page, headline, told_of(draft))
    else:
        send(draft, page, headline, told_of(draft))


def told_of(draft: Draft) -> Told:
    """Who is told of the incident: those its worst detection is for."""
    detection = draft.incident.worst
    if detection is None:
        listed = dict.fromkeys(name for each in draft.incident.listed for name in each.channels)
        return Told(tuple(listed) or draft.policy.paging.channels)
    return draft.policy.told(detection, draft.now)


def _call_until_answered(draft: Draft) -> None:
    """The next step of the chain, counted from the first page since somebody was last on it, and from the
    step before it: that may have waited for a silence to end.
    """
    incident, chain = draft.incident, draft.policy.escalation
    since = incident.escalating_since
    if since is None or incident.attended or not incident.open or incident.severity not in chain.severities:
        return
    step = chain.step(incident.escalation_step + 1)
    if step is not None:
        since = draft.now if incident.escalation_step else since
        due = since + timedelta(minutes=step.after_minutes - _minutes_before(draft))
        draft.timer_at("escalate", None, incident.escalation_step + 1, max(due, draft.now))


def _minutes_before(draft: Draft) -> float:
    """When the step before the next one is due."""
    number = draft.incident.escalation_step
    before = draft.policy.escalation.step(number) if number else None
    return 0.0 if before is None else before.after_minutes


def on_escalation_due(draft: Draft, number: int) -> None:
    """Nobody said that they are on it."""
    incident, chain = draft.incident, draft.policy.escalation
    since = incident.escalating_since
    if not incident.open or incident.attended or since is None or number != incident.escalation_step + 1:
        return
    step = chain.step(number)
    if step is None:
        return
    if incident.silenced_until is not None and incident.silenced_until > draft.now:
        # It is told again when the silence ends: the step counts from there.
        wait = timedelta(minutes=step.after_minutes - _minutes_before(draft))
        draft.timer_at("escalate", None, number, incident.silenced_until + wait)
        return
    waited = draft.now - since
    draft.add(log.Escalated(step=number, waited_ms=waited.total_seconds() * 1000))
    told = told_of(draft)
    channels = step.channels or told.channels
    send(
        draft,
        f"escalated:{draft.incident.escalations}",
        f"Still nobody on it after {span(waited.total_seconds())}: {incident.headline}",
        Told(channels, step.people or told.people),
    )


def on_deferred_due(draft: Draft) -> None:
    """What was kept back is looked at again: told, unless somebody is on it or it is over."""
    incident = draft.incident
    detection = incident.worst
    waiting = [each for each in incident.deferrals.values() if not _told_since(incident, each)]
    if not incident.open or incident.attended or detection is None or not waiting:
        return
    newest = waiting[-1]
    if newest.until is None or newest.until <= draft.now:
        tell(draft, newest.page, newest.headline, detection)


def silence_over(draft: Draft) -> None:
    """What a silence kept back is told now, unless something else keeps it back, somebody is on it, or it is
    over. The chain goes on from here, as it does when a silence runs out.
    """
    incident, detection = draft.incident, draft.incident.worst
    if not incident.open or incident.attended or detection is None:
        return
    step = draft.policy.escalation.step(incident.escalation_step + 1)
    if incident.escalating_since is not None and step is not None:
        draft.cancel("escalate")
        wait = timedelta(minutes=step.after_minutes - _minutes_before(draft))
        draft.timer_at("escalate", None, incident.escalation_step + 1, draft.now + wait)
    kept = [each for each in incident.deferrals.values() if each.reason == "silence"]
    waiting = [each for each in kept if not _told_since(incident, each)]
    if waiting:
        tell(draft, waiting[-1].page, waiting[-1].headline, detection)


def _told_since(incident: Incident, deferral: Deferral) -> bool:
    """Whether a later transition was told, or a digest tells it."""
    first = _first_told(incident).values()
    return deferral.reason == "storm" or any(each.version > deferral.version for each in first)


def _first_told(incident: Incident) -> dict[str, PageStatus]:
    """The page that first told each transition, whatever channel it went to later."""
    first: dict[str, PageStatus] = {}
    for status in sorted(incident.pages.values(), key=lambda each: each.version):
        first.setdefault(status.page, status)
    return first


def on_late(draft: Draft) -> None:
    """A channel that does not take a page in time is gone around, while it goes on being tried."""
    fallback = draft.policy.paging.fallback
    waited = timedelta(seconds=draft.policy.paging.undelivered_after_seconds)
    for (page, channel), status in tuple(draft.incident.pages.items()):
        waits = status.state == "requested" and (page, channel) not in draft.incident.late
        if not waits or channel == fallback:
            continue
        if draft.now - status.requested_at < waited:
            # Requested since, which has a timer of its own, or by now the policy gives it longer.
            draft.timer_at("late", None, draft.incident.version, status.requested_at + waited)
            continue
        took_ms = (draft.now - status.requested_at).total_seconds() * 1000
        draft.add(log.PageLate(page=page, channel=channel, waited_ms=took_ms))
        if fallback is not None:
            send_to(draft, fallback, page, status.headline)
        trouble = draft.around.troubles.get((page, channel), PACED)
        if trouble != PACED:
            _channel_fails(draft, channel, page, LATE, trouble)


def on_page_outcome(draft: Draft, given: PageOutcome) -> None:
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
        draft.follow(PartWorks(f"{CHANNEL}{given.channel}"))
        if given.page == OPENED or given.page.startswith(PICTURED):
            draft.effect(effects.ShowPicture(draft.incident.incident_id, given.page, given.channel))
        return
    draft.add(
        log.PageFailed(
            page=given.page,
            channel=given.channel,
            reason=outcome.reason[:TEXT_CHARS],
            attempts=given.attempts,
        )
    )
    fallback = draft.policy.paging.fallback
    if fallback is not None and fallback != given.channel:
        send_to(draft, fallback, given.page, status.headline)
    _channel_fails(draft, given.channel, given.page, outcome.reason, outcome.reason)


def _channel_fails(draft: Draft, channel: str, page: str, cause: str, reason: str) -> None:
    """That a page did not arrive is an incident of the channel, unless the page was about such a one."""
    if draft.incident.part is not None:
        return
    fallback = draft.policy.paging.fallback
    told = fallback if fallback != channel else None
    part, its = f"{CHANNEL}{channel}", draft.incident.incident_id
    draft.follow(PartFails(part, cause, reason[:TEXT_CHARS], its, page, told))


def list_in_digest(draft: Draft, given: ListInDigest) -> None:
    """A storm is an incident of its own: its pages list what would have been a page each."""
    if draft.maybe is None:
        fact = log.Triggered(
            tenant=given.tenant,
            agent=EVERY_AGENT,
            severity=given.severity,
            onset=draft.now,
            summary=f"More than {draft.policy.storm.pages_a_minute} pages in a minute: told together.",
        )
        draft.open(f"digest/{given.incident_id}/{given.page}", fact, ENGINE)
    draft.add(
        log.IncidentListed(
            listed=given.incident_id,
            severity=given.severity,
            agent=given.agent,
            headline=given.headline[:TEXT_CHARS],
            channels=list(given.channels),
        )
    )
    if given.severity == "critical" and draft.incident.severity != "critical":
        draft.add(
            log.SeverityRaised(
                before=draft.incident.severity, after="critical", detection_id=given.incident_id
            )
        )
    sent = _digests(draft.incident)
    if draft.before is not None and not sent:
        return  # it waits for its first turn
    every = timedelta(seconds=draft.policy.storm.digest_seconds)
    # A clock that was set back makes nobody wait longer than that.
    due = [min(at, draft.now) + every for at in (*sent, given.told_at) if at is not None]
    if max(due, default=draft.now) > draft.now:
        draft.timer_at("digest", None, len(sent), max(due))
        return
    _send_digest(draft, len(sent) + 1)


def on_digest_due(draft: Draft, number: int) -> None:
    """One digest an interval; what comes between is in the next. ``number`` had been sent by then."""
    if draft.incident.open and number == len(_digests(draft.incident)):
        _send_digest(draft, number + 1)


def _digests(incident: Incident) -> list[datetime]:
    """When each was sent."""
    first = _first_told(incident).items()
    return [each.requested_at for page, each in first if page.startswith(DIGEST)]


def last_told(incident: Incident) -> datetime | None:
    """When the incident's newest page was asked for."""
    return max((each.requested_at for each in incident.pages.values()), default=None)


def last_digest(draft: Draft) -> None:
    """Whoever closes a digest has not been told of what it lists since the last one."""
    if draft.incident.untold:
        _send_digest(draft, 1 + len(_digests(draft.incident)))


def _send_digest(draft: Draft, number: int) -> None:
    incident = draft.incident
    count = len({each.incident_id for each in incident.listed})
    send(draft, f"{DIGEST}:{number}", f"{count} incidents at once in {incident.tenant}", told_of(draft))


__all__ = [
    "DIGEST",
    "last_digest",
    "last_told",
    "list_in_digest",
    "on_deferred_due",
    "on_digest_due",
    "on_escalation_due",
    "on_late",
    "on_page_outcome",
    "send",
    "silence_over",
    "tell",
    "tell_anyway",
]
