"""An incident folded from where it was last seen is the one folded from its beginning."""

from __future__ import annotations

from datetime import timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, select, update

from responders import actions
from responders.decide import ActionRefused, AddNote, PersonActs
from responders.handle import Responder
from responders.incident import fold
from responders.policy import DEFAULT
from responders.store import projections, tables
from responders.store.event_store import Store, current, events_of, load
from responders.store.folds import MOST, Fold, Folds
from tests.responders.world import START, Clock, detection


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


@given(st.lists(st.integers(-30, 30), max_size=8), st.integers(-60, 60))
@settings(max_examples=30, deadline=None)
def test_what_was_is_a_beginning_of_the_log_whatever_the_clock_did(steps: list[int], asked: int) -> None:
    clock, store = Clock(), Store.in_memory()
    responder = Responder(store, DEFAULT.with_channels("desk"), clock)
    opened = responder.detection(detection())
    assert opened is not None
    key = opened.incident_id
    for step in steps:
        clock.pass_seconds(step)
        actions.note(responder, key, "alice", "looking")
    moments = sorted([START + timedelta(seconds=asked), START, clock.now])
    with store.reading() as connection:
        log = events_of(connection, key)
        beginnings = [events_of(connection, key, moment) for moment in moments]
    for moment, beginning in zip(moments, beginnings, strict=True):
        assert beginning == log[: len(beginning)]
        assert all(event.time <= moment for event in beginning)
        following = log[len(beginning) :]
        assert not following or following[0].time > moment, "it could have been longer"
        fold(beginning)
    store.close()
    assert sorted(beginnings, key=len) == beginnings, "what had happened has happened ever after"


def test_an_incident_is_shown_as_it_was_though_the_clock_went_back(
    responder: Responder, clock: Clock
) -> None:
    opened = responder.detection(detection())
    assert opened is not None
    for step, text in ((60, "ahead"), (-50, "put right"), (100, "later")):
        clock.pass_seconds(step)
        actions.note(responder, opened.incident_id, "alice", text)

    def notes(seconds: float) -> list[str]:
        at = START + timedelta(seconds=seconds)
        return projections.incident(responder.store, opened.incident_id, at).notes

    assert [notes(at) for at in (0, 30, 60, 110)] == [
        [],
        [],
        ["ahead", "put right"],
        ["ahead", "put right", "later"],
    ]
    before = (START - timedelta(minutes=1)).astimezone(timezone(timedelta(hours=2)))
    with pytest.raises(ActionRefused, match="was not open yet at 2026-03-01T02:59:00Z"):
        projections.incident(responder.store, opened.incident_id, before)
