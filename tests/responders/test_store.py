"""The store on SQLite and PostgreSQL: gapless logs, one incident a cause, epochs, holds, offsets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, insert, select, text

from responders import actions
from responders.decide import ActionRefused
from responders.handle import Responder, Source, offsets_of
from responders.incident import fold
from responders.policy import DEFAULT
from responders.store import projections, tables
from responders.store.database import StoreError, make_engine
from responders.store.event_store import Store, Turn, events_of, mark_seen, seen
from responders.store.migrations import revisions, upgrade
from responders.wanted import due
from schemas.base import epoch_ms
from schemas.control import ControlState, Target
from tests.responders.world import HALT, START, Clock, detection


def test_the_migrations_make_the_tables_the_code_uses(url: str) -> None:
    engine = make_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    engine.dispose()


def test_a_database_says_which_schema_it_has(url: str, tmp_path: Path) -> None:
    present, newest = revisions(url)
    assert present == newest is not None
    assert revisions(f"sqlite:///{tmp_path / 'empty.db'}") == (None, newest)


def test_several_may_migrate_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new' / 'store.db'}"
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upgrade, [url] * 4))
    assert projections.incidents(Store.open(url)) == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "WATCHKEEPER_DATABASE__URL"),
        ("mysql://localhost/x", "sqlite or postgresql"),
        ("sqlite:///:memory:", "needs a file"),
        ("sqlite:////dev/null/store.db", "writable --data-dir"),
        ("postgresql://127.0.0.1:1/none", "check that it runs"),
    ],
)
def test_a_store_that_cannot_be_used_says_what_to_do_in_one_line(url: str, says: str) -> None:
    with pytest.raises(StoreError, match=says) as caught:
        upgrade(url)
    assert "\n" not in str(caught.value)


def _in_threads(count: int, work: Callable[[int], object]) -> None:
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait()
        work(number)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(run, range(count)))


def test_ten_writers_append_to_one_incident_without_a_gap(responder: Responder) -> None:
    incident = responder.detection(detection())
    assert incident is not None

    def write(number: int) -> None:
        for turn in range(10):
            actions.note(responder, incident.incident_id, f"writer-{number}", f"{number}/{turn}")

    _in_threads(10, write)
    with responder.store.reading() as connection:
        log = events_of(connection, incident.incident_id)
    assert [event.version for event in log] == list(range(1, len(log) + 1))
    folded = fold(log)
    assert folded is not None
    assert sorted(folded.notes) == sorted(f"{number}/{turn}" for number in range(10) for turn in range(10))


def test_a_writer_waits_for_the_one_before_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    turn, entered = Turn(), threading.Event()

    def follow() -> None:
        with turn:
            entered.set()

    with ThreadPoolExecutor(1) as pool:
        with turn:
            following = pool.submit(follow)
            assert not entered.wait(0.05)
        following.result(5)
        with turn:
            monkeypatch.setattr(Turn, "PATIENCE_S", 0.01)
            pool.submit(follow).result(5)
            assert not turn._lock.acquire(blocking=False)
    assert turn._lock.acquire(blocking=False)


def test_writers_that_race_open_one_incident_and_ask_for_one_page(responder: Responder) -> None:
    _in_threads(8, lambda number: responder.detection(detection(f"d-{number}")))
    (row,) = projections.incidents(responder.store)
    assert row.detections == 8
    with responder.store.reading() as connection:
        kinds = connection.execute(select(tables.outbox.c.kind)).scalars().all()
    assert kinds.count("Page") == 1


def test_epochs_are_never_used_twice(responder: Responder) -> None:
    def write(number: int) -> None:
        for turn in range(4):
            state = ControlState(mode="throttle", calls_per_minute=1 + number + 10 * turn)
            actions.contain(responder, "billing", state, f"writer-{number}")

    _in_threads(5, write)
    with responder.store.reading() as connection:
        epochs = connection.execute(select(tables.commands.c.epoch)).scalars().all()
        (newest,) = due(connection, epoch_ms(START))
    assert len(epochs) == len(set(epochs)) == 20
    assert newest.epoch == max(epochs)
    assert newest.state.calls_per_minute is not None


def test_an_epoch_is_ahead_of_one_that_a_lost_store_may_have_given(responder: Responder) -> None:
    actions.halt(responder, "billing", "alice")
    with responder.store.reading() as connection:
        (command,) = due(connection, epoch_ms(START))
    assert command.epoch >= epoch_ms(START)


def test_a_redelivered_detection_changes_nothing(responder: Responder) -> None:
    first = responder.detection(detection(), Source("agent.detections", 0, 7))
    assert first is not None
    assert responder.detection(detection(), Source("agent.detections", 0, 7)) is None
    assert projections.incident(responder.store, first.incident_id).version == first.version
    assert offsets_of(responder.store, "agent.detections") == {0: 8}


def test_offsets_go_forward_only_and_only_with_their_decision(responder: Responder) -> None:
    for offset in (3, 5, 4):
        responder.detection(detection(f"d-{offset}"), Source("agent.detections", 1, offset))
    assert offsets_of(responder.store, "agent.detections") == {1: 6}

    def fails(connection: object) -> None:
        raise ActionRefused("no")

    with pytest.raises(ActionRefused):
        responder.store.transact(fails)
    assert offsets_of(responder.store, "agent.detections") == {1: 6}


def test_a_release_leaves_what_another_incident_wants(responder: Responder, clock: Clock) -> None:
    first = responder.detection(detection())
    assert first is not None
    actions.resolve(responder, first.incident_id, "alice")
    clock.pass_seconds(1)
    keyword = ControlState(mode="degrade", ladder="keyword")
    second = responder.detection(detection("d-2", time=clock(), suggested=keyword))
    assert second is not None
    assert second.incident_id != first.incident_id

    def newest() -> ControlState:
        with responder.store.reading() as connection:
            (command,) = due(connection, epoch_ms(clock()))
        return command.state

    assert (newest().mode, newest().ladder) == ("halt", "keyword")
    clock.pass_seconds(1)
    assert len(actions.resume(responder, "default/billing/s-1", "alice")) == 1
    assert newest().mode == "run"
    actions.halt(responder, "default/billing/s-1", "bob")
    assert newest() == HALT


def test_resume_reaches_the_sessions_of_an_agent_but_not_the_global_stop(responder: Responder) -> None:
    responder.detection(detection())
    actions.halt_all(responder, "alice")
    lifted = actions.resume(responder, "billing", "alice")
    assert lifted == (Target(agent="billing", session="s-1"),)
    assert actions.still_held_by(responder, Target(agent="billing")) == (Target(agent="*"),)
    assert actions.still_held_by(responder, Target(tenant="acme", agent="billing")) == ()
    with responder.store.reading() as connection:
        states = {command.target.key: command.state.mode for command in due(connection, epoch_ms(START))}
    assert states == {"default/billing/s-1": "run", "default/*": "halt"}


def test_resume_says_run_even_to_an_agent_that_nobody_here_holds(responder: Responder) -> None:
    assert actions.resume(responder, "billing", "alice") == (), "and that nothing held it"
    with responder.store.reading() as connection:
        (command,) = due(connection, epoch_ms(START))
    assert (command.state.mode, command.role, command.incident_id) == ("run", "operator", None)


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda r: actions.acknowledge(r, "INC-NOPE", "alice"), "no such incident"),
        (lambda r: actions.halt(r, "a//b", "alice"), "is not a target"),
        (lambda r: actions.degrade(r, "billing", "slow", "alice"), "is not a level"),
        (lambda r: projections.incident(r.store, "INC-NOPE"), "no incident INC-NOPE"),
    ],
)
def test_what_is_not_possible_is_refused_in_one_line(
    sqlite_store: Store, act: Callable[[Responder], object], says: str
) -> None:
    with pytest.raises(ActionRefused, match=says):
        act(Responder(sqlite_store, DEFAULT, Clock()))


def test_a_person_may_be_wordy_and_nameless(responder: Responder) -> None:
    words = "because " * 1000
    incident = actions.halt(responder, "billing", "", words)
    actions.note(responder, incident.incident_id, "a" * 1000, words)
    actions.resume(responder, "billing", "alice", words)
    actions.resume(responder, "other", "alice", words)
    resolved = actions.resolve(responder, incident.incident_id, "alice", words)
    assert resolved.resolution == words[:1024]


def test_timers_fire_once_also_after_a_restart(url: str, responder: Responder, clock: Clock) -> None:
    incident = responder.detection(detection())
    assert incident is not None
    assert responder.fire_timers() == 0
    clock.pass_seconds(60)
    again = Responder(Store.open(url), responder.policy, clock)
    assert again.fire_timers() > 0
    assert responder.fire_timers() == 0
    log = projections.incident(responder.store, incident.incident_id).log
    assert [event.type for event in log].count("containment_unconfirmed") == 1
    again.store.close()


def test_an_incident_is_shown_as_it_was_at_any_moment(responder: Responder, clock: Clock) -> None:
    incident = responder.detection(detection())
    assert incident is not None
    clock.pass_seconds(30)
    actions.acknowledge(responder, incident.incident_id.lower(), "alice")
    shown = projections.incident(responder.store, incident.incident_id, START + timedelta(seconds=10))
    assert (shown.state, shown.acknowledged_by) == ("triggered", None)
    assert projections.incident(responder.store, incident.incident_id).state == "acknowledged"
    with pytest.raises(ActionRefused, match="was not open yet"):
        projections.incident(responder.store, incident.incident_id, START - timedelta(seconds=1))


def test_agents_show_what_is_open_and_what_is_ordered(responder: Responder) -> None:
    responder.detection(detection())
    (row,) = projections.agents(responder.store)
    assert (row.agent, row.severity, len(row.open_incidents)) == ("billing", "critical", 1)
    assert [command.state.mode for command in row.commands] == ["halt"]


def test_a_slash_in_a_name_makes_no_two_targets_one(responder: Responder) -> None:
    responder.detection(detection("d-1", agent="a/b", session="c"))
    responder.detection(detection("d-2", agent="a", session="b/c"))
    with responder.store.reading() as connection:
        assert len(due(connection, epoch_ms(START))) == 2


@pytest.mark.postgres
def test_who_is_frozen_in_a_transaction_holds_up_nobody_for_long(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("responders.store.database.IDLE_IN_TRANSACTION_MS", 300)
    upgrade(postgres_url)
    frozen, other = Store.open(postgres_url), Store.open(postgres_url)

    def mark(connection: Connection) -> None:
        mark_seen(connection, "detection:d-1", None, START)

    def freeze(connection: Connection) -> bool:
        if seen(connection, "detection:d-1"):
            return False
        mark(connection)
        other.transact(mark)  # the same row: it waits for this transaction to end
        connection.execute(text("SELECT 1"))
        return True

    assert not frozen.transact(freeze), "it has lost its turn, and sees what the other has done meanwhile"
    frozen.close()
    other.close()


def test_a_locked_database_is_waited_for_and_a_broken_one_said(sqlite_store: Store) -> None:
    def double(connection: Connection) -> None:
        row = {"source_key": "x", "incident_id": None, "time_ms": 0}
        connection.execute(insert(tables.inbox).values(**row))

    sqlite_store.transact(double)
    sqlite_store.transact(lambda connection: connection.execute(text("DROP TABLE events")))
    with pytest.raises(StoreError, match="does not answer"):
        Responder(sqlite_store, DEFAULT, Clock()).detection(detection())
