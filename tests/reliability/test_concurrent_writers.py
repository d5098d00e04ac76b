"""Reliability 17: ten writers append to one incident, from several processes: no gap, and nothing lost."""

from __future__ import annotations

import itertools
import multiprocessing
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from responders import actions
from responders.handle import Responder
from responders.incident import fold
from responders.policy import DEFAULT
from responders.store import tables
from responders.store.event_store import Store, events_of, projection_of
from responders.store.rebuild import rebuild
from tests.reliability.counts import count
from tests.responders.world import detection

WRITERS = 10
PROCESSES = 5
APPENDS = count(10, 100)
POLICY = DEFAULT.with_channels("desk")

# Both with the tests of the real parts: processes take long to start.
pytestmark = [pytest.mark.postgres, pytest.mark.timeout(600)]


def write(url: str, incident_id: str, writers: range, begin: float) -> None:
    """One process: its writers append by turns with all the others, from the same moment on."""
    store = Store.open(url)

    def append(writer: int) -> None:
        time.sleep(max(0.0, begin - time.time()))
        for number in range(APPENDS):
            actions.note(Responder(store, POLICY), incident_id, f"writer-{writer}", f"{writer}/{number}")

    with ThreadPoolExecutor(len(writers)) as pool:
        list(pool.map(append, writers))
    store.close()


def test_ten_writers_leave_no_gap_and_lose_nothing(database: str) -> None:
    store = Store.open(database)
    opened = Responder(store, POLICY).detection(detection())
    assert opened is not None
    each, begin = WRITERS // PROCESSES, time.time() + 5
    spawn = multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=write, args=(database, opened.incident_id, range(first, first + each), begin))
        for first in range(0, WRITERS, each)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    with store.reading() as connection:
        log = events_of(connection, opened.incident_id)
        row = connection.execute(select(tables.incidents)).mappings().one()
        published = connection.execute(select(tables.outbox.c.effect_key)).scalars().all()
    assert [event.version for event in log] == list(range(1, len(log) + 1))
    folded = fold(log)
    assert folded is not None
    assert Counter(folded.notes) == Counter(f"{w}/{n}" for w in range(WRITERS) for n in range(APPENDS))
    for writer in range(WRITERS):
        own = [note for note in folded.notes if note.startswith(f"{writer}/")]
        assert own == [f"{writer}/{number}" for number in range(APPENDS)], "one writer's order"
    assert dict(row) == projection_of(folded)
    assert len(set(published)) == len(published) == WRITERS * APPENDS + 2, (
        "each append is published, and a page"
    )
    assert not any(rebuild(store).values())
    writers = [event.actor.name for event in log if event.type == "note"]
    turns = sum(one != other for one, other in itertools.pairwise(writers))
    assert turns > WRITERS, "they wrote one after the other, not at once"
    store.close()
