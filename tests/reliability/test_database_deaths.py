"""Reliability 19: PostgreSQL is killed again and again, SQLite is locked for a minute by a process that does
not go on.

Kafka's offset is never ahead of the database, the responder stays, says past the store that it takes nothing,
and works again when the database does.
"""

from __future__ import annotations

import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.integration.parts.postgres import PostgresServer
from tests.reliability.bus import Bus
from tests.reliability.counts import FULL, count
from tests.reliability.responding import Scene, new_scene

KILLS = count(3, 20)
LOCKED_S = count(8, 60)
"""Not long enough in CI to be paged past, which is in `tests/responders/test_past_the_store.py`."""
PAGED_WITHIN_S = 60.0
BATCH = 3
WORKS_AGAIN_S = 120.0

pytestmark = pytest.mark.timeout(900)


def assert_it_stays(scene: Scene) -> None:
    for responder in scene.responders:
        assert responder.running, f"the responder ended:\n{responder.log_tail()}"


def test_a_postgresql_that_is_killed_is_never_behind_kafka(
    bus: Bus, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    chance = random.Random(19)
    database = postgres_server.url(postgres_server.new_database())
    with new_scene(bus, tmp_path, database) as scene:
        scene.start()
        took = []
        for _ in range(KILLS):
            scene.detect(BATCH)
            time.sleep(chance.uniform(0.0, 0.8))
            postgres_server.kill()
            scene.detect(BATCH)
            time.sleep(chance.uniform(0.2, 2.0))
            assert_it_stays(scene)
            postgres_server.start()
            scene.assert_offsets_are_covered()
            began = time.monotonic()
            scene.until(lambda: scene.done, WORKS_AGAIN_S)
            took.append(time.monotonic() - began)
        print(f"{KILLS} kills; all done again after {', '.join(f'{each:.1f}' for each in sorted(took))} s")
        scene.finish()


@pytest.mark.skipif(not FULL, reason="in full only: CI has it in tests/responders/test_past_the_store.py")
def test_a_postgresql_that_hangs_is_told_past_it(
    bus: Bus, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    database = postgres_server.url(postgres_server.new_database())
    with new_scene(bus, tmp_path, database) as scene:
        scene.start()
        scene.detect(BATCH)
        scene.until(lambda: scene.done)
        with postgres_server.hanging():
            began = time.monotonic()
            scene.detect(BATCH)
            scene.until(scene.slack.told_past_the_store, PAGED_WITHIN_S)
            print(f"hangs; paged after {time.monotonic() - began:.1f} s")
            assert_it_stays(scene)
        scene.until(lambda: scene.done, WORKS_AGAIN_S)
        scene.finish()


def test_a_sqlite_that_another_process_locks_is_waited_for(bus: Bus, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with new_scene(bus, tmp_path, f"sqlite:///{path}") as scene:
        scene.start()
        scene.detect(BATCH)
        scene.until(lambda: scene.done)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            scene.detect(BATCH)
            until = time.monotonic() + LOCKED_S
            while time.monotonic() < until:
                scene.assert_offsets_are_covered()
                assert_it_stays(scene)
                time.sleep(0.5)
            assert len(scene.incidents()) == BATCH, "something was written in spite of the lock"
            told = scene.slack.told_past_the_store()
            assert told or LOCKED_S < 60, "nobody was told in a minute"
            other.execute("ROLLBACK")
        began = time.monotonic()
        scene.until(lambda: scene.done, WORKS_AGAIN_S)
        print(f"locked for {LOCKED_S} s; all done {time.monotonic() - began:.1f} s after")
        scene.until(lambda: all(page.edits for page in told))
        scene.finish()
