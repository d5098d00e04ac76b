"""What is silent now, and why: by command, for one incident, or by the policy."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import select

from responders import causes
from responders.handle import Responder
from responders.store import event_store, tables
from schemas.base import Contract, Utc


class SilenceView(Contract):
    """One silence in force. ``what`` ends it again (`watchkeeper unsilence`), unless it is the policy's."""

    kind: Literal["target", "incident", "policy"]
    silence_id: str | None
    what: str
    detector: str | None
    until: Utc
    reason: str
    person: str | None


def in_force(responder: Responder) -> list[SilenceView]:
    """Those that end first, first. Raises StoreError."""
    found = [*_by_command(responder), *_of_incidents(responder), *_of_the_policy(responder)]
    return sorted(found, key=lambda each: (each.until, each.what))


def _by_command(responder: Responder) -> list[SilenceView]:
    with responder.store.reading() as connection:
        ordered = causes.silences_in_force(connection, responder.clock())
    return [
        SilenceView(
            kind="target",
            silence_id=each.silence_id,
            what=f"{each.tenant}/{each.agent}",
            detector=each.detector,
            until=each.until,
            reason=each.reason,
            person=each.person,
        )
        for each in ordered
    ]


def _of_incidents(responder: Responder) -> list[SilenceView]:
    """Open incidents that were silenced by themselves."""
    now, row = responder.clock(), tables.incidents.c
    with responder.store.reading() as connection:
        ids = connection.execute(select(row.incident_id).where(row.state != "resolved")).scalars()
        loaded = [event_store.current(connection, incident_id) for incident_id in list(ids)]
    return [
        SilenceView(
            kind="incident",
            silence_id=None,
            what=each.incident_id,
            detector=None,
            until=each.silenced_until,
            reason=each.silenced_for,
            person=each.silenced_by,
        )
        for each in loaded
        if each is not None
        and each.silenced_until is not None
        and each.silenced_until > now
        and each.silenced_by is not None
        and each.silence_id is None
    ]


def _of_the_policy(responder: Responder) -> list[SilenceView]:
    now = responder.clock()
    return [
        SilenceView(
            kind="policy",
            silence_id=None,
            what=", ".join(sorted(each.agents or {"*"})),
            detector=", ".join(sorted(each.detectors)) if each.detectors else None,
            until=each.until,
            reason=each.reason,
            person=None,
        )
        for each in responder.policy.silence
        if each.until > now
    ]
