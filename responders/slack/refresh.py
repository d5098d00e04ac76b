"""Brings a message up to date under which somebody pressed a button that no longer counts."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from responders.decide import Decision
from responders.effects import UpdatePage
from responders.handle import Responder
from responders.store import event_store, tables
from schemas.base import epoch_ms


def message(responder: Responder, place: tuple[str, str]) -> None:
    """Have the message at ``place`` (conversation, message) edited, whatever it is thought to say now. Does
    nothing when it is none of ours.
    """

    def work(connection: Connection) -> None:
        its = tables.messages.c
        is_it = (its.conversation == place[0], its.message == place[1])
        row = connection.execute(select(its.incident_id, its.page, its.channel).where(*is_it)).first()
        incident = None if row is None else event_store.load(connection, row.incident_id)
        if row is None or incident is None:
            return
        connection.execute(update(tables.messages).where(*is_it).values(digest=""))
        effect = UpdatePage(row.incident_id, row.page, row.channel, incident.version)
        now = responder.clock()
        if not _done_before(connection, effect, epoch_ms(now)):
            event_store.save(connection, Decision(None, effects=(effect,)), now)

    responder.store.transact(work)


def _done_before(connection: Connection, effect: UpdatePage, now_ms: int) -> bool:
    """Whether this edit was made, or given up: then it is due once more."""
    box = tables.outbox
    again = update(box).where(box.c.effect_key == effect.key, box.c.status.in_(("done", "failed")))
    due = again.values(status="pending", attempts=0, in_doubt=False, not_before_ms=now_ms)
    return connection.execute(due).rowcount == 1
