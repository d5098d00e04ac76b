"""What a policy would have done about recorded detections: paged whom, contained what.

The same decisions as live, on a store in memory, under a clock that is told the time by the detections. Pages
arrive and orders are obeyed at once; somebody is on it ``answered_after`` the first page of an incident, or
nobody ever is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, select

from responders.containment import describe
from responders.decide import Acknowledge, AckSeen, CommandDelivered, Input, PageOutcome
from responders.decider.draft import DIGEST
from responders.effects import Delivered
from responders.handle import Responder
from responders.policy import Policy
from responders.store import event_store, tables
from responders.store.event_store import Store
from schemas import incident as log
from schemas.base import from_epoch_ms
from schemas.control import ControlAck
from schemas.detection import Detection
from schemas.incident import IncidentEvent

ANSWERED_AFTER: Final = timedelta(minutes=5)
AFTERWARDS: Final = timedelta(days=1)
"""How long what was put off is followed after the last detection."""
_PERSON: Final = "somebody"


@dataclass
class Consequences:
    """What came of one detection, at once and later, in words: empty when nothing did."""

    detection: Detection
    incident: str | None = None
    opened: bool = False
    paging: list[str] = field(default_factory=list)
    containment: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """What came of all of them, by detection id; and how much that was."""

    by_detection: dict[str, Consequences]
    incidents: int
    pages: int
    containments: int
    digests: int

    def totals(self) -> dict[str, int]:
        return {
            "incidents": self.incidents,
            "pages": self.pages,
            "digests": self.digests,
            "containments": self.containments,
        }


@dataclass(frozen=True)
class Difference:
    """One detection of which two policies make something else."""

    detection: Detection
    old: Consequences
    new: Consequences


def rehearse(
    policy: Policy, detections: Iterable[Detection], answered_after: timedelta | None = ANSWERED_AFTER
) -> Outcome:
    """What ``policy`` would have done. Detections come in the order in which they were made."""
    run = _Run(policy.with_channels("default"), answered_after)
    try:
        for detection in detections:
            run.see(detection)
        run.until(run.now + AFTERWARDS)
        return run.outcome()
    finally:
        run.store.close()


def differences(old: Outcome, new: Outcome) -> list[Difference]:
    """The detections that differ in what is paged or contained, in order. One that only one of the two has
    seen (objectives make detections too) has no consequences in the other.
    """
    found = []
    for detection_id in dict.fromkeys((*old.by_detection, *new.by_detection)):
        before, after = old.by_detection.get(detection_id), new.by_detection.get(detection_id)
        seen = after or before
        assert seen is not None
        left = before or Consequences(seen.detection)
        right = after or Consequences(seen.detection)
        if (left.paging, left.containment) != (right.paging, right.containment):
            found.append(Difference(seen.detection, left, right))
    return sorted(found, key=lambda each: (each.detection.time, each.detection.detection_id))


class _Run:
    def __init__(self, policy: Policy, answered_after: timedelta | None) -> None:
        self.store = Store.in_memory()
        self.now = datetime.fromtimestamp(0, tz=UTC)
        self._answered_after = answered_after
        self._responder = Responder(self.store, policy, lambda: self.now)
        self._seen: dict[str, Consequences] = {}
        self._opened_by: dict[str, str] = {}
        self._answers: dict[str, datetime] = {}
        self._read = 0
        self._pages: set[tuple[str, str]] = set()
        self._containments = 0

    def see(self, detection: Detection) -> None:
        self.until(detection.time)
        if detection.detection_id in self._seen:
            return
        mine = self._seen[detection.detection_id] = Consequences(detection)
        incident = self._responder.detection(detection)
        mine.incident = None if incident is None else incident.incident_id
        self._take(mine)

    def until(self, moment: datetime) -> None:
        """Let time pass: timers fire when they are due, and somebody answers."""
        while (due := self._next()) is not None and due <= moment:
            self.now = max(self.now, due)
            for incident_id in [each for each, at in self._answers.items() if at <= self.now]:
                del self._answers[incident_id]
                self._answer(incident_id)
            self._responder.fire_timers()
            self._take(None)
        self.now = max(self.now, moment)

    def _next(self) -> datetime | None:
        with self.store.reading() as connection:
            due_ms = connection.execute(select(func.min(tables.timers.c.due_ms))).scalar()
        due = [] if due_ms is None else [from_epoch_ms(due_ms)]
        return min([*due, *self._answers.values()], default=None)

    def _answer(self, incident_id: str) -> None:
        with self.store.reading() as connection:
            state = tables.incidents.c
            is_open = connection.execute(
                select(state.state).where(state.incident_id == incident_id, state.state != "resolved")
            ).first()
        if is_open is not None:
            self._responder.act(incident_id, _PERSON, Acknowledge())

    def _take(self, mine: Consequences | None) -> None:
        """Read what was decided since, and let pages arrive, which may decide more."""
        while events := self._news():
            for event in events:
                self._note(event, mine)
            sent = [
                each for each in events if isinstance(each.data, log.PageRequested | log.ContainmentIssued)
            ]
            if sent:
                self.store.transact(lambda connection, these=sent: self._deliver(connection, these))  # type: ignore[misc]

    def _news(self) -> list[IncidentEvent]:
        box = tables.outbox.c
        with self.store.reading() as connection:
            rows = connection.execute(
                select(box.row_id, box.effect)
                .where(box.row_id > self._read, box.kind == "PublishIncidentEvents")
                .order_by(box.row_id)
            ).all()
            found: list[IncidentEvent] = []
            for row in rows:
                part = json.loads(row.effect)
                found += event_store.events_between(connection, **part)
                self._read = row.row_id
        return found

    def _deliver(self, connection: Connection, sent: list[IncidentEvent]) -> None:
        for event in sent:
            for outcome in self._outcomes(event):
                self._responder.decided(connection, outcome, event.incident_id)

    def _outcomes(self, event: IncidentEvent) -> list[Input]:
        """Pages arrive, and orders are obeyed."""
        data = event.data
        if isinstance(data, log.PageRequested):
            arrived = Delivered("rehearsal", event.event_id)
            return [PageOutcome(data.page, data.channel, arrived, 1, event.version)]
        assert isinstance(data, log.ContainmentIssued)
        ack = ControlAck(
            command_id=data.command_id,
            epoch=data.epoch,
            tenant=data.target.tenant,
            agent=data.target.agent,
            session=data.target.session,
            enforcement_point="rehearsal",
            result="applied",
            time=self.now,
        )
        return [CommandDelivered(data.target, data.epoch), AckSeen(ack, data.target)]

    def _note(self, event: IncidentEvent, mine: Consequences | None) -> None:
        data = event.data
        if isinstance(data, log.Triggered):
            if data.detection is not None:
                self._opened_by[event.incident_id] = data.detection.detection_id
                self._seen[data.detection.detection_id].opened = True
            return
        owner = mine
        if mine is None or event.incident_id != mine.incident:
            owner = self._seen.get(self._opened_by.get(event.incident_id, ""))
        if isinstance(data, log.PageRequested):
            self._pages.add((event.incident_id, data.page))
            if self._answered_after is not None and not data.page.startswith(DIGEST):
                self._answers.setdefault(event.incident_id, event.time + self._answered_after)
        self._containments += isinstance(data, log.ContainmentRequested)
        if owner is not None:
            _tell(owner, data)

    def outcome(self) -> Outcome:
        digests = sum(page.startswith(DIGEST) for _, page in self._pages)
        return Outcome(
            self._seen, len(self._opened_by), len(self._pages) - digests, self._containments, digests
        )


def _tell(told: Consequences, data: log.Fact) -> None:
    match data:
        case log.PageRequested():
            told.paging.append(f"{data.page.partition(':')[0]} to {data.channel}")
        case log.PageDeferred(until=None):
            told.paging.append("in the digest")
        case log.PageDeferred():
            told.paging.append(f"later ({data.reason.replace('_', ' ')})")
        case log.Merged():
            told.paging.append("with its cause")
        case log.ContainmentRequested():
            told.containment.append(describe(data.state))
        case log.ContainmentProposed():
            verb = "asks to" if data.trust == "approve" else "shadow:"
            told.containment.append(f"{verb} {describe(data.state)}")
        case log.ContainmentDenied():
            told.containment.append("denied, unanswered")
