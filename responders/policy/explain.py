"""What a policy says about one detection at one time, in words."""

from __future__ import annotations

from datetime import datetime

from responders.containment import describe
from responders.policy import Policy
from schemas.control import ControlState, Target
from schemas.detection import Detection, Severity


def explain(policy: Policy, detection: Detection, now: datetime) -> dict[str, str]:
    """Question to answer, in the order in which they are decided. It knows of no other incident: what one
    would join, or follow from, is said as a rule.
    """
    graded = policy.graded(detection)
    group = policy.grouping.of(graded)
    told = policy.told(graded, now)
    return {
        "severity": graded.severity
        if graded.severity == detection.severity
        else f"{graded.severity} (its detector says {detection.severity})",
        "incident": "none by itself: info opens none"
        if graded.severity == "info"
        else f"shared with what has the same {' or '.join(group.by)} within {group.window_minutes:g} min",
        "follows from": ", ".join(
            sorted({name for rule in policy.inhibit if rule.concerns(graded) for name in rule.source})
        )
        or "nothing",
        "paged": _paged(policy, graded, now),
        "channels": ", ".join(told.channels) or "the installation's own",
        "people": ", ".join(told.people) or "nobody by name",
        "unanswered": _chain(policy, graded),
        "containment": _containment(policy, graded),
        "owner": _owner(policy, graded),
    }


def supposed(
    detector: str, target: Target, severity: Severity, suggested: ControlState | None, now: datetime
) -> Detection:
    """A detection to ask a policy about."""
    return Detection(
        detection_id="supposed",
        detector=detector,
        detector_version=1,
        tenant=target.tenant,
        agent=target.agent,
        session=target.session,
        severity=severity,
        time=now,
        onset=now,
        metric="none",
        score=1.0,
        sample_size=1,
        summary="What if?",
        runbook=detector,
        suggested=suggested,
    )


def _paged(policy: Policy, detection: Detection, now: datetime) -> str:
    if detection.severity not in policy.paging.severities:
        return f"no: {detection.severity} is not paged"
    silence = policy.silenced_until(detection, now)
    if silence is not None:
        return f"after the silence, at {silence[0]:%Y-%m-%d %H:%M} UTC" + (
            f" ({silence[1]})" if silence[1] else ""
        )
    quiet = policy.quiet_until(detection.severity, now)
    if quiet is not None:
        return f"after the quiet hours, at {quiet:%Y-%m-%d %H:%M} UTC"
    wait = max((rule.wait_seconds for rule in policy.inhibit if rule.concerns(detection)), default=0.0)
    return f"after {wait:g} s, if no cause of it shows" if wait else "at once"


def _chain(policy: Policy, detection: Detection) -> str:
    if detection.severity not in policy.escalation.severities:
        return "nothing more"
    steps = [
        f"after {step.after_minutes:g} min {', '.join((*step.channels, *step.people)) or 'the same again'}"
        for step in policy.escalation.steps
    ]
    chain = policy.escalation
    if steps and chain.repeat_minutes is not None:
        steps.append(f"then every {chain.repeat_minutes:g} min, {chain.repeat_at_most} times at most")
    return "; ".join(steps) or "nothing more"


def _containment(policy: Policy, detection: Detection) -> str:
    plan = policy.containment.plan(detection)
    if plan is None:
        return "none"
    state, trust = plan
    words = {"automatic": "", "approve": " when a person says so", "shadow": " would be said, not done"}
    return f"{describe(state)}{words[trust]}"


def _owner(policy: Policy, detection: Detection) -> str:
    owner = policy.owner_of(detection.tenant, detection.agent)
    if owner is None:
        return "nobody"
    return owner.owner if owner.runbook is None else f"{owner.owner} ({owner.runbook})"
