"""A page, for a person at three in the morning: who, what, since when, what was done, what to press or type.

Rendered from the incident as it is when it is sent, as Slack Block Kit. The terminal shows the same blocks
without the buttons; where there are buttons, the block of commands (``typed``) is left out.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from slack_sdk.models.blocks import (
    Block,
    ContextBlock,
    DividerBlock,
    HeaderBlock,
    MarkdownTextObject,
    PlainTextObject,
    SectionBlock,
)

from responders.containment import describe
from responders.incident import Containment, Incident
from responders.pages import triage, wording
from responders.pages.about import About, about_of
from responders.pages.relations import related
from responders.pages.wording import cut, escape, literal, one_line
from responders.policy import Owner
from responders.slack import buttons
from schemas.control import EVERY_AGENT
from schemas.detection import Detection

_HEADER_CHARS: Final = 150
_TEXT_CHARS: Final = 2_900
_FIELD_CHARS: Final = 1_900
_SHARES: Final = ("_rate", "_ratio", "_share")
_OF_SHARES: Final = frozenset({"provider_outage"})
"""Detectors whose metric is a name, and what they measure a share of calls."""
ENGINE_RUNBOOK: Final = "engine_stalled"
TYPED: Final = "typed"
"""The block of commands that do what the buttons do."""
_LINKED: Final = re.compile(r"[^\s<>|`\\]+")


@dataclass(frozen=True, slots=True)
class Message:
    """``text`` is what a notification shows; ``blocks`` are Block Kit as plain JSON; ``about`` is what they
    say, for channels that show it in their own way.
    """

    text: str
    blocks: tuple[dict[str, Any], ...]
    about: About

    @property
    def digest(self) -> str:
        """Changes when what a person sees changes."""
        seen = json.dumps([self.text, self.blocks], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(seen.encode()).hexdigest()


def render(
    incident: Incident, page: str, detections: int | None = None, owner: Owner | None = None
) -> Message:
    """The page of this transition. ``detections`` is how many the incident took in, when known; ``owner``
    whose agent it is, by the policy.
    """
    status = next((each for (name, _), each in incident.pages.items() if name == page), None)
    headline = one_line(incident.headline if status is None else status.headline)
    sign, latest = _sign(incident), incident.worst
    summary = incident.summary if latest is None else latest.summary
    facts = _facts(incident, latest, detections, owner)
    blocks: list[Block] = [
        HeaderBlock(text=PlainTextObject(text=cut(f"{sign} {headline}", _HEADER_CHARS), emoji=True)),
        SectionBlock(text=_mrkdwn(literal(summary) or "No summary.")),
        SectionBlock(fields=[_field(name, value) for name, value in facts]),
        SectionBlock(block_id="done", text=_mrkdwn("\n".join(_done(incident)))),
    ]
    if others := related(incident):
        blocks.append(SectionBlock(block_id="related", text=_mrkdwn("\n".join(others))))
    blocks.append(DividerBlock())
    if advice := _advice(incident, latest, owner):
        blocks.append(SectionBlock(block_id="advice", text=_mrkdwn("\n".join(advice))))
    if typed := _typed_orders(incident):
        blocks.append(SectionBlock(block_id=TYPED, text=_mrkdwn("\n".join(typed))))
    blocks += [*buttons.blocks(incident), ContextBlock(elements=[_mrkdwn(_footer(incident))])]
    text = f"{sign} {incident.severity.upper()} {headline} ({incident.incident_id})"
    shown = tuple(block.to_dict() for block in blocks)
    return Message(escape(cut(text, _TEXT_CHARS)), shown, about_of(incident, page, latest))


def _sign(incident: Incident) -> str:
    if not incident.open:
        return "✅"
    if incident.containment == "disobeyed":
        return "🚨"
    return wording.SIGNS[incident.severity]


def _facts(
    incident: Incident, detection: Detection | None, detections: int | None, owner: Owner | None
) -> list[tuple[str, str]]:
    others = incident.agents[1:]
    agent = wording.name_of(incident.agent) + (f" with {', '.join(others[:4])}" if others else "")
    facts = [("Agent", agent), ("Severity", incident.severity)]
    if incident.session is not None:
        facts.append(("Session", incident.session))
    facts.append(("Since", _began(incident)))
    if owner is not None:
        facts.append(("Owner", owner.owner))
    if detection is not None:
        names = dict.fromkeys(each.detector for each in incident.detections)
        facts.append(("Measured", measured(detection)))
        facts.append(("Seen by", ", ".join(names)))
        facts.append(("Blast so far", triage.blast(incident, detections)))
    return facts


def _began(incident: Incident) -> str:
    """When it began, and how long it went unnoticed, if it did."""
    unnoticed = incident.opened_at - incident.onset
    if unnoticed < timedelta(seconds=1):
        return _time(incident.onset)
    return f"{_time(incident.onset)} ({_span(incident.onset, incident.opened_at)} before this page)"


def measured(detection: Detection) -> str:
    """The figure behind the sentence: what was seen, what is normal, where the limit lies, from how much."""
    share = detection.metric.endswith(_SHARES) or detection.detector in _OF_SHARES
    amount = partial(_amount, detection.metric, share)
    words = [detection.metric.removesuffix("_ms").removesuffix("_usd").replace("_", " ")]
    if detection.observed is not None:
        words[0] += f" {amount(detection.observed)}"
    if detection.expected is not None:
        words.append(f"normally {amount(detection.expected)}")
    # Over many sessions the limit is one of evidence, which says nothing at 3 am.
    if detection.threshold is not None and detection.session is not None:
        words.append(f"limit {amount(detection.threshold)}")
    if detection.sample_size != detection.observed:  # a count is of itself
        words.append(f"from {detection.sample_size:,} event{'s' if detection.sample_size != 1 else ''}")
    return ", ".join(words)


def _amount(metric: str, share: bool, value: float) -> str:
    if metric.endswith("_usd"):
        return f"${value:,.2f}"
    if metric.endswith("_ms"):
        return f"{value / 1000:,.3g} s" if value >= 1000 else f"{value:,.0f} ms"
    if share and 0 <= value <= 1:
        return f"{value:.1%}"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.3g}"


def _done(incident: Incident) -> list[str]:
    lines = [_contained(each, incident.open) for each in incident.containments.values()]
    if not lines:
        whose = "Each of them says what was." if incident.listed else "The agent goes on."
        lines = [f"*Nothing was stopped.* {whose}"]
    if incident.part is not None:
        lines = ["*It goes on being tried.*"] if incident.open else []
    if incident.acknowledged_by is not None and incident.acknowledged_at is not None:
        lines.append(
            f"Acknowledged by {literal(incident.acknowledged_by)}, {_time(incident.acknowledged_at)}."
        )
    if incident.resolved_at is not None:
        how = "Marked a false alarm" if incident.false_alarm else "Resolved"
        why = f": {literal(incident.resolution)}" if incident.resolution else ""
        lines.append(f"{how} by {literal(incident.resolved_by or '')}, {_time(incident.resolved_at)}{why}.")
    return lines[-20:]


def _contained(held: Containment, is_open: bool) -> str:
    who = literal(buttons.whom(held.target))
    if held.awaited and held.proposal is not None:
        if not is_open:
            asked = (
                f"*Not done:* {literal(describe(held.proposal))} {who} was asked for, and nobody answered."
            )
            return asked if not held.active else f"{_ordered(held, who)}\n{asked}"
        asked = f"✋ *Waiting for approval:* {literal(describe(held.proposal))} {who}{_asked_since(held)}."
        return asked if not held.active else f"{_ordered(held, who)}\n{asked}"
    return _ordered(held, who)


def _asked_since(held: Containment) -> str:
    return "" if held.unanswered_at is None else f". Nobody has answered, {_time(held.unanswered_at)}"


def _went_on(held: Containment) -> str:
    """What was seen of it after the order, where anything was."""
    if held.residual is None or not held.residual_named:
        return ""
    return f": {literal(wording.residual(held.residual, dict(held.residual_named)))}"


def _but_refused(held: Containment) -> str:
    """Who does not obey although others do."""
    if held.refused_at is None:
        return ""
    return f" ⚠️ {literal(held.refused_by or '')} does not accept the order ({literal(held.refusal or '')})."


def _ordered(held: Containment, who: str) -> str:
    what = literal(describe(held.wanted))
    took = _span(held.issued_at, held.applied_at)
    match held.state:
        case "none" if held.denied_at is not None:
            by = literal(held.denied_by or "somebody")
            words = f"🚫 *Denied:* {what} {who}, by {by}, {_time(held.denied_at)}."
        case "none":
            words = f"👁 *Shadow:* would have ordered {who} to {what}."
        case "requested" if held.refused_at is not None:
            why = literal(held.refusal or "")
            words = f"⚠️ *Refused:* {who} does not accept the order to {what} ({why})."
        case "requested" if held.undeliverable is not None:
            why = literal(held.undeliverable)
            words = f"🚨 *Not ordered:* {who} to {what}: the broker refuses the order ({why})."
        case "requested" if held.unconfirmed_at is not None:
            words = f"⚠️ *Not confirmed:* {who} was ordered to {what}, and nobody answers. It may be going on."
        case "requested":
            words = f"⏳ *Ordered:* {who} to {what}, {_time(held.issued_at)}. Not confirmed yet."
        case "applied":
            words = f"🛑 *Obeyed:* {who}: {what}, {took} after the order.{_but_refused(held)}"
        case "verified":
            words = (
                f"🛑 *Proved:* {who}: {what}, obeyed {took} after the order, and nothing was seen since."
                f"{_but_refused(held)}"
            )
        case "disobeyed":
            since = _went_on(held)
            goes_on = ", and not every one does" if held.target.agent == EVERY_AGENT else " and goes on"
            words = f"🚨 *Disobeyed:* {who} was ordered to {what}{goes_on}{since}. Stop its host or its keys."
        case "released":
            words = f"▶️ *Released:* {who} may run again, {_time(held.released_at)}."
    return words


def _advice(incident: Incident, detection: Detection | None, owner: Owner | None) -> list[str]:
    """What to look at and what to do about it: what no button does."""
    lines = []
    if detection is not None:
        runbook = _runbook(detection, owner)
        lines.append(f"*What to do:* {runbook}")
    if incident.open and (causes := triage.causes(incident)):
        lines.append(f"*Look at:* {causes}.")
    if incident.part is not None:
        lines.append(f"*What to do:* `watchkeeper runbook {ENGINE_RUNBOOK}`")
    if incident.listed:
        lines.append("*What is open:* `watchkeeper incidents --open`")
    return lines


def _runbook(detection: Detection, owner: Owner | None) -> str:
    """The detector's runbook, and the owner's own."""
    name = f"`watchkeeper runbook {_typed(detection.runbook)}`"
    theirs = None if owner is None else owner.runbook
    if theirs is None:
        return name
    address = _address(theirs)
    return f"{literal(theirs) if address is None else address}, or {name}"


def _address(text: str) -> str | None:
    """A link, when the text is an address that can be one: what could end it early is none."""
    parts = urlsplit(text)
    is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
    if not is_address or not _LINKED.fullmatch(text) or text != one_line(text):
        return None
    return f"<{text.replace('&', '&amp;')}>"


def _typed_orders(incident: Incident) -> list[str]:
    """The commands, for whoever has a terminal and no buttons."""
    lines = []
    if incident.open and not incident.attended:
        lines.append(f"*Take it:* `watchkeeper ack {incident.incident_id}`")
    held = [each for each in incident.containments.values() if each.active]
    waiting = [_order(each) for each in incident.containments.values() if each.proposed and not each.active]
    if incident.open and any(each.awaited for each in incident.containments.values()):
        lines.append(f"*Allow it:* `watchkeeper approve {incident.incident_id}`")
        lines.append(f"*Refuse it:* `watchkeeper deny {incident.incident_id}`")
    else:
        lines += [f"*Do it:* `{order}`" for order in waiting[:5] if order and incident.open]
    about_an_agent = not incident.listed and incident.part is None
    if incident.open and about_an_agent and not held and not any(waiting):
        target = f"{incident.tenant}/{incident.agent}"
        lines.append(f"*Stop it:* `watchkeeper halt {_typed(target)}`")
    lines += [f"*Let it run again:* `watchkeeper resume {_typed(each.target.key)}`" for each in held[:5]]
    if incident.open:
        lines.append(f"*Close:* `watchkeeper resolve {incident.incident_id}`")
    lines.append(f"*Everything known:* `watchkeeper incident {incident.incident_id}`")
    return lines


def _order(proposed: Containment) -> str:
    """The command that does what was proposed; empty when there is none for it."""
    target = _typed(proposed.target.key)
    if proposed.wanted.mode == "halt":
        return f"watchkeeper halt {target}"
    return (
        f"watchkeeper degrade {target} {proposed.wanted.ladder}" if proposed.wanted.mode == "degrade" else ""
    )


def _typed(target: str) -> str:
    """Safe to paste into a shell, and inside a code span."""
    return escape(shlex.quote(one_line(target)).replace("`", ""))


def _footer(incident: Incident) -> str:
    return (
        f"{incident.incident_id} · {literal(incident.tenant)} · {incident.state} · "
        f"opened {_time(incident.opened_at)}"
    )


def _field(name: str, value: str) -> MarkdownTextObject:
    return MarkdownTextObject(text=cut(f"*{name}*\n{literal(value)}", _FIELD_CHARS), verbatim=True)


def _mrkdwn(text: str) -> MarkdownTextObject:
    """Verbatim: names of channels and people in it stay text, and an address becomes no link by itself."""
    return MarkdownTextObject(text=cut(text, _TEXT_CHARS), verbatim=True)


def _time(moment: datetime | None) -> str:
    return "unknown" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _span(start: datetime | None, end: datetime | None) -> str:
    return "some time" if start is None or end is None else wording.span((end - start).total_seconds())
