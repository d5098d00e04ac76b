"""Reading the store: the list of incidents, one incident at any moment, what is known of each agent.

Everything here can be told from the log; `responders.store.rebuild` does so for what is kept for speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field
from sqlalchemy import Connection, func, select

from responders import wanted
from responders.decide import ActionRefused
from responders.incident import Containment, Incident, PageStatus, Related, fold
from responders.store import event_store, tables
from responders.store.event_store import Store
from schemas.base import Contract, Utc, from_epoch_ms
from schemas.control import ControlState, Target
from schemas.detection import Detection, Severity
from schemas.incident import Actor, IncidentEvent


class ApprovalView(Contract):
    """An order that waits for a person's yes or no. ``until`` is when it counts as unanswered, and
    ``unanswered_at`` when it did: a yes is taken after that too.
    """

    target: Target
    proposal: ControlState
    proposed_at: Utc
    until: Utc | None
    unanswered_at: Utc | None


class IncidentRow(Contract):
    """One incident in the list. ``approvals`` is what it asks a person while it is open."""

    incident_id: str
    version: int
    state: Literal["triggered", "acknowledged", "mitigated", "resolved"]
    severity: Severity
    containment: Literal["none", "requested", "applied", "verified", "disobeyed", "released"]
    tenant: str
    agent: str
    session: str | None
    headline: str
    summary: str
    opened_at: Utc
    updated_at: Utc
    resolved_at: Utc | None
    detections: int
    approvals: list[ApprovalView]


class ContainmentView(Contract):
    """The proof chain of one target, each step with its time."""

    target: Target
    wanted: ControlState
    reason: str
    state: str
    proposed: str | None
    proposal: ControlState | None
    proposed_at: Utc | None
    answer_until: Utc | None
    denied_at: Utc | None
    denied_by: str | None
    unanswered_at: Utc | None
    epoch: int | None
    command_id: str | None
    enforcement_point: str | None
    refusal: str | None
    undeliverable: str | None
    residual: int | None
    residual_named: dict[str, int]
    requested_at: Utc | None
    issued_at: Utc | None
    delivered_at: Utc | None
    undeliverable_at: Utc | None
    applied_at: Utc | None
    unconfirmed_at: Utc | None
    refused_at: Utc | None
    verified_at: Utc | None
    disobeyed_at: Utc | None
    released_at: Utc | None
    seconds_to_applied: Annotated[float, Field(ge=0)] | None


class PageView(Contract):
    page: str
    channel: str
    headline: str
    state: Literal["requested", "delivered", "failed"]
    requested_at: Utc
    delivered_at: Utc | None
    reason: str | None


class RelatedView(Contract):
    """Another incident that this one stands for."""

    incident_id: str
    agent: str
    headline: str


class IncidentView(Contract):
    """One incident in full, as it was after the last event of ``log``."""

    incident_id: str
    version: int
    state: Literal["triggered", "acknowledged", "mitigated", "resolved"]
    severity: Severity
    containment: str
    tenant: str
    agent: str
    session: str | None
    agents: list[str]
    summary: str
    onset: Utc
    opened_at: Utc
    opened_by: Actor
    updated_at: Utc
    acknowledged_by: str | None
    acknowledged_at: Utc | None
    mitigated_at: Utc | None
    resolved_by: str | None
    resolved_at: Utc | None
    resolution: str
    false_alarm: bool
    merged_into: str | None
    kin: list[str]
    absorbed: list[RelatedView]
    listed: list[RelatedView]
    part: str | None
    silenced_until: Utc | None
    escalations: int
    notes: list[str]
    detections: list[Detection]
    containments: list[ContainmentView]
    pages: list[PageView]
    log: list[IncidentEvent]


class AgentRow(Contract):
    """What the responder knows of an agent: its open incidents, and the newest command of each of its
    targets.
    """

    tenant: str
    agent: str
    open_incidents: list[str]
    severity: Severity | None
    commands: list[AgentCommand]


class AgentCommand(Contract):
    target: Target
    state: ControlState
    epoch: int
    reason: str
    incident_id: str | None
    issued_at: Utc


def incidents(store: Store, open_only: bool = False, limit: int = 200) -> list[IncidentRow]:
    """The newest incidents first. Raises StoreError."""
    row = tables.incidents
    counted = (
        select(tables.inbox.c.incident_id, func.count().label("detections"))
        .group_by(tables.inbox.c.incident_id)
        .subquery()
    )
    statement = (
        select(row, func.coalesce(counted.c.detections, 0).label("detections"))
        .outerjoin(counted, counted.c.incident_id == row.c.incident_id)
        .order_by(row.c.opened_ms.desc(), row.c.incident_id)
        .limit(limit)
    )
    if open_only:
        statement = statement.where(row.c.state != "resolved")
    with store.reading() as connection:
        rows = connection.execute(statement).mappings().all()
        asking = _asking(connection, [each["incident_id"] for each in rows if each["state"] != "resolved"])
        return [_row(each, asking.get(each["incident_id"], [])) for each in rows]


def _asking(connection: Connection, incident_ids: Sequence[str]) -> dict[str, list[ApprovalView]]:
    """What each of these incidents asks. Few ever ask anything: only those are folded."""
    log = tables.events.c
    proposing = (
        select(log.incident_id)
        .where(log.incident_id.in_(incident_ids), log.type == "containment_proposed")
        .distinct()
    )
    found = {}
    for incident_id in connection.execute(proposing).scalars().all():
        folded = event_store.current(connection, incident_id)
        assert folded is not None
        found[incident_id] = [
            ApprovalView(
                target=each.target,
                proposal=each.proposal,
                proposed_at=each.proposed_at,
                until=each.answer_until,
                unanswered_at=each.unanswered_at,
            )
            for each in folded.containments.values()
            if each.awaited and each.proposal is not None and each.proposed_at is not None
        ]
    return found


def _row(row: Any, approvals: list[ApprovalView]) -> IncidentRow:
    resolved_ms = row["resolved_ms"]
    return IncidentRow(
        approvals=approvals,
        **{name: row[name] for name in IncidentRow.model_fields if name in row},
        opened_at=from_epoch_ms(row["opened_ms"]),
        updated_at=from_epoch_ms(row["updated_ms"]),
        resolved_at=None if resolved_ms is None else from_epoch_ms(resolved_ms),
    )


def incident(store: Store, incident_id: str, at: datetime | None = None) -> IncidentView:
    """One incident with its log, as it is or as it was at a moment.

    Raises:
        ActionRefused: there is none with this id, or it was not open yet.
        StoreError: the database does not answer.
    """
    incident_id = incident_id.strip().upper()
    with store.reading() as connection:
        log = event_store.events_of(connection, incident_id, at)
        known = bool(log) or bool(event_store.events_of(connection, incident_id))
    folded = fold(log)
    if folded is None:
        why = (
            f"{incident_id} was not open yet at {at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
            if known and at
            else ""
        )
        raise ActionRefused(
            why or f"there is no incident {incident_id}: list them with watchkeeper incidents"
        )
    return view(folded, log)


def view(folded: Incident, log: list[IncidentEvent]) -> IncidentView:
    """An incident and its log as one document."""
    return IncidentView(
        incident_id=folded.incident_id,
        version=folded.version,
        state=folded.state,
        severity=folded.severity,
        containment=folded.containment,
        tenant=folded.tenant,
        agent=folded.agent,
        session=folded.session,
        agents=list(folded.agents),
        summary=folded.summary,
        onset=folded.onset,
        opened_at=folded.opened_at,
        opened_by=folded.opened_by,
        updated_at=folded.updated_at,
        acknowledged_by=folded.acknowledged_by,
        acknowledged_at=folded.acknowledged_at,
        mitigated_at=folded.mitigated_at,
        resolved_by=folded.resolved_by,
        resolved_at=folded.resolved_at,
        resolution=folded.resolution,
        false_alarm=folded.false_alarm,
        merged_into=folded.merged_into,
        kin=list(folded.kin),
        absorbed=[_related(each) for each in folded.absorbed],
        listed=[_related(each) for each in folded.listed],
        part=folded.part,
        silenced_until=folded.silenced_until,
        escalations=folded.escalations,
        notes=list(folded.notes),
        detections=list(folded.detections),
        containments=[_containment(each) for each in folded.containments.values()],
        pages=[_page(each) for each in folded.pages.values()],
        log=log,
    )


def _related(each: Related) -> RelatedView:
    return RelatedView(incident_id=each.incident_id, agent=each.agent, headline=each.headline)


def _containment(held: Containment) -> ContainmentView:
    took = None
    if held.issued_at is not None and held.applied_at is not None:
        took = max((held.applied_at - held.issued_at).total_seconds(), 0.0)
    fields = {name: getattr(held, name) for name in ContainmentView.model_fields if name not in _OF_THE_VIEW}
    return ContainmentView(**fields, residual_named=dict(held.residual_named), seconds_to_applied=took)


_OF_THE_VIEW: Final = frozenset({"seconds_to_applied", "residual_named"})


def _page(status: PageStatus) -> PageView:
    return PageView(**{name: getattr(status, name) for name in PageView.model_fields})


def agents(store: Store) -> list[AgentRow]:
    """Every agent with an incident or a command, by name. Raises StoreError."""
    row, target = tables.incidents.c, tables.targets.c
    with store.reading() as connection:
        involved = connection.execute(select(row.tenant, row.agent).distinct()).all()
        commanded = connection.execute(select(target.tenant, target.agent).distinct()).all()
        names = sorted({(each.tenant, each.agent) for each in (*involved, *commanded)})
        return [_agent(connection, tenant, agent) for tenant, agent in names]


def _agent(connection: Connection, tenant: str, agent: str) -> AgentRow:
    row = tables.incidents.c
    rows = connection.execute(
        select(row.incident_id, row.severity)
        .where(row.tenant == tenant, row.agent == agent, row.state != "resolved")
        .order_by(row.opened_ms)
    ).all()
    severities = {each.severity for each in rows}
    commands = wanted.current(connection, tenant, agent)
    return AgentRow(
        tenant=tenant,
        agent=agent,
        open_incidents=[each.incident_id for each in rows],
        severity=next((each for each in _WORST_FIRST if each in severities), None),
        commands=[
            AgentCommand(
                target=each.target,
                state=each.state,
                epoch=each.epoch,
                reason=each.reason,
                incident_id=each.incident_id,
                issued_at=from_epoch_ms(each.issued_ms),
            )
            for each in commands
        ],
    )


_WORST_FIRST: tuple[Severity, ...] = ("critical", "warning", "info")
