"""Why a button no longer counts, in one sentence to whoever pressed it. Pure."""

from __future__ import annotations

from datetime import datetime

from responders.containment import describe
from responders.incident import Containment, Incident
from responders.pages.wording import ago, literal
from responders.slack.buttons import Pressed, Value, same_scope, whom


def why(incident: Incident, deed: Pressed, value: Value, now: datetime) -> str:
    """What has become of what the button was about. Nothing was done."""
    return f"{_reason(incident, deed, value, now)}; nothing was done."


def _reason(incident: Incident, deed: Pressed, value: Value, now: datetime) -> str:
    if not incident.open:
        return _over(incident, now)
    match deed:
        case "acknowledge":
            by = literal(incident.acknowledged_by or "somebody")
            return f"{by} is on it already, since {ago(incident.acknowledged_at, now)}"
        case "approve" | "deny":
            return _answered(incident, now)
        case "halt":
            return _halted(incident, value, now)
        case "resume":
            return _released(incident, value, now)
        case "resolve" | "false_alarm":
            return f"it has become {incident.severity} since you looked: read it again before you close it"


def _over(incident: Incident, now: datetime) -> str:
    if incident.merged_into is not None:
        return f"it is part of {incident.merged_into} now: go on there"
    how = "marked a false alarm" if incident.false_alarm else "resolved"
    by = literal(incident.resolved_by or "somebody")
    return f"it was {how} by {by} {ago(incident.resolved_at, now)} ago"


def _answered(incident: Incident, now: datetime) -> str:
    every = incident.containments.values()
    if any(each.awaited for each in every):
        asked = "; ".join(
            f"{describe(each.proposal)} {whom(each.target)}"
            for each in every
            if each.awaited and each.proposal
        )
        return f"this proposal was replaced; what waits now is: {literal(asked)}"
    denied = [each for each in every if each.denied_at is not None]
    if denied:
        last = max(denied, key=lambda each: str(each.denied_at))
        return f"{literal(last.denied_by or 'somebody')} said no {ago(last.denied_at, now)} ago"
    ordered = [each for each in every if each.active]
    if ordered:
        last = max(ordered, key=lambda each: str(each.issued_at))
        return f"it was approved or ordered {ago(last.issued_at, now)} ago"
    return "nothing waits for approval any more"


def _halted(incident: Incident, value: Value, now: datetime) -> str:
    held = _about(incident, value)
    if held is not None and held.active:
        what = f"{literal(whom(held.target))} was ordered to {literal(describe(held.wanted))}"
        return f"{what} {ago(held.issued_at, now)} ago already"
    if held is not None and held.released_at is not None:
        return f"{literal(whom(held.target))} was halted and let run again {ago(held.released_at, now)} ago"
    return "whom it would halt has changed since"


def _released(incident: Incident, value: Value, now: datetime) -> str:
    held = _about(incident, value)
    if held is None:
        return "whom it would let run has changed since"
    name = literal(whom(held.target))
    if held.active:
        return f"{name} was ordered anew {ago(held.issued_at, now)} ago: look why before you let it run"
    return f"{name} was let run again {ago(held.released_at, now)} ago"


def _about(incident: Incident, value: Value) -> Containment | None:
    every = incident.containments.items()
    return next((each for scope, each in every if same_scope(value, scope)), None)
