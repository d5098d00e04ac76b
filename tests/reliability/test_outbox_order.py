"""Reliability 18: transactions commit in another order than they took their row's number; none is skipped."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest
from sqlalchemy import Connection, Engine, NullPool, create_engine, insert, text

from responders.effects import Delivered, Outcome, Retryable
from responders.store import outbox, tables
from responders.store.event_store import Store
from responders.store.migrations import upgrade
from tests.reliability.counts import count

ROWS = count(300, 1_000)
AT_ONCE = 20
LANES = 40
NOW_MS = 1_772_334_000_000

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(300)]


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    """Any number of connections."""
    upgrade(postgres_url)
    engine = create_engine(postgres_url, poolclass=NullPool)
    yield engine
    engine.dispose()


def put_in(connection: Connection, number: int, lane: int) -> int:
    """A row of the outbox, not committed yet; the number the database gave it."""
    row = {
        "effect_key": f"publish:INC-1:{number}",
        "lane": f"INC-{lane}:log",
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
    row_id: int = connection.execute(
        insert(tables.outbox).values(**row).returning(tables.outbox.c.row_id)
    ).scalar_one()
    return row_id


def settle(claimed: outbox.Claimed, outcome: Outcome, connection: Connection) -> bool:
    return outbox.settle(connection, claimed, outcome, NOW_MS)


@pytest.mark.parametrize("seed", range(count(1, 20)))
def test_no_row_is_skipped_whatever_the_order_of_commits(
    seed: int, engine: Engine, postgres_url: str
) -> None:
    chance, store = random.Random(seed), Store.open(postgres_url)
    carried: Counter[int] = Counter()
    cursor = skipped_by_a_cursor = 0

    def carry_out() -> int:
        claims = store.transact(lambda connection: outbox.claim(connection, NOW_MS, 7))
        for each in claims:
            again = chance.random() < 0.05
            outcome = Retryable("busy", after_ms=0) if again else Delivered()
            assert store.transact(partial(settle, each, outcome))
            carried[each.row_id] += not again
        return len(claims)

    for first in range(0, ROWS, AT_ONCE):
        with ExitStack() as stack:
            open_ones = []
            for number in range(first, first + AT_ONCE):
                connection = stack.enter_context(engine.connect())
                open_ones.append((connection, put_in(connection, number, chance.randrange(LANES))))
            chance.shuffle(open_ones)
            for connection, row_id in open_ones:
                connection.commit()
                # What a reader that remembers the greatest number it has seen would never look at.
                skipped_by_a_cursor += row_id < cursor
                cursor = max(cursor, row_id)
                carry_out()
    while carry_out():
        pass
    assert skipped_by_a_cursor > ROWS / 4, "the commits were hardly inverted"
    assert set(carried.values()) == {1}
    assert len(carried) == ROWS
    with store.reading() as connection:
        left = connection.execute(text("SELECT count(*) FROM outbox WHERE status <> 'done'")).scalar_one()
    assert left == 0
    store.close()
