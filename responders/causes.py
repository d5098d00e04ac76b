"""Which open incident a detection belongs to, as the store knows it: by keys in common, or by what it follows
from. Also what lies around a decision: silences, how much was paged lately, earlier kin.

Functions take the `Connection` of the transaction they are part of.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select, update

from responders.decider.correlation import (
    cause_key,
    explains,
    follows,
    part_keys,
    source_key,
    sources_of,
)
from responders.decider.draft import Decision
from responders.decider.inputs import SilenceInForce
from responders.incident import Incident
from responders.policy import Policy
from responders.store import event_store, tables
from responders.store.event_store import Conflict, insert_new
from schemas.base import epoch_ms, from_epoch_ms
from schemas.control import Target
from schemas.detection import Detection
from schemas.incident import Triggered


@dataclass(frozen=True, slots=True)
class SilenceOfTarget:
    """A silence by command. ``agent`` may be a pattern."""

    silence_id: str
    tenant: str
    agent: str
    detector: str | None
    until: datetime
    reason: str
    person: str


SILENCE_ID: Final = "sil-"
MINUTE_MS: Final = 60_000
MOST_CONSEQUENCES: Final = 1_000
"""Incidents that are looked at when a cause shows up after them."""


def open_incident(
    connection: Connection, keys: Sequence[str], now: datetime, window_minutes: float | None = None
) -> str | None:
    """The open incident that holds one of ``keys``, the first one first. One that has had no detection for
    the window gives its keys away.
    """
    grouping = tables.grouping
    rows = connection.execute(select(grouping.c.key, grouping.c.incident_id).where(grouping.c.key.in_(keys)))
    held: dict[str, str] = {row.key: row.incident_id for row in rows}
    for key in keys:
        if key not in held:
            continue
        if window_minutes is None or not _is_stale(connection, held[key], now, window_minutes):
            return held[key]
        connection.execute(delete(grouping).where(grouping.c.key == key))
    return None


def give_up_taken(connection: Connection, key: str) -> Incident | None:
    """The incident that held the key until now: somebody is on it, and it calls nobody any more."""
    grouping = tables.grouping
    held = connection.execute(select(grouping.c.incident_id).where(grouping.c.key == key)).scalar()
    incident = None if held is None else event_store.load(connection, held)
    if incident is None or not incident.attended:
        return None
    connection.execute(delete(grouping).where(grouping.c.key == key))
    return incident


def _is_stale(connection: Connection, incident_id: str, now: datetime, window_minutes: float) -> bool:
    """Nothing was seen of it for the window. What a person opened has no detections, and is not."""
    statement = select(func.max(tables.inbox.c.time_ms)).where(tables.inbox.c.incident_id == incident_id)
    last_ms: int | None = connection.execute(statement).scalar()
    return last_ms is not None and last_ms < epoch_ms(now) - window_minutes * MINUTE_MS


def claim_keys(connection: Connection, decision: Decision, keys: Sequence[str]) -> None:
    """Give the causes ``keys`` to the incident, as far as no other open one has them.

    Raises:
        Conflict: the incident was opened for causes that another writer has just opened one for.
    """
    incident = decision.incident
    if incident is None or not incident.open:
        return
    opened = bool(decision.events) and isinstance(decision.events[0].data, Triggered)
    for key in keys:
        if not insert_new(connection, tables.grouping, key=key, incident_id=incident.incident_id) and opened:
            raise Conflict(f"{key} has an open incident")


def cause_of(connection: Connection, detection: Detection, policy: Policy) -> Incident | None:
    """The open incident that the detection is a consequence of."""
    keys = [source_key(detection.tenant, name) for name in sources_of(detection, policy.inhibit)]
    if not keys:
        return None
    rows = connection.execute(
        select(tables.grouping.c.incident_id).where(tables.grouping.c.key.in_(keys)).distinct()
    )
    ids: list[str] = sorted(rows.scalars())
    for incident_id in ids:
        cause = event_store.load(connection, incident_id)
        if cause is not None and explains(cause, detection, policy.inhibit):
            return cause
    return None


def is_source(connection: Connection, detection: Detection, incident_id: str) -> None:
    """From here on consequences of the detection belong to this incident."""
    key = source_key(detection.tenant, detection.detector)
    connection.execute(delete(tables.grouping).where(tables.grouping.c.key == key))
    connection.execute(insert(tables.grouping).values(key=key, incident_id=incident_id))


def consequences_of(
    connection: Connection, cause: Incident, detection: Detection, policy: Policy
) -> list[Incident]:
    """The open incidents that turn out to be consequences, the oldest first."""
    rules = [rule for rule in policy.inhibit if rule.springs_from(detection)]
    back = max((rule.before_minutes for rule in rules), default=0.0)
    row = tables.incidents.c
    since_ms = epoch_ms(detection.onset - timedelta(minutes=back))
    ids = connection.execute(
        select(row.incident_id)
        .where(row.tenant == detection.tenant, row.state != "resolved", row.opened_ms >= since_ms)
        .order_by(row.opened_ms, row.incident_id)
        .limit(MOST_CONSEQUENCES)
    ).scalars()
    found = [event_store.load(connection, each) for each in list(ids) if each != cause.incident_id]
    return [each for each in found if each is not None and follows(each, cause, policy.inhibit)]


def kin_of(connection: Connection, detection: Detection, policy: Policy, now: datetime) -> str | None:
    """The newest incident that the same cause has had."""
    causes = tables.causes.c
    since_ms = epoch_ms(now - timedelta(days=policy.grouping.kin_days))
    return connection.execute(
        select(causes.incident_id)
        .where(causes.key == cause_key(detection), causes.opened_ms >= since_ms)
        .order_by(causes.opened_ms.desc(), causes.incident_id)
        .limit(1)
    ).scalar()


def remember_cause(connection: Connection, detection: Detection, incident: Incident) -> None:
    """The incident was opened for this cause."""
    insert_new(
        connection,
        tables.causes,
        key=cause_key(detection),
        incident_id=incident.incident_id,
        opened_ms=epoch_ms(incident.opened_at),
    )


def pages_lately(connection: Connection, tenant: str, now: datetime) -> int:
    """How many transitions were paged in the tenant within the last minute. Another host's clock may be a
    little ahead; what is further ahead is of a clock that was set back since.
    """
    paged, now_ms = tables.paged.c, epoch_ms(now)
    statement = select(func.count()).where(
        paged.tenant == tenant, paged.time_ms > now_ms - MINUTE_MS, paged.time_ms < now_ms + MINUTE_MS
    )
    return connection.execute(statement).scalar_one()


def silences_on(connection: Connection, detection: Detection, now: datetime) -> list[SilenceInForce]:
    """The silences by command that hold for the detection."""
    its = tables.silences.c
    rows = connection.execute(
        select(tables.silences).where(its.tenant == detection.tenant, its.until_ms > epoch_ms(now))
    )
    return [
        SilenceInForce(row.silence_id, from_epoch_ms(row.until_ms), row.reason)
        for row in rows
        if fnmatchcase(detection.agent, row.agent) and row.detector in (None, detection.detector)
    ]


def silence(
    connection: Connection,
    person: str,
    target: Target,
    detector: str | None,
    until: datetime,
    reason: str,
    now: datetime,
) -> SilenceInForce:
    """Begin a silence for the agents of the target, of one detector or of all."""
    silence_id = f"{SILENCE_ID}{uuid.uuid4().hex[:12]}"
    connection.execute(
        insert(tables.silences).values(
            silence_id=silence_id,
            tenant=target.tenant,
            agent=target.agent,
            detector=detector,
            reason=reason[:1024],
            person=person[:256],
            created_ms=epoch_ms(now),
            until_ms=epoch_ms(until),
        )
    )
    return SilenceInForce(silence_id, until, reason[:1024])


def end_silences(connection: Connection, silence_ids: Sequence[str], now: datetime) -> None:
    """They hold for nothing any more."""
    silences = tables.silences
    connection.execute(
        update(silences).where(silences.c.silence_id.in_(silence_ids)).values(until_ms=epoch_ms(now))
    )


def silences_in_force(connection: Connection, now: datetime) -> list[SilenceOfTarget]:
    """Those by command that are not over, the first to end first."""
    its = tables.silences.c
    rows = connection.execute(
        select(tables.silences).where(its.until_ms > epoch_ms(now)).order_by(its.until_ms, its.silence_id)
    )
    return [
        SilenceOfTarget(
            silence_id=row.silence_id,
            tenant=row.tenant,
            agent=row.agent,
            detector=row.detector,
            until=from_epoch_ms(row.until_ms),
            reason=row.reason,
            person=row.person,
        )
        for row in rows
    ]


def open_incidents_of_part(connection: Connection, part: str) -> list[str]:
    """Those that are about this part of the engine, whatever the cause."""
    its = tables.grouping.c
    rows = connection.execute(
        select(its.incident_id)
        .where(its.key.startswith(part_keys(part), autoescape=True))
        .distinct()
        .order_by(its.incident_id)
    )
    return list(rows.scalars())


def open_incidents_under(connection: Connection, silence: SilenceOfTarget) -> list[str]:
    """The open incidents that this silence keeps quiet."""
    row = tables.incidents.c
    ids = connection.execute(
        select(row.incident_id)
        .where(row.tenant == silence.tenant, row.state != "resolved")
        .order_by(row.opened_ms, row.incident_id)
    ).scalars()
    loaded = [event_store.load(connection, incident_id) for incident_id in list(ids)]
    return [each.incident_id for each in loaded if each is not None and each.silence_id == silence.silence_id]


def open_incidents_of(connection: Connection, target: Target, detector: str | None) -> list[str]:
    """The open incidents all of whose detections are of these agents (and of the detector)."""
    row = tables.incidents.c
    rows = connection.execute(
        select(row.incident_id, row.agent)
        .where(row.tenant == target.tenant, row.state != "resolved")
        .order_by(row.opened_ms, row.incident_id)
    )
    near = [each.incident_id for each in rows if fnmatchcase(each.agent, target.agent)]
    loaded = [event_store.load(connection, incident_id) for incident_id in near]
    return [
        each.incident_id
        for each in loaded
        if each is not None
        and each.detections
        and all(
            fnmatchcase(seen.agent, target.agent) and detector in (None, seen.detector)
            for seen in each.detections
        )
    ]
