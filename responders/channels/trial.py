"""A page that says it is a test: of an incident that never was, which is over as soon as it is told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from responders.effects import Delivered, Outcome
from responders.incident import Incident, apply
from responders.pages.page import Message, render
from responders.sender import Outgoing, PageChannel
from schemas import incident as log
from schemas.incident import Actor, Fact, IncidentEvent

AGENT = "watchkeeper-test"
WORDS = "TEST PAGE: nothing has happened."


@dataclass(frozen=True, slots=True)
class Tried:
    """How the page went, and how telling the channel that it is over."""

    page: Outcome
    over: Outcome | None


async def try_channel(channel: PageChannel, person: str, number: str, now: datetime) -> Tried:
    """Send a test page, then say that it is over. ``number`` tells it from other tests."""
    incident = _fold(f"TEST-{number}", person, now, _opened(now))
    key = f"page:{incident.incident_id}:test:{channel.name}"
    outcome = await channel.send(
        Outgoing(key, _message(incident), now, attempts=1, in_doubt=False, thread=None)
    )
    if not isinstance(outcome, Delivered):
        return Tried(outcome, None)
    over = _fold(f"TEST-{number}", person, now, _opened(now), log.Resolved(reason="It was a test."))
    return Tried(outcome, await channel.edit(outcome.conversation, outcome.message, _message(over)))


def _opened(now: datetime) -> log.Triggered:
    return log.Triggered(tenant="default", agent=AGENT, severity="warning", onset=now, summary=WORDS)


def _fold(incident_id: str, person: str, now: datetime, *facts: Fact) -> Incident:
    incident: Incident | None = None
    for version, fact in enumerate(facts, 1):
        actor = Actor(kind="person", name=person)
        incident = apply(
            incident,
            IncidentEvent(incident_id=incident_id, version=version, time=now, actor=actor, data=fact),
        )
    assert incident is not None
    return incident


def _message(incident: Incident) -> Message:
    """Without what to do: there is nothing."""
    message = render(incident, "test")
    kept = [block for block in message.blocks if block["type"] in ("header", "context")]
    summary = next(block for block in message.blocks if block["type"] == "section")
    return replace(message, blocks=(*kept[:1], summary, *kept[1:]))
