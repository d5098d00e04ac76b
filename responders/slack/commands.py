"""Carries out what was typed after ``/watchkeeper``, and says what came of it."""

from __future__ import annotations

import shlex
from datetime import datetime
from typing import Final

from slack_sdk.models.blocks import MarkdownTextObject, SectionBlock

from responders import actions
from responders.containment import parse_target
from responders.handle import Responder
from responders.incident import Incident
from responders.pages.wording import SIGNS, ago, literal, one_line, resumed
from responders.slack.buttons import whom
from responders.slack.interactions import COMMAND, Answer
from responders.slack.slash import USAGE, Order, Unreadable, Verb
from responders.store import projections
from responders.store.projections import IncidentRow

_BY_COMMAND: Final = "typed in Slack"
_LISTED: Final = 12


def carry_out(responder: Responder, order: Order, person: str) -> Answer:
    """Do it.

    Raises:
        ActionRefused, StoreError: nothing was done.
    """
    match order.verb:
        case "help":
            return Answer(_usage())
        case "status":
            return _status(responder)
        case "halt" | "degrade":
            return Answer(_contained(responder, order, person))
        case "resume":
            return Answer(_resumed(responder, order, person))
        case "silence" | "unsilence":
            return Answer(_silenced(responder, order, person))
        case _:
            return Answer(_told(order, _about_one(responder, order, person)))


def unreadable(given: Unreadable) -> Answer:
    """What is wrong, and what to write."""
    problem = literal(given.problem)
    if given.verb is None:
        return Answer(f"Nothing was done: {problem}.\n{_usage()}")
    return Answer(f"Nothing was done: {problem}. Write {_written(given.verb)}")


def _usage() -> str:
    lines = [_written(verb) for verb in USAGE]
    what = "TARGET is AGENT, TENANT/AGENT or TENANT/AGENT/SESSION; ID is an incident's, like INC-ABCDEFGHIJ."
    return "\n".join([*lines, what])


def _written(verb: Verb) -> str:
    return " or ".join(f"`{COMMAND} {literal(each)}`" for each in USAGE[verb].split(" or "))


def _contained(responder: Responder, order: Order, person: str) -> str:
    reason = order.reason or _BY_COMMAND
    if order.everyone:
        done = actions.halt_all(responder, person, reason, order.tenant)
        return f"Every agent of {literal(order.tenant)} is ordered to halt ({done.incident_id})."
    if order.verb == "halt":
        done = actions.halt(responder, order.what, person, reason)
        return f"{literal(order.what)} is ordered to halt ({done.incident_id})."
    done = actions.degrade(responder, order.what, order.level, person, reason)
    return f"{literal(order.what)} is ordered to step down to {literal(order.level)} ({done.incident_id})."


def _about_one(responder: Responder, order: Order, person: str) -> Incident:
    match order.verb:
        case "ack":
            return actions.acknowledge(responder, order.what, person)
        case "approve":
            return actions.approve(responder, order.what, person, order.target)
        case "deny":
            return actions.deny(responder, order.what, person, order.reason, order.target)
        case "resolve":
            return actions.resolve(responder, order.what, person, order.reason)
        case _:
            return actions.false_alarm(responder, order.what, person, order.reason)


def _resumed(responder: Responder, order: Order, person: str) -> str:
    let = actions.resume(responder, order.what, person, order.reason or _BY_COMMAND)
    asked = parse_target(order.what)
    wider = actions.still_held_by(responder, asked)
    return f"{literal(resumed(asked.key, [each.key for each in let], [each.key for each in wider]))}."


def _silenced(responder: Responder, order: Order, person: str) -> str:
    what = literal(order.what)
    if order.verb == "silence":
        done = actions.silence(responder, order.what, person, order.minutes, order.reason)
        until = f"{what} pages nobody until {done.until:%Y-%m-%d %H:%M} UTC"
        return f"{until}. Before that: `{COMMAND} unsilence {literal(shlex.quote(order.what))}`"
    ended = actions.unsilence(responder, order.what, person)
    concerned = f" ({', '.join(ended.incidents)})" if ended.silences and ended.incidents else ""
    return f"{what} pages again{concerned}."


def still_held(incident: Incident) -> str:
    """What a resolved incident goes on holding, and how it is let run; empty when it is nothing."""
    held = [each.target for each in incident.containments.values() if each.active]
    if not held:
        return ""
    typed = literal(shlex.quote(one_line(held[0].key)))
    return f" {literal(whom(held[0]))} stays held until somebody types `{COMMAND} resume {typed}`."


def _told(order: Order, incident: Incident) -> str:
    words = {
        "ack": "is yours; nobody else is called",
        "approve": "is approved; the order is on its way",
        "deny": "is denied; what it proposed is not done",
        "resolve": "is resolved",
        "false-alarm": "is a false alarm",
    }[order.verb]
    held = still_held(incident) if order.verb in ("resolve", "false-alarm") else ""
    return f"{incident.incident_id} {words}.{held}"


def _status(responder: Responder) -> Answer:
    """The open incidents, the newest first."""
    rows = projections.incidents(responder.store, open_only=True, limit=_LISTED + 1)
    if not rows:
        return Answer("✅ No incident is open.")
    now = responder.clock()
    lines = [_line(each, now) for each in rows[:_LISTED]]
    if len(rows) > _LISTED:
        lines.append("… and more: `watchkeeper incidents --open`")
    blocks = [SectionBlock(text=MarkdownTextObject(text=line, verbatim=True)) for line in lines]
    return Answer("\n".join(lines), tuple(block.to_dict() for block in blocks))


def _line(row: IncidentRow, now: datetime) -> str:
    held = "" if row.containment == "none" else f", {row.containment}"
    asks = ", waits for approval" if row.approvals else ""
    due = next((each.until for each in row.approvals if each.until and each.unanswered_at is None), None)
    until = "" if due is None else f" until {due:%m-%d %H:%M} UTC"
    how = f"{row.state}{held}{asks}{until}, {ago(row.opened_at, now)} old"
    return f"{SIGNS[row.severity]} `{row.incident_id}` {literal(row.headline[:150])} ({how})"
