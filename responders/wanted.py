"""The wanted state of every target in the store: who holds it, its newest command, and how far that has come.

A target's command is not a message to be sent once but a state to be confirmed: `due` gives it again and
again, ever more slowly, until an enforcement point confirms it or a newer one takes its place.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, exists, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from responders.containment import RUN, combine, scope_of
from responders.effects import Hold, Release, Role
from responders.store import tables
from schemas.base import from_epoch_ms
from schemas.control import EVERY_AGENT, EVERY_TENANT, ControlState, Target

BY_HAND = "-"
"""Stands for the incident of a command that belongs to none."""


@dataclass(frozen=True, slots=True)
class WantedCommand:
    """The newest command of a target. ``published`` counts how often the broker has taken it."""

    target: Target
    epoch: int
    command_id: str
    state: ControlState
    reason: str
    incident_id: str | None
    role: Role
    issued_ms: int
    published: int

    def fields(self, issuer: str) -> dict[str, object]:
        """What is signed, as plain JSON: the same on every publication, byte for byte."""
        return {
            "command_id": self.command_id,
            "epoch": self.epoch,
            "target": self.target.model_dump(mode="json", exclude_none=True),
            "state": self.state.model_dump(mode="json", exclude_none=True),
            "reason": self.reason,
            **({} if self.incident_id is None else {"incident_id": self.incident_id}),
            "issued_at": from_epoch_ms(self.issued_ms).isoformat().replace("+00:00", "Z"),
            "issuer": issuer,
        }


@dataclass(frozen=True, slots=True)
class Issued:
    """A command that was issued here. ``is_newest``: no other has taken its place."""

    target: Target
    epoch: int
    is_newest: bool


def next_epoch(connection: Connection, target: Target, now_ms: int) -> int:
    """An epoch greater than all before it, taken: the target is locked until the transaction ends.

    Epochs start at the clock's milliseconds, so that a store that was lost and begun anew is still obeyed.
    """
    scope = scope_of(target)
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = {
        "scope": scope,
        "tenant": target.tenant,
        "agent": target.agent,
        "session": target.session,
        "epoch": 0,
        "status": "confirmed",
        "publish_at_ms": 0,
        "published": 0,
    }
    connection.execute(dialect.insert(tables.targets).values(**row).on_conflict_do_nothing())
    is_it = tables.targets.c.scope == scope
    last: int = connection.execute(select(tables.targets.c.epoch).where(is_it).with_for_update()).scalar_one()
    epoch = max(last + 1, now_ms)
    connection.execute(update(tables.targets).where(is_it).values(epoch=epoch))
    return epoch


def hold(connection: Connection, effect: Hold, now_ms: int) -> None:
    """The incident wants the state: the target's command becomes the strictest of what all incidents want."""
    scope, dialect = scope_of(effect.target), connection.dialect.name
    upsert = (postgresql if dialect == "postgresql" else sqlite).insert(tables.holds)
    state = effect.state.model_dump_json(exclude_none=True)
    connection.execute(
        upsert.values(scope=scope, incident_id=effect.incident_id, state=state).on_conflict_do_update(
            index_elements=["scope", "incident_id"], set_={"state": state}
        )
    )
    _issue(connection, effect, now_ms)


def release(connection: Connection, effect: Release, now_ms: int) -> None:
    """The incident wants nothing any more; what the other incidents want of the target stays."""
    connection.execute(
        delete(tables.holds).where(
            tables.holds.c.scope == scope_of(effect.target),
            tables.holds.c.incident_id == (effect.incident_id or BY_HAND),
        )
    )
    _issue(connection, effect, now_ms)


def _issue(connection: Connection, effect: Hold | Release, now_ms: int) -> None:
    scope = scope_of(effect.target)
    held = connection.execute(select(tables.holds.c.state).where(tables.holds.c.scope == scope)).scalars()
    state = combine([ControlState.model_validate_json(each) for each in held])
    connection.execute(
        insert(tables.commands).values(
            command_id=effect.command_id,
            scope=scope,
            epoch=effect.epoch,
            incident_id=effect.incident_id,
            role=effect.role,
            state=state.model_dump_json(exclude_none=True),
            reason=effect.reason,
            issued_ms=now_ms,
        )
    )
    # A later command of the same transaction has the greater epoch.
    connection.execute(
        update(tables.targets)
        .where(tables.targets.c.scope == scope, tables.targets.c.epoch <= effect.epoch)
        .values(command_id=effect.command_id, status="wanted", publish_at_ms=now_ms, published=0)
    )


_NEWEST = select(tables.targets, tables.commands).join(
    tables.commands, tables.commands.c.command_id == tables.targets.c.command_id
)


def due(connection: Connection, now_ms: int, limit: int = 100) -> list[WantedCommand]:
    """The commands that are not confirmed and whose next publication is due, new ones first."""
    rows = connection.execute(
        _NEWEST.where(tables.targets.c.status != "confirmed", tables.targets.c.publish_at_ms <= now_ms)
        .order_by(tables.targets.c.published, tables.targets.c.publish_at_ms)
        .limit(limit)
    )
    return [_command(row) for row in rows.mappings()]


def newest(connection: Connection) -> list[WantedCommand]:
    """The newest command of every target, whatever became of it."""
    return [_command(row) for row in connection.execute(_NEWEST).mappings()]


def current(connection: Connection, tenant: str, agent: str) -> list[WantedCommand]:
    """The newest command of the agent and of each of its sessions, whatever became of it."""
    rows = connection.execute(
        _NEWEST.where(tables.targets.c.tenant == tenant, tables.targets.c.agent == agent)
    )
    return [_command(row) for row in rows.mappings()]


def _command(row: Any) -> WantedCommand:
    return WantedCommand(
        target=_target(row),
        epoch=row[tables.commands.c.epoch],
        command_id=row[tables.commands.c.command_id],
        state=ControlState.model_validate_json(row[tables.commands.c.state]),
        reason=row[tables.commands.c.reason],
        incident_id=row[tables.commands.c.incident_id],
        role=row[tables.commands.c.role],
        issued_ms=row[tables.commands.c.issued_ms],
        published=row[tables.targets.c.published],
    )


def _target(row: Any) -> Target:
    return Target(
        tenant=row[tables.targets.c.tenant],
        agent=row[tables.targets.c.agent],
        session=row[tables.targets.c.session],
    )


def published(connection: Connection, command: WantedCommand, again_at_ms: int) -> None:
    """The broker has the command. Says nothing about a newer one."""
    connection.execute(
        update(tables.targets)
        .where(
            tables.targets.c.command_id == command.command_id,
            tables.targets.c.status != "confirmed",
        )
        .values(status="published", publish_at_ms=again_at_ms, published=tables.targets.c.published + 1)
    )


def on_the_bus(connection: Connection, target: Target) -> bool:
    """Whether the broker has taken the newest command of exactly this target."""
    status = connection.execute(
        select(tables.targets.c.status).where(tables.targets.c.scope == scope_of(target))
    ).scalar_one_or_none()
    return status in ("published", "confirmed")


def confirm(connection: Connection, command_id: str) -> None:
    """An enforcement point obeys the command: it need not be published again."""
    connection.execute(
        update(tables.targets).where(tables.targets.c.command_id == command_id).values(status="confirmed")
    )


def doubt(connection: Connection, target: Target, again_at_ms: int) -> None:
    """What is wanted of the target is not what everybody hears or obeys: it is published again."""
    is_it = (tables.targets.c.scope == scope_of(target), tables.targets.c.status == "confirmed")
    connection.execute(
        update(tables.targets).where(*is_it).values(status="published", publish_at_ms=again_at_ms)
    )


def refusing(connection: Connection, command_id: str) -> tuple[str, str | None] | None:
    """An enforcement point that has refused the command and not obeyed it since, and why."""
    answers, obeyed = tables.acks, tables.acks.alias()
    since = exists().where(
        obeyed.c.command_id == command_id,
        obeyed.c.enforcement_point == answers.c.enforcement_point,
        obeyed.c.result == "applied",
    )
    row = connection.execute(
        select(answers.c.enforcement_point, answers.c.reason)
        .where(answers.c.command_id == command_id, answers.c.result == "refused", ~since)
        .order_by(answers.c.time_ms, answers.c.enforcement_point)
        .limit(1)
    ).first()
    return None if row is None else (row.enforcement_point, row.reason)


def issued(connection: Connection, command_id: str) -> Issued | None:
    """The command with this id; None for one that was never issued here."""
    row = (
        connection.execute(
            select(tables.targets, tables.commands)
            .join(tables.commands, tables.commands.c.scope == tables.targets.c.scope)
            .where(tables.commands.c.command_id == command_id)
        )
        .mappings()
        .first()
    )
    if row is None:
        return None
    is_newest = row[tables.targets.c.command_id] == command_id
    return Issued(_target(row), row[tables.commands.c.epoch], is_newest)


def newer_than(connection: Connection, command: WantedCommand) -> WantedCommand | None:
    """What has taken the command's place by now."""
    is_newer = (tables.targets.c.scope == scope_of(command.target), tables.commands.c.epoch > command.epoch)
    row = connection.execute(_NEWEST.where(*is_newer)).mappings().first()
    return None if row is None else _command(row)


def let_run_at(connection: Connection, target: Target) -> datetime | None:
    """When a person last let the target, or its whole agent, run again."""
    its = tables.commands.c
    scopes = {scope_of(target), scope_of(target.model_copy(update={"session": None}))}
    runs = RUN.model_dump_json(exclude_none=True)
    last_ms: int | None = connection.execute(
        select(func.max(its.issued_ms)).where(
            its.scope.in_(scopes), its.role == "operator", its.state == runs
        )
    ).scalar()
    return None if last_ms is None else from_epoch_ms(last_ms)


def target_of_scope(scope: str) -> Target:
    """The target that `scope_of` made ``scope`` from."""
    tenant, agent, session = json.loads(scope)
    return Target(tenant=tenant, agent=agent, session=session)


def holders(connection: Connection, target: Target) -> list[tuple[str, Target]]:
    """Which incident holds what of the target or of its sessions."""
    inner = [tables.targets.c.session == target.session] if target.session is not None else []
    rows = connection.execute(
        select(tables.holds.c.incident_id, tables.targets)
        .join(tables.targets, tables.targets.c.scope == tables.holds.c.scope)
        .where(tables.targets.c.tenant == target.tenant, tables.targets.c.agent == target.agent, *inner)
        .order_by(tables.holds.c.incident_id, tables.holds.c.scope)
    )
    return [(row[tables.holds.c.incident_id], _target(row)) for row in rows.mappings()]


def halted_by(connection: Connection, target: Target) -> list[str]:
    """The incidents that want the target to stop: it alone, its whole agent, or everybody with it; what
    comes closest to it first.
    """
    of_agent = target.model_copy(update={"session": None})
    everybody = of_agent.model_copy(update={"agent": EVERY_AGENT})
    wider = (target, of_agent, everybody, everybody.model_copy(update={"tenant": EVERY_TENANT}))
    scopes = [scope_of(each) for each in wider]
    rows = connection.execute(
        select(tables.holds).where(tables.holds.c.scope.in_(scopes)).order_by(tables.holds.c.incident_id)
    ).all()
    halting = [row for row in rows if ControlState.model_validate_json(row.state).mode == "halt"]
    nearest = sorted(halting, key=lambda row: scopes.index(row.scope))
    return list(dict.fromkeys(row.incident_id for row in nearest if row.incident_id != BY_HAND))


def incidents_holding(connection: Connection, target: Target) -> list[str]:
    """The incidents that hold exactly this target."""
    rows = connection.execute(
        select(tables.holds.c.incident_id).where(tables.holds.c.scope == scope_of(target))
    )
    return [row.incident_id for row in rows if row.incident_id != BY_HAND]
