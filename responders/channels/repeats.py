"""store → channels that forget: what is open is told them again, for as long as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import structlog
from sqlalchemy import select

from responders.effects import Delivered, Outcome
from responders.handle import Responder
from responders.pages.page import Message, render
from responders.store import event_store, tables

_log = structlog.get_logger(__name__)


@runtime_checkable
class Repeating(Protocol):
    """A channel that takes silence for the end of an incident."""

    @property
    def name(self) -> str: ...

    @property
    def repeat_every_s(self) -> float: ...

    async def repeat(self, messages: Sequence[Message]) -> Outcome: ...


async def repeat_open(responder: Responder, channel: Repeating) -> int:
    """Tell the channel again what it has been told and is still open; how many incidents.

    Raises:
        StoreError: the store does not answer.
    """
    messages = await asyncio.to_thread(still_open, responder, channel.name)
    if messages:
        outcome = await channel.repeat(messages)
        if not isinstance(outcome, Delivered):
            _log.warning("open incidents not repeated", channel=channel.name, reason=outcome.reason)
    return len(messages)


def still_open(responder: Responder, channel: str) -> list[Message]:
    """The first page of each open incident that was delivered to the channel, as it is now."""
    told, incidents = tables.messages.c, tables.incidents.c
    statement = (
        select(told.incident_id, told.page)
        .join(tables.incidents, incidents.incident_id == told.incident_id)
        .where(told.channel == channel, incidents.state != "resolved")
        .order_by(told.incident_id)
    )
    messages: dict[str, Message] = {}
    with responder.store.reading() as connection:
        for incident_id, page in connection.execute(statement).all():
            if incident_id not in messages:
                incident = event_store.current(connection, incident_id)
                assert incident is not None
                messages[incident_id] = render(incident, page)
    return list(messages.values())
