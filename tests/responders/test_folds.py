"""An incident folded from where it was last seen is the one folded from its beginning."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, select, update

from responders import actions
from responders.decide import AddNote, PersonActs
from responders.handle import Responder
from responders.incident import fold
from responders.policy import DEFAULT
from responders.store import tables
from responders.store.event_store import Store, current, events_of, load
from responders.store.folds import MOST, Fold, Folds
from tests.responders.world import Clock, detection


class UndoneError(Exception):
    pass


@given(st.lists(st.sampled_from(["note", "undone", "read"]), max_size=12))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_seen_is_what_the_log_says(sqlite_store: Store, steps: list[str]) -> None:
    responder = Responder(sqlite_store, DEFAULT.with_channels("desk"), Clock())
    responder.detection(detection())
    with sqlite_store.reading() as connection:
        key = connection.execute(select(tables.incidents.c.incident_id)).scalar_one()

    def undone(connection: Connection) -> None:
        responder._decide(connection, a_note(), key, responder.clock())
        assert load(connection, key) == fold(events_of(connection, key))
        raise UndoneError

    for step in steps:
        if step == "note":
            actions.note(responder, key, "alice", "looking")
        elif step == "undone":
            with pytest.raises(UndoneError):
                sqlite_store.transact(undone)
        with sqlite_store.reading() as connection:
            assert current(connection, key) == fold(events_of(connection, key))


def a_note() -> PersonActs:
    return PersonActs("alice", AddNote("not kept"))


def test_another_log_under_the_same_id_is_noticed(responder: Responder, clock: Clock) -> None:
    """A store put back from a backup, while the engine goes on."""
    incident = responder.detection(detection())
    assert incident is not None
    key = incident.incident_id
    for text in ("one", "two"):
        actions.note(responder, key, "alice", text)

    def put_back(connection: Connection) -> None:
        events = tables.events.c
        connection.execute(
            delete(tables.events).where(events.incident_id == key, events.version > incident.version)
        )
        connection.execute(update(tables.incidents).values(version=incident.version))

    responder.store.transact(put_back)
    clock.pass_seconds(5)
    assert actions.note(responder, key, "bob", "three").notes == ("three",)
    assert actions.note(responder, key, "bob", "four").notes == ("three", "four")


def test_no_more_are_kept_than_it_says(responder: Responder) -> None:
    incident = responder.detection(detection())
    assert incident is not None
    folds = Folds()
    folds.keep({str(number): Fold(incident, "") for number in range(MOST + 10)})
    assert folds.get("9") is None
    assert folds.get(str(MOST + 9)) is not None
