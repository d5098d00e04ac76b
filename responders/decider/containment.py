"""Containment: what is ordered by itself or asked for, and the proof that it is obeyed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from responders import effects
from responders.containment import combine, covers, describe
from responders.decider.draft import DISOBEYED, ENGINE, OPENED, TEXT_CHARS, Draft
from responders.decider.inputs import (
    AckSeen,
    ActionRefused,
    Approve,
    CommandDelivered,
    CommandRefused,
    Contain,
    Deny,
    Lift,
    TimerFired,
)
from responders.decider.paging import tell_anyway
from responders.incident import Containment, Incident, allowed
from responders.pages import wording
from responders.policy import target_of
from schemas import incident as log
from schemas.control import EVERY_AGENT, EVERY_TENANT, OUTSIDE, ControlAck, ControlState, Target
from schemas.detection import Detection
from schemas.incident import Actor, Trust

UNHEARD: Final = timedelta(seconds=20)
"""So long after an order a call is noticed of an agent whose own gate has not answered."""


def disobeyed(draft: Draft, detection: Detection) -> None:
    """Every order to this agent that it had to obey is now known to be ignored; each is told once, and what
    was seen since is kept up to date.
    """
    about = target_of(detection)
    actions, named = detection.sample_size, detection.evidence.counts
    seen = f": {wording.residual(actions, named)}" if named else ""
    for each in tuple(draft.incident.containments.values()):
        concerned = covers(each.target, about) or covers(about, each.target)
        everyone = each.target.agent == EVERY_AGENT and each.target.tenant in {about.tenant, EVERY_TENANT}
        if not (concerned or everyone) or not each.active or each.epoch is None:
            continue
        told = {"target": each.target, "epoch": each.epoch, "detection_id": detection.detection_id}
        if each.state != "disobeyed":
            draft.add(log.ContainmentDisobeyed(**told, actions=actions, named=named))
            tell_anyway(draft, f"{DISOBEYED}{each.command_id}", f"{wording.headline(detection)}{seen}")
        elif named and actions > (each.residual or 0):
            draft.add(log.ContainmentResidual(**told, actions=actions, named=named))


def suggested(draft: Draft, detection: Detection) -> None:
    """Do what the policy has for the detection, as far as it may go by itself."""
    plan = draft.policy.containment.plan(detection)
    if plan is None:
        return
    state, trust = plan
    target = target_of(detection)
    held = draft.incident.containment_of(target)
    wanted = state
    if held is not None and held.active:
        wanted = combine([held.wanted, state])
        if wanted == combine([held.wanted]):
            return
    let_run_at = [draft.around.let_run_at, None if held is None else held.released_at]
    if any(at is not None and detection.time <= at for at in let_run_at):
        return  # seen before a person let it run again
    if trust == "automatic":
        draft.contain(target, wanted, detection.summary, detection_id=detection.detection_id)
    elif held is None or _asks_more(held, wanted):
        _propose(draft, target, wanted, trust, detection)


def _asks_more(held: Containment, wanted: ControlState) -> bool:
    """Whether it goes beyond what was proposed: what was denied, too, is not asked again."""
    return held.proposal is None or combine([held.proposal, wanted]) != combine([held.proposal])


def _propose(draft: Draft, target: Target, state: ControlState, trust: Trust, detection: Detection) -> None:
    """Said under shadow; asked under approve, on a page of its own when the first one is out already."""
    assert trust != "automatic"
    minutes = draft.policy.containment.approval_minutes
    until = draft.now + timedelta(minutes=minutes) if trust == "approve" else None
    draft.add(
        log.ContainmentProposed(
            target=target, state=state, trust=trust, reason=detection.summary, until=until
        )
    )
    if trust != "approve":
        return
    version = draft.incident.version
    draft.timer("approval", target, version, minutes * 60_000)
    # One that is asked for now is rendered later, and shows the question.
    pages = draft.incident.pages.values()
    if any(page.state == "delivered" or page.requested_at != draft.now for page in pages):
        name = wording.name_of(target.agent)
        tell_anyway(draft, f"approval:{version}", f"May the engine order {name} to {describe(state)}?")


def on_ack(draft: Draft, given: AckSeen) -> None:
    held = _held(draft.incident, given.target)
    if held is None or held.epoch is None or given.ack.epoch < held.epoch:
        return
    if given.ack.result == "applied":
        _obeyed(draft, held, given.ack)
    elif held.refused_at is None:
        _refused(draft, held, given.ack)


def _obeyed(draft: Draft, held: Containment, ack: ControlAck) -> None:
    """The first one who obeys, or one who would not before."""
    assert held.epoch is not None
    if held.state != "requested" and held.refused_by != ack.enforcement_point:
        return
    if held.delivered_at is None:  # whoever was to note it is gone, or slower than the gate
        draft.add(log.ContainmentDelivered(target=held.target, epoch=held.epoch))
    draft.add(
        log.ContainmentApplied(
            target=held.target,
            epoch=held.epoch,
            enforcement_point=ack.enforcement_point,
            time_applied=ack.time,
        ),
        Actor(kind="gate", name=ack.enforcement_point),
    )
    if held.state == "requested":
        draft.timer_at("verify", held.target, held.epoch, _watched_by(draft, held, ack.enforcement_point))


def _watched_by(draft: Draft, held: Containment, point: str) -> datetime:
    """When it has been quiet long enough. Of an agent whose own gate has not answered a call is noticed only
    a while after the order: behind a point outside it, and of everybody but the first who answers.
    """
    watched = draft.now
    if point.startswith(OUTSIDE) or held.target.agent == EVERY_AGENT:
        watched = max(watched, (held.issued_at or watched) + UNHEARD)
    return watched + timedelta(milliseconds=draft.policy.containment.verify_quiet_ms)


def _refused(draft: Draft, held: Containment, ack: ControlAck) -> None:
    """Told, also when others obey: it may be one of many that goes on."""
    assert held.epoch is not None
    point, reason = ack.enforcement_point, ack.reason or "no reason given"
    draft.add(
        log.ContainmentRefused(target=held.target, epoch=held.epoch, enforcement_point=point, reason=reason),
        Actor(kind="gate", name=point),
    )
    who = _name(held) if held.state == "requested" else point
    tell_anyway(draft, f"refused:{held.command_id}", f"{who} refused to {describe(held.wanted)}: {reason}")


def on_delivered(draft: Draft, given: CommandDelivered) -> None:
    held = _held(draft.incident, given.target)
    if held is None or held.epoch is None or held.epoch > given.epoch or held.delivered_at is not None:
        return
    draft.add(log.ContainmentDelivered(target=held.target, epoch=held.epoch))


def on_undeliverable(draft: Draft, given: CommandRefused) -> None:
    """The order does not reach anybody: a person must stop the agent in another way."""
    held = _held(draft.incident, given.target)
    if held is None or held.epoch is None or held.epoch > given.epoch or held.delivered_at is not None:
        return
    reason = given.reason[:TEXT_CHARS]
    if held.undeliverable == reason:
        return
    draft.add(log.ContainmentUndeliverable(target=held.target, epoch=held.epoch, reason=reason))
    tell_anyway(
        draft,
        f"undelivered:{held.command_id}",
        f"{_name(held)} has not been ordered to {describe(held.wanted)}: the broker refuses the order"
        f" ({reason}). Stop it from outside.",
    )


def on_proof_due(draft: Draft, given: TimerFired) -> None:
    """Time is up for an order to be confirmed, or it has been quiet long enough since it was."""
    assert given.target is not None
    held = _held(draft.incident, given.target)
    if held is None or held.epoch != given.number:
        return
    if given.kind == "confirm" and held.state == "requested":
        waited_ms = _waited_ms(draft, held.issued_at)
        draft.add(log.ContainmentUnconfirmed(target=held.target, epoch=given.number, waited_ms=waited_ms))
        if held.delivered_at is None:
            tell_anyway(draft, f"undelivered:{held.command_id}", _undelivered(held, waited_ms))
    elif given.kind == "verify" and held.state == "applied":
        quiet_ms = _waited_ms(draft, held.applied_at)
        draft.add(log.ContainmentVerified(target=held.target, epoch=given.number, quiet_ms=quiet_ms))
        _mitigate(draft)


def _undelivered(held: Containment, waited_ms: float) -> str:
    order = f"{_name(held)} has not been ordered to {describe(held.wanted)}"
    return f"{order}: agent.control took nothing for {waited_ms / 1000:,.0f} s. Stop it from outside."


def _mitigate(draft: Draft) -> None:
    active = [each for each in draft.incident.containments.values() if each.active]
    if all(each.state == "verified" for each in active) and allowed(draft.incident, "mitigated"):
        draft.add(log.Mitigated())


def on_approval_due(draft: Draft, given: TimerFired) -> None:
    """Nobody said yes or no: that is not a no, unless the policy says so."""
    assert given.target is not None
    asked = draft.incident.containment_of(given.target)
    if not draft.incident.open or asked is None or not asked.awaited or asked.unanswered_at is not None:
        return
    if asked.proposed_at is None or given.number != asked.proposed_version:
        return  # asked again since: that has a timer of its own
    draft.add(log.ContainmentUnanswered(target=asked.target, waited_ms=_waited_ms(draft, asked.proposed_at)))
    if draft.policy.containment.unanswered == "deny":
        draft.add(log.ContainmentDenied(target=asked.target, reason="nobody answered in time"))


def _waited_ms(draft: Draft, since: datetime | None) -> float:
    """By the clock: the policy may have changed since the time was given."""
    return 0.0 if since is None else max((draft.now - since).total_seconds(), 0.0) * 1000


def by_hand(draft: Draft, actor: Actor, action: Contain) -> None:
    words = describe(action.state)
    if draft.maybe is None:
        name = wording.name_of(action.target.agent)
        summary = f"{actor.name} ordered {name} to {words}: {action.reason}"[:TEXT_CHARS]
        fact = log.Triggered(
            tenant=action.target.tenant,
            agent=action.target.agent,
            session=action.target.session,
            severity="warning",
            onset=draft.now,
            summary=summary,
        )
        draft.open(draft.ids.command_id(), fact, actor)
        draft.add(log.Acknowledged(), actor)
        if draft.incident.severity in draft.policy.paging.severities:
            tell_anyway(draft, OPENED, summary)
    held = draft.incident.containment_of(action.target)
    # An order adds to what this incident wants already: only a lift takes anything back.
    state = combine([held.wanted, action.state]) if held is not None and held.active else action.state
    draft.contain(action.target, state, action.reason[:TEXT_CHARS], actor=actor)


def lift(draft: Draft, actor: Actor, action: Lift) -> None:
    held = [c for c in draft.incident.containments.values() if c.active and covers(action.target, c.target)]
    if not held:
        raise ActionRefused(f"{draft.incident.incident_id} does not hold {action.target.key}")
    reason = action.reason[:TEXT_CHARS]
    for each in held:
        epoch, command_id = draft.ids.epoch(each.target), draft.ids.command_id()
        draft.add(
            log.ContainmentReleased(target=each.target, epoch=epoch, command_id=command_id, reason=reason),
            actor,
        )
        draft.effect(effects.Release(draft.incident.incident_id, each.target, epoch, command_id, reason))


def approve(draft: Draft, actor: Actor, action: Approve) -> None:
    for each in _awaited(draft.incident, action.target):
        assert each.proposal is not None
        state = combine([each.wanted, each.proposal]) if each.active else each.proposal
        draft.contain(each.target, state, each.reason, actor=actor)


def deny(draft: Draft, actor: Actor, action: Deny) -> None:
    for each in _awaited(draft.incident, action.target):
        draft.add(log.ContainmentDenied(target=each.target, reason=action.reason[:TEXT_CHARS]), actor)


def _awaited(incident: Incident, target: Target | None) -> list[Containment]:
    """What waits for a yes or no. Raises ActionRefused when nothing does."""
    concerned = [each for each in incident.containments.values() if target in (None, each.target)]
    awaited = [each for each in concerned if each.awaited]
    if awaited:
        return awaited
    denied = next((each for each in concerned if each.denied_at is not None), None)
    if denied is not None:
        raise ActionRefused(f"{incident.incident_id}: {denied.denied_by} has denied it already")
    others = ", ".join(each.target.key for each in incident.containments.values() if each.awaited)
    if target is not None and others:
        raise ActionRefused(f"{incident.incident_id} asks nothing about {target.key}: it does about {others}")
    raise ActionRefused(f"{incident.incident_id} has nothing that waits for approval")


def _held(incident: Incident, target: Target) -> Containment | None:
    held = incident.containment_of(target)
    return held if held is not None and held.active else None


def _name(held: Containment) -> str:
    name = wording.name_of(held.target.agent)
    return name if held.target.session is None else f"{name} in session {held.target.session}"


__all__ = [
    "ENGINE",
    "approve",
    "by_hand",
    "deny",
    "disobeyed",
    "lift",
    "on_ack",
    "on_approval_due",
    "on_delivered",
    "on_proof_due",
    "on_undeliverable",
    "suggested",
]
