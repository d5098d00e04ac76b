"""What is kept for speed, told from the log anew: it must come out as it was kept.

The log is what incidents are; ``incidents``, ``causes`` and ``paged`` are functions of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection, Table, delete, insert, select

from responders.decider.correlation import cause_key
from responders.decider.draft import DIGEST
from responders.incident import fold
from responders.store import tables
from responders.store.event_store import Store, events_of, projection_of
from schemas.base import epoch_ms
from schemas.incident import IncidentEvent, PageRequested, Triggered

PROJECTIONS: Final[tuple[Table, ...]] = (tables.incidents, tables.causes, tables.paged)


def rebuild(store: Store) -> dict[str, int]:
    """Tell every projection from the log; by table, how many rows were not as the log says. Raises
    StoreError.
    """

    def work(connection: Connection) -> dict[str, int]:
        told = _told(connection)
        return {table.name: _put_right(connection, table, told[table.name]) for table in PROJECTIONS}

    return store.transact(work)


def _told(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """The rows that the log makes, by table."""
    told: dict[str, list[dict[str, Any]]] = {table.name: [] for table in PROJECTIONS}
    ids = connection.execute(select(tables.events.c.incident_id).distinct()).scalars()
    for incident_id in list(ids):
        events = events_of(connection, incident_id)
        incident = fold(events)
        assert incident is not None
        told["incidents"].append(projection_of(incident))
        told["causes"] += _causes(events)
        told["paged"] += _paged(events, incident.tenant)
    return told


def _causes(events: list[IncidentEvent]) -> Iterator[dict[str, Any]]:
    first = events[0]
    if isinstance(first.data, Triggered) and first.data.detection is not None:
        key, opened_ms = cause_key(first.data.detection), epoch_ms(first.time)
        yield {"key": key, "incident_id": first.incident_id, "opened_ms": opened_ms}


def _paged(events: list[IncidentEvent], tenant: str) -> Iterator[dict[str, Any]]:
    counted: set[str] = set()
    for event in events:
        data = event.data
        if isinstance(data, PageRequested) and data.page not in counted and not data.page.startswith(DIGEST):
            counted.add(data.page)
            yield {
                "incident_id": event.incident_id,
                "page": data.page,
                "tenant": tenant,
                "time_ms": epoch_ms(event.time),
            }


def _put_right(connection: Connection, table: Table, told: list[dict[str, Any]]) -> int:
    """Make the table's rows those; how many were missing, other or too many."""
    keys = [column.name for column in table.primary_key.columns]
    wanted = {tuple(row[key] for key in keys): row for row in told}
    kept = {
        tuple(row[key] for key in keys): dict(row) for row in connection.execute(select(table)).mappings()
    }
    wrong = [key for key in {*wanted, *kept} if wanted.get(key) != kept.get(key)]
    for key in wrong:
        is_it = [table.c[name] == value for name, value in zip(keys, key, strict=True)]
        connection.execute(delete(table).where(*is_it))
        if key in wanted:
            connection.execute(insert(table).values(**wanted[key]))
    return len(wrong)
