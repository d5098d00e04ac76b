"""The outbox: effects that were committed with their decision, claimed, carried out and settled.

Rows are claimed by status, never by the order of their ids: transactions do not commit in that order. A claim
is a lease; its fencing token keeps a sender that was frozen past it from settling a row that someone else has
by then.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, and_, case, exists, or_, select, update

from responders.effects import (
    Delivered,
    Outcome,
    Page,
    Permanent,
    PublishIncidentEvents,
    Retryable,
    Sendable,
    ShowPicture,
    UpdatePage,
)
from responders.store import tables

LEASE_MS: Final = 10_000
RENEW_MS: Final = 3_000
"""So often a sender that is alive asks for its rows anew: one that is frozen loses them within the lease."""
FIRST_RETRY_MS: Final = 500
NO_ANSWER: Final = "no answer so far"
LONGEST_RETRY_MS: Final = 30_000
_KINDS: Final = {kind.__name__: kind for kind in (Page, UpdatePage, ShowPicture, PublishIncidentEvents)}


@dataclass(frozen=True, slots=True)
class Claimed:
    """A row that is ours until the lease runs out, which `renew` puts off.

    ``in_doubt``: an earlier attempt may have been carried out.
    """

    row_id: int
    token: int
    attempts: int
    in_doubt: bool
    effect: Sendable


def destination_of(effect: Sendable) -> str:
    """Where a row is on its way to: a channel, the log, or the drawing of pictures, which no page waits for.
    Its lane is the incident's to there.
    """
    match effect:
        case PublishIncidentEvents():
            return "log"
        case ShowPicture():
            return "pictures"
        case _:
            return effect.channel


def lane_of(effect: Sendable) -> str:
    """Rows of a lane follow each other: pages of an incident to one channel, and its published events."""
    return f"{effect.incident_id}:{destination_of(effect)}"


def claim(connection: Connection, now_ms: int, limit: int = 20, without: Sequence[str] = ()) -> list[Claimed]:
    """Take rows that are due, and rows whose sender's lease has run out; at most one of a lane, and none to
    the destinations ``without``.
    """
    box = tables.outbox
    earlier = box.alias()
    ready = or_(
        and_(box.c.status == "pending", box.c.not_before_ms <= now_ms),
        and_(box.c.status == "claimed", box.c.lease_until_ms < now_ms),
    )
    waits = exists().where(
        earlier.c.lane == box.c.lane,
        earlier.c.row_id < box.c.row_id,
        earlier.c.status.in_(("pending", "claimed")),
    )
    elsewhere = [~box.c.lane.endswith(f":{destination}", autoescape=True) for destination in without]
    rows = connection.execute(
        select(box.c.row_id)
        .where(ready, ~waits, *elsewhere)
        .order_by(box.c.not_before_ms, box.c.row_id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=box)
    ).scalars()
    row_ids = list(rows)
    if not row_ids:
        return []
    claimed = connection.execute(
        update(box)
        .where(box.c.row_id.in_(row_ids))
        .values(
            # Whoever held the lease before may have died after sending.
            in_doubt=case((box.c.status == "claimed", True), else_=box.c.in_doubt),
            status="claimed",
            attempts=box.c.attempts + 1,
            token=box.c.token + 1,
            lease_until_ms=now_ms + LEASE_MS,
        )
        .returning(box)
    ).mappings()
    return sorted((_claimed(row) for row in claimed), key=lambda each: each.row_id)


def _claimed(row: Any) -> Claimed:
    effect = _KINDS[row["kind"]](**json.loads(row["effect"]))
    return Claimed(row["row_id"], row["token"], row["attempts"], row["in_doubt"], effect)


def troubles_of(connection: Connection, incident_id: str) -> dict[tuple[str, str], str]:
    """Why pages of the incident that were tried have not arrived so far, by page and channel."""
    box = tables.outbox.c
    rows = connection.execute(
        select(box.effect, box.last_error).where(
            box.effect_key.startswith(f"page:{incident_id}:", autoescape=True),
            box.status.in_(("pending", "claimed")),
            box.attempts > 0,
        )
    )
    effects = [(json.loads(row.effect), row.last_error) for row in rows]
    return {(effect["page"], effect["channel"]): error or NO_ANSWER for effect, error in effects}


def renew(connection: Connection, claimed: Sequence[Claimed], now_ms: int) -> list[Claimed]:
    """Those rows that are still ours; their lease begins anew."""
    box = tables.outbox
    ours = []
    for each in claimed:
        is_ours = (box.c.row_id == each.row_id, box.c.token == each.token, box.c.status == "claimed")
        if connection.execute(update(box).where(*is_ours).values(lease_until_ms=now_ms + LEASE_MS)).rowcount:
            ours.append(each)
    return ours


def settle(connection: Connection, claimed: Claimed, outcome: Outcome, now_ms: int) -> bool:
    """Write down how it ended. False when the lease was lost: someone else settles the row."""
    values: dict[str, Any]
    match outcome:
        case Delivered():
            values = {"status": "done", "in_doubt": False, "last_error": None}
        case Permanent():
            values = {"status": "failed", "in_doubt": False, "last_error": outcome.reason[:2000]}
        case Retryable():
            values = {
                "status": "pending",
                "in_doubt": outcome.in_doubt,
                "not_before_ms": now_ms + retry_after_ms(outcome, claimed.attempts),
                "last_error": outcome.reason[:2000],
            }
    box = tables.outbox
    is_ours = (box.c.row_id == claimed.row_id, box.c.token == claimed.token, box.c.status == "claimed")
    return connection.execute(update(box).where(*is_ours).values(**values)).rowcount == 1


def retry_after_ms(outcome: Retryable, attempts: int) -> int:
    """What the other side asked for, or twice as long as the time before, up to half a minute.

    >>> [retry_after_ms(Retryable("down"), attempts) for attempts in (1, 2, 3, 20)]
    [500, 1000, 2000, 30000]
    """
    if outcome.after_ms is not None:
        return outcome.after_ms
    return int(min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** min(attempts - 1, 16)))
