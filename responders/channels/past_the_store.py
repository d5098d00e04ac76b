"""When the store takes nothing no incident can say so: people are told past it, in as many words as it takes.

Once an hour, whoever tells it and however often it is started anew: the page's key is that of the hour, and a
channel that can look for it does. When the store works again the page says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

import structlog

from responders.decider.draft import OPENED
from responders.decider.parts import ITS_TENANT, ITSELF
from responders.effects import Delivered, Outcome, Permanent, Retryable
from responders.incident import Incident, apply
from responders.pages.page import Message, render
from responders.policy import Policy
from responders.sender import SEND_WITHIN_S, Outgoing, PageChannel
from schemas import incident as log
from schemas.incident import IncidentEvent

ATTEMPTS: Final = 5
AGAIN_AFTER_S: Final = 3.0
_log = structlog.get_logger(__name__)

Told = dict[str, tuple[PageChannel, Delivered]]
"""By channel, where the page is."""


async def tell(
    channels: Mapping[str, PageChannel],
    policy: Policy,
    reason: str,
    now: datetime,
    again_s: float = AGAIN_AFTER_S,
) -> Told:
    """Page everybody who is paged for what has no rule of its own, and the fallback; whom it reached."""
    names = (*(policy.paging.channels or policy.channels), policy.paging.fallback)
    asked = {name: channels[name] for name in dict.fromkeys(names) if name is not None and name in channels}
    outcomes = await asyncio.gather(*(_send(each, reason, now, again_s) for each in asked.values()))
    for name, outcome in zip(asked, outcomes, strict=True):
        _log.critical("the store takes nothing", told=name, arrived=isinstance(outcome, Delivered))
    return {
        name: (channel, outcome)
        for (name, channel), outcome in zip(asked.items(), outcomes, strict=True)
        if isinstance(outcome, Delivered)
    }


async def over(told: Told, reason: str, began: datetime) -> None:
    """The pages of ``began`` say that it works again. One that cannot be edited stays as it is."""
    message = _message(reason, began, over=True)
    for channel, where in told.values():
        try:
            async with asyncio.timeout(SEND_WITHIN_S):
                await channel.edit(where.conversation, where.message, message)
        except TimeoutError:
            continue


async def _send(channel: PageChannel, reason: str, now: datetime, again_s: float) -> Outcome:
    began, message = _hour(now), _message(reason, now)
    key = f"page:{message.about.incident_id}:{OPENED}:{channel.name}"
    outcome: Outcome = Permanent("not tried")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            async with asyncio.timeout(SEND_WITHIN_S):
                # Another process, or this one before it was started anew, may have told it.
                outcome = await channel.send(
                    Outgoing(key, message, began, attempt, in_doubt=True, thread=None)
                )
        except TimeoutError:
            outcome = Retryable("not done in time", in_doubt=True)
        if not isinstance(outcome, Retryable):
            break
        await asyncio.sleep(again_s)
    return outcome


def _hour(now: datetime) -> datetime:
    return now.replace(minute=0, second=0, microsecond=0)


def _message(reason: str, now: datetime, *, over: bool = False) -> Message:
    """Without buttons, and without commands: what they would write to takes nothing."""
    incident = _fold(reason, now, over=over)
    message = render(incident, OPENED)
    kept = [block for block in message.blocks if block["type"] in ("header", "section")][:2]
    return replace(message, blocks=tuple(kept))


def _fold(reason: str, now: datetime, *, over: bool) -> Incident:
    """An incident that no store has."""
    headline = "Watchkeeper's store takes nothing"
    summary = (
        f"{reason}. What is on the bus waits; until the store works again no incident is opened, no other"
        " page is sent and no order is given."
    )
    if over:
        headline = "Watchkeeper's store works again"
        summary = f"It took nothing ({reason}); what waited on the bus is worked off."
    summary = summary[0].upper() + summary[1:1024]
    facts: list[log.Fact] = [
        log.Triggered(tenant=ITS_TENANT, agent=ITSELF, severity="critical", onset=now, summary=summary),
        log.PageRequested(page=OPENED, channel=ITSELF, headline=headline),
    ]
    if over:
        facts.append(log.Resolved(reason="the store works again"))
    incident: Incident | None = None
    for version, fact in enumerate(facts, 1):
        event = IncidentEvent(
            incident_id=f"STORE-{_hour(now):%Y%m%dT%H}", version=version, time=now, data=fact
        )
        incident = apply(incident, event)
    assert incident is not None
    return incident
