"""Rows are claimed by status, one of a lane at a time, for a lease that is fenced; none is skipped."""

from __future__ import annotations

import random
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select

from responders.effects import Delivered, Permanent, Retryable
from responders.handle import Responder
from responders.store import outbox, tables
from responders.store.event_store import Store, insert_new
from schemas.base import epoch_ms
from tests.responders.world import START, Clock, detection

NOW_MS = epoch_ms(START)


def _row(number: int, lane: str = "", row_id: int | None = None) -> dict[str, object]:
    row: dict[str, object] = {
        "effect_key": f"publish:INC-1:{number}",
        "lane": lane or f"lane-{number}",
        "kind": "PublishIncidentEvents",
        "effect": f'{{"incident_id": "INC-1", "first": {number}, "last": {number}}}',
        "status": "pending",
        "attempts": 0,
        "in_doubt": False,
        "not_before_ms": NOW_MS,
        "lease_until_ms": 0,
        "token": 0,
        "created_ms": NOW_MS,
    }
    return row if row_id is None else row | {"row_id": row_id}


def _claim(store: Store, now_ms: int = NOW_MS, limit: int = 100) -> list[outbox.Claimed]:
    return store.transact(lambda connection: outbox.claim(connection, now_ms, limit))


def _settle(store: Store, claimed: outbox.Claimed, outcome: object, now_ms: int = NOW_MS) -> bool:
    return store.transact(lambda connection: outbox.settle(connection, claimed, outcome, now_ms))


def test_rows_that_commit_in_inverted_order_are_all_carried_out(store: Store) -> None:
    numbers = list(range(1, 201))
    random.Random(7).shuffle(numbers)
    done: list[int] = []
    for start in range(0, len(numbers), 20):
        chunk = numbers[start : start + 20]
        store.transact(
            lambda connection, chunk=chunk: connection.execute(
                insert(tables.outbox), [_row(number, row_id=number) for number in chunk]
            )
        )
        for claimed in _claim(store):
            done.append(claimed.row_id)
            assert _settle(store, claimed, Delivered())
    assert sorted(done) == sorted(numbers)


def test_a_lane_goes_one_by_one_and_in_order(store: Store) -> None:
    rows = [_row(number, lane="INC-1:log") for number in range(3)]
    store.transact(lambda connection: connection.execute(insert(tables.outbox), rows))
    seen = []
    for _ in range(3):
        (claimed,) = _claim(store)
        assert _claim(store) == []
        seen.append(claimed.effect.first)
        _settle(store, claimed, Delivered())
    assert seen == [0, 1, 2]
    assert _claim(store) == []


def test_a_destination_that_is_full_gets_nothing_and_the_others_do(store: Store) -> None:
    lanes = ("INC-1:slack:#a_b", "INC-2:slack:#axb", "INC-3:webhook:50%", "INC-4:webhook:500", "INC-5:log")
    rows = [_row(number, lane=lane) for number, lane in enumerate(lanes)]
    store.transact(lambda connection: connection.execute(insert(tables.outbox), rows))
    full = ("slack:#a_b", "webhook:50%", "log")
    claimed = store.transact(lambda connection: outbox.claim(connection, NOW_MS, without=full))
    assert [each.effect.first for each in claimed] == [1, 3]
    assert [each.effect.first for each in _claim(store)] == [0, 2, 4]


def test_a_lost_lease_is_taken_over_in_doubt_and_fenced_off(store: Store) -> None:
    store.transact(lambda connection: connection.execute(insert(tables.outbox), [_row(1)]))
    (frozen,) = _claim(store)
    later = NOW_MS + outbox.LEASE_MS + 1
    (taken,) = _claim(store, later)
    assert (frozen.in_doubt, taken.in_doubt, taken.attempts) == (False, True, 2)
    assert not _settle(store, frozen, Delivered())
    assert _settle(store, taken, Delivered())


def test_doubt_lasts_until_an_outcome_is_certain(store: Store) -> None:
    store.transact(lambda connection: connection.execute(insert(tables.outbox), [_row(1)]))
    doubts = []
    now_ms = NOW_MS
    for outcome in (
        Retryable("reset", in_doubt=True),
        Retryable("limited", after_ms=5_000),
        Retryable("down"),
        Permanent("no"),
    ):
        (claimed,) = _claim(store, now_ms)
        doubts.append(claimed.in_doubt)
        _settle(store, claimed, outcome, now_ms)
        assert _claim(store, now_ms + 1) == []
        now_ms += 60_000
    assert doubts == [False, True, False, False]
    assert _claim(store, now_ms) == []


@given(order=st.permutations(range(4)), lost=st.sets(st.integers(0, 3)))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_lost_is_claimed_again(sqlite_store: Store, order: list[int], lost: set[int]) -> None:
    sqlite_store.transact(lambda connection: connection.execute(delete(tables.outbox)))
    for number in order:
        sqlite_store.transact(
            lambda connection, number=number: insert_new(connection, tables.outbox, **_row(number))
        )
    for claimed in _claim(sqlite_store):
        if claimed.effect.first not in lost:
            _settle(sqlite_store, claimed, Delivered())
    again = _claim(sqlite_store, NOW_MS + outbox.LEASE_MS + 1)
    assert {claimed.effect.first for claimed in again} == lost


def test_an_effect_is_put_in_once(responder: Responder, clock: Clock) -> None:
    responder.detection(detection())
    clock.now += timedelta(seconds=1)
    responder.detection(detection())
    with responder.store.reading() as connection:
        keys = connection.execute(select(tables.outbox.c.effect_key)).scalars().all()
    assert len(keys) == len(set(keys)) == 2
