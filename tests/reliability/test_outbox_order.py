"""Reliability 18: transactions commit in another order than they took their row's number, or are taken back;
no row of the outbox is skipped, none is carried out twice, and those of a lane follow each other.

On SQLite writers wait for each other, so numbers and commits have one order; the rest holds on both.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
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
WRITERS = 4
CLAIMERS = 2
TAKEN_BACK = 0.2
BUSY = 0.05
LOOK_EVERY_S = 0.005

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(600)]  # SQLite too belongs to the tests of real parts


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


def statuses(store: Store) -> dict[str, int]:
    """How many rows there are of each."""
    with store.reading() as connection:
        rows = connection.execute(text("SELECT status, count(*) AS number FROM outbox GROUP BY status")).all()
    return {row.status: row.number for row in rows}


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
            again = chance.random() < BUSY
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
    assert statuses(store) == {"done": ROWS}
    store.close()


class TakenBackError(Exception):
    pass


@dataclass
class Traffic:
    """Writers and claimers on one database, each with a store of its own as processes have."""

    url: str
    seed: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    lanes: dict[int, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))
    committed: dict[int, int] = field(default_factory=dict)
    """By row, its lane."""
    tried: list[int] = field(default_factory=list)
    """Rows in the order in which they were carried out, well or not."""
    carried: Counter[int] = field(default_factory=Counter)
    taken_back: Counter[str] = field(default_factory=Counter)
    written: threading.Event = field(default_factory=threading.Event)

    def write(self, writer: int) -> None:
        chance = random.Random(f"{self.seed}/writer/{writer}")
        with closing(Store.open(self.url)) as store:
            for number in range(writer, ROWS, WRITERS):
                lane = chance.randrange(LANES)
                # Who writes for an incident has it locked until the end, and with it its lanes.
                with self.lanes[lane]:
                    while chance.random() < TAKEN_BACK:
                        self._put(store, number, lane, fails=True)
                    self._put(store, number, lane)

    def _put(self, store: Store, number: int, lane: int, *, fails: bool = False) -> None:
        def work(connection: Connection) -> int:
            row_id = put_in(connection, number, lane)
            if fails:
                raise TakenBackError
            return row_id

        with suppress(TakenBackError):
            row_id = store.transact(work)
            with self.lock:
                self.committed[row_id] = lane
            return
        with self.lock:
            self.taken_back["row"] += 1

    def carry_out(self, claimer: int) -> None:
        """Until there is nothing left, and nobody writes any more."""
        chance = random.Random(f"{self.seed}/claimer/{claimer}")
        turns = itertools.count()
        with closing(Store.open(self.url)) as store:
            while True:
                ended = self.written.wait(LOOK_EVERY_S)
                claims = self._claim(store, turns)
                for each in claims:
                    self._try(store, each, chance)
                if ended and not claims and not statuses(store).keys() - {"done"}:
                    return

    def _claim(self, store: Store, turns: Iterator[int]) -> list[outbox.Claimed]:
        """Of the claims that find something the first is taken back, and every fifth after it."""

        def work(connection: Connection) -> list[outbox.Claimed]:
            claims = outbox.claim(connection, NOW_MS, 7)
            if claims and next(turns) % 5 == 0:
                raise TakenBackError
            return claims

        with suppress(TakenBackError):
            return store.transact(work)
        with self.lock:
            self.taken_back["claim"] += 1
        return []

    def _try(self, store: Store, claimed: outbox.Claimed, chance: random.Random) -> None:
        again = chance.random() < BUSY
        with self.lock:
            self.tried.append(claimed.row_id)
            self.carried[claimed.row_id] += not again
        outcome = Retryable("busy", after_ms=0) if again else Delivered()
        assert store.transact(partial(settle, claimed, outcome)), "another one had it too"


@pytest.mark.parametrize("seed", range(count(1, 10)))
def test_no_row_is_skipped_or_carried_twice_whoever_writes_claims_and_takes_back(
    seed: int, database: str
) -> None:
    traffic = Traffic(database, seed)
    with ThreadPoolExecutor(WRITERS + CLAIMERS) as pool:
        claimers = [pool.submit(traffic.carry_out, each) for each in range(CLAIMERS)]
        try:
            list(pool.map(traffic.write, range(WRITERS)))
        finally:
            traffic.written.set()
        for each in claimers:
            each.result()
    assert len(traffic.committed) == ROWS
    assert traffic.carried == dict.fromkeys(traffic.committed, 1), (
        "each row that was committed once, and no other"
    )
    for lane in range(LANES):
        tried = [row for row in traffic.tried if traffic.committed[row] == lane]
        assert tried == sorted(tried), "the rows of a lane one after the other"
    assert traffic.taken_back["row"] > ROWS * TAKEN_BACK / 2, traffic.taken_back
    assert traffic.taken_back["claim"] > 0
    with closing(Store.open(database)) as store:
        assert statuses(store) == {"done": ROWS}
