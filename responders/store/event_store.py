"""The incident store: the log, and everything that must change together with it, in one transaction.

Functions take the `Connection` of the transaction they are part of; `Store.transact` runs one and repeats it
when another writer was faster. Nothing here decides anything.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any, Final, TypeVar

import stamina
from sqlalchemy import Connection, Engine, Table, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError, InternalError, OperationalError

from responders import wanted
from responders.decider.draft import DIGEST, Decision
from responders.effects import (
    CancelTimers,
    Hold,
    Page,
    PublishIncidentEvents,
    Release,
    Sendable,
    SetTimer,
    ShowPicture,
    UpdatePage,
)
from responders.incident import Incident, apply
from responders.store import outbox, tables
from responders.store.database import READ, StoreError, make_engine, memory_engine
from responders.store.folds import KEY, Fold, Folds, FoldsSeen
from responders.store.progress import Progress
from schemas.base import epoch_ms, whole_ms
from schemas.detection import Detection
from schemas.incident import INCIDENT_EVENT, IncidentEvent

T = TypeVar("T")
_LOST_RACE: Final = frozenset({"40001", "40P01", "23505", "25P03"})
"""SQLSTATE of a serialization failure, a deadlock, a unique violation, and of a transaction that was ended
because its process was frozen.
"""


class Conflict(Exception):  # noqa: N818 - what happened, not a fault
    """Another writer was faster; the transaction changed nothing and can be run again."""


class Turn:
    """Lets the writers of one process take turns, so that none waits longer than the one before it writes.

    SQLite's own waiting is sleeping and looking again, up to a tenth of a second later, and whoever comes by
    meanwhile goes first. This is a courtesy: after a second a writer tries its luck, and the database's own
    lock decides.
    """

    PATIENCE_S: Final = 1.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mine = threading.local()

    def __enter__(self) -> None:
        self._mine.taken = self._lock.acquire(timeout=self.PATIENCE_S)

    def __exit__(self, *_: object) -> None:
        if self._mine.taken:
            self._lock.release()


class Store:
    """One database of incidents. Synchronous: services call it from a thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turn = Turn() if engine.dialect.name == "sqlite" else nullcontext()
        self._folds = Folds()
        self._progress = Progress()

    @classmethod
    def open(cls, url: str) -> Store:
        """The store at ``url``, whose schema is up to date (`responders.store.migrations.upgrade`).

        Raises:
            StoreError: the URL is wrong.
        """
        return cls(make_engine(url))

    @classmethod
    def in_memory(cls) -> Store:
        """A store that nobody else sees, to try things out."""
        engine = memory_engine()
        tables.metadata.create_all(engine)
        return cls(engine)

    def close(self) -> None:
        self._engine.dispose()

    def transact(self, work: Callable[[Connection], T]) -> T:
        """What ``work`` returns, its changes committed. After a conflict it is run again.

        Raises:
            StoreError: the database cannot be reached, is full, or stays locked. Nothing has changed.
        """
        for attempt in stamina.retry_context(
            on=Conflict, attempts=50, timeout=60, wait_initial=0.002, wait_max=0.2, wait_jitter=0.01
        ):
            with attempt, self._progress.transaction():
                return self._once(work)
        raise AssertionError("a retry context ends by returning or raising")

    def stuck_s(self) -> float:
        """For how long transactions have waited for the database while it answered none."""
        return self._progress.stuck_s()

    def _once(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._turn:
                with self._engine.begin() as connection:
                    seen = connection.info[KEY] = FoldsSeen(self._folds)
                    result = work(connection)
                self._folds.keep(seen.seen)
                return result
        except IntegrityError as error:
            raise Conflict(str(error.orig)) from error
        except (OperationalError, InternalError) as error:
            if getattr(error.orig, "sqlstate", None) in _LOST_RACE:
                raise Conflict(str(error.orig)) from error
            raise _unusable(error) from error

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A consistent view for reading. Raises StoreError."""
        options: dict[str, Any] = {READ: True}
        if self._engine.dialect.name == "postgresql":
            options["isolation_level"] = "REPEATABLE READ"
        try:
            with self._engine.connect().execution_options(**options) as connection:
                connection.info[KEY] = FoldsSeen(self._folds)
                yield connection
        except (OperationalError, InternalError) as error:
            raise _unusable(error) from error


def _unusable(error: DBAPIError) -> StoreError:
    cause = (str(error.orig).strip().splitlines() or ["no reason given"])[0]
    return StoreError(f"the store does not answer ({cause}): check the database and its disk")


def insert_new(connection: Connection, table: Table, **values: Any) -> bool:
    """Insert a row unless one with its key is there; whether it was inserted."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).values(**values).on_conflict_do_nothing()
    return connection.execute(statement.returning(*table.primary_key.columns)).first() is not None


# The log


def events_of(connection: Connection, incident_id: str, until: datetime | None = None) -> list[IncidentEvent]:
    """The incident's events in order; none for an unknown incident. With ``until`` its log as it was then:
    the longest beginning of it in which no event is later.

    A clock may go back between two events, or one writer's be ahead of another's. What follows an event did
    not happen before it, so it counts from the latest time so far on: nothing is shown that says of itself
    to be later than ``until``, what had happened once has happened ever after, and it can be folded.
    """
    rows = connection.execute(
        select(tables.events.c.event)
        .where(tables.events.c.incident_id == incident_id)
        .order_by(tables.events.c.version)
    ).scalars()
    events = [INCIDENT_EVENT.validate_json(row) for row in rows]
    return events if until is None else list(takewhile(lambda event: event.time <= until, events))


def events_between(connection: Connection, incident_id: str, first: int, last: int) -> list[IncidentEvent]:
    """The events of the versions ``first`` to ``last``, both included."""
    its = tables.events.c
    rows = connection.execute(
        select(its.event)
        .where(its.incident_id == incident_id, its.version.between(first, last))
        .order_by(its.version)
    ).scalars()
    return [INCIDENT_EVENT.validate_json(row) for row in rows]


def load(connection: Connection, incident_id: str) -> Incident | None:
    """The incident as it is, locked against other writers until the transaction ends."""
    row = tables.incidents.c.incident_id
    connection.execute(select(row).where(row == incident_id).with_for_update())
    return current(connection, incident_id)


def current(connection: Connection, incident_id: str) -> Incident | None:
    """The incident as this transaction sees it: from where it was seen last, if its log goes on there."""
    folds: FoldsSeen = connection.info[KEY]
    known = folds.get(incident_id)
    rows = _rows_from(connection, incident_id, 0 if known is None else known.incident.version)
    if known is not None and (not rows or rows[0] != known.last):
        known, rows = None, _rows_from(connection, incident_id, 0)
    if not rows:
        return None
    incident = None if known is None else known.incident
    for row in rows if known is None else rows[1:]:
        incident = apply(incident, INCIDENT_EVENT.validate_json(row))
    assert incident is not None
    folds.put(Fold(incident, rows[-1]))
    return incident


def _rows_from(connection: Connection, incident_id: str, version: int) -> list[str]:
    its = tables.events.c
    rows = connection.execute(
        select(its.event).where(its.incident_id == incident_id, its.version >= version).order_by(its.version)
    )
    return list(rows.scalars())


def save(connection: Connection, decision: Decision, now: datetime) -> None:
    """Append the decision's events and put its effects where they will be carried out.

    Raises:
        IntegrityError: another writer appended first (`Store.transact` turns it into a `Conflict`).
    """
    if decision.events:
        incident = decision.incident
        assert incident is not None
        connection.execute(insert(tables.events), [_event_row(event) for event in decision.events])
        _project(connection, incident, opened=decision.events[0].version == 1)
    for effect in decision.effects:
        match effect:
            case Hold():
                wanted.hold(connection, effect, epoch_ms(now))
            case Release():
                wanted.release(connection, effect, epoch_ms(now))
            case SetTimer() | CancelTimers():
                _keep_time(connection, effect)
            case Page() | UpdatePage() | ShowPicture() | PublishIncidentEvents():
                _to_outbox(connection, effect, epoch_ms(now))
                if isinstance(effect, Page) and decision.incident is not None:
                    _count_page(connection, decision.incident, effect, now)


def _keep_time(connection: Connection, effect: SetTimer | CancelTimers) -> None:
    timers = tables.timers
    if isinstance(effect, CancelTimers):
        its = (timers.c.incident_id == effect.incident_id, timers.c.kind.in_(effect.kinds))
        connection.execute(delete(timers).where(*its))
        return
    insert_new(
        connection,
        timers,
        timer_key=effect.key,
        incident_id=effect.incident_id,
        kind=effect.kind,
        scope=effect.scope,
        epoch=effect.number,
        # Rounded up: a timer that fires before its time finds nothing due, and is gone.
        due_ms=whole_ms(effect.due + timedelta(microseconds=999)),
    )


def _count_page(connection: Connection, incident: Incident, effect: Page, now: datetime) -> None:
    if effect.page.startswith(DIGEST):
        return
    insert_new(
        connection,
        tables.paged,
        incident_id=effect.incident_id,
        page=effect.page,
        tenant=incident.tenant,
        time_ms=epoch_ms(now),
    )


def _event_row(event: IncidentEvent) -> dict[str, Any]:
    return {
        "incident_id": event.incident_id,
        "version": event.version,
        "type": event.type,
        "time_ms": epoch_ms(event.time),
        "event": event.model_dump_json(by_alias=True, exclude_none=True),
    }


def projection_of(incident: Incident) -> dict[str, Any]:
    """The incident's row in the list, a function of its log alone."""
    return {
        "incident_id": incident.incident_id,
        "version": incident.version,
        "state": incident.state,
        "severity": incident.severity,
        "containment": incident.containment,
        "tenant": incident.tenant,
        "agent": incident.agent,
        "session": incident.session,
        "headline": incident.headline,
        "summary": incident.summary,
        "opened_ms": epoch_ms(incident.opened_at),
        "updated_ms": epoch_ms(incident.updated_at),
        "resolved_ms": None if incident.resolved_at is None else epoch_ms(incident.resolved_at),
    }


def _project(connection: Connection, incident: Incident, opened: bool) -> None:
    row = projection_of(incident)
    if opened:
        connection.execute(insert(tables.incidents).values(**row))
    else:
        is_it = tables.incidents.c.incident_id == incident.incident_id
        connection.execute(update(tables.incidents).where(is_it).values(**row))
    if not incident.open:
        connection.execute(
            delete(tables.grouping).where(tables.grouping.c.incident_id == incident.incident_id)
        )


def _to_outbox(connection: Connection, effect: Sendable, now_ms: int) -> None:
    if isinstance(effect, UpdatePage):
        _forget_older_edits(connection, effect)
    insert_new(
        connection,
        tables.outbox,
        effect_key=effect.key,
        lane=outbox.lane_of(effect),
        kind=type(effect).__name__,
        effect=_encode(effect),
        status="pending",
        attempts=0,
        in_doubt=False,
        not_before_ms=now_ms,
        lease_until_ms=0,
        token=0,
        created_ms=now_ms,
    )


def _forget_older_edits(connection: Connection, effect: UpdatePage) -> None:
    """An edit says how things stand when it is made: one that nobody has begun is not needed before it."""
    box, prefix = tables.outbox, effect.key.rpartition(":")[0] + ":"
    connection.execute(
        delete(box).where(
            box.c.lane == outbox.lane_of(effect),
            box.c.status == "pending",
            box.c.attempts == 0,
            box.c.kind == "UpdatePage",
            box.c.effect_key.startswith(prefix, autoescape=True),
        )
    )


def _encode(effect: Sendable) -> str:
    return json.dumps(asdict(effect), ensure_ascii=False, sort_keys=True)


# The inbox


def seen(connection: Connection, source_key: str) -> bool:
    """Whether this input has been decided about."""
    row = tables.inbox.c.source_key
    return connection.execute(select(row).where(row == source_key)).first() is not None


def mark_seen(connection: Connection, source_key: str, incident_id: str | None, now: datetime) -> None:
    """Raises IntegrityError when another writer marked it first."""
    connection.execute(
        insert(tables.inbox).values(source_key=source_key, incident_id=incident_id, time_ms=epoch_ms(now))
    )


def detections_of(connection: Connection, incident_id: str) -> int:
    """How many detections the incident has taken in, those not worth a line in its log included."""
    statement = select(func.count()).where(tables.inbox.c.incident_id == incident_id)
    return connection.execute(statement).scalar_one()


def incident_id_for(seed: str) -> str:
    """A short id that people can type, the same for the same seed: ``INC-`` and ten letters or digits."""
    digest = hashlib.sha256(seed.encode()).digest()
    return "INC-" + base64.b32encode(digest)[:10].decode()


def detection_key(detection: Detection) -> str:
    return f"detection:{detection.detection_id}"
