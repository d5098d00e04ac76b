"""Reliability 15: of two responders on one store one is frozen; the other takes over within 15 s, and nothing
is lost or there twice, also when the first wakes again.

SQLite has no way round one that is frozen in a transaction: the other then says so past the store, which is
in `test_database_deaths`. Here it is frozen outside of one.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from responders.store.database import sqlite_file
from tests.reliability.bus import Bus
from tests.reliability.counts import count
from tests.reliability.responding import Scene, new_scene
from tests.reliability.worker import StreamWorker

FROZEN_S = count(12, 60)
TAKEOVER_S = count(45, 15)
"""CI's machines are busy with other things; less than the minute for which SQLite waits for a lock."""
BATCH = 8
FROZEN_MID_REQUEST = 1
"""What may be there twice: a request that was under way, and that Slack got only after the thaw."""
AS_SHIPPED: dict[str, Any] = {"KAFKA__SESSION_TIMEOUT_MS": 6_000, "KAFKA__REBALANCE_TIMEOUT_MS": 3_000}
"""What other tests make shorter is part of how long a takeover takes."""

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(600)]  # SQLite too belongs to the tests of real parts


def is_free(store: Path) -> bool:
    """Whether nobody is in a writing transaction."""
    with closing(sqlite3.connect(store, timeout=0, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        connection.execute("ROLLBACK")
        return True


def freeze(responder: StreamWorker, where: Callable[[], bool]) -> None:
    """At a moment at which ``where`` is true of the responder that stands still."""
    chance = random.Random(responder.pid)
    while True:
        responder.signal(signal.SIGSTOP)
        # It has stopped when all its threads have.
        os.waitid(os.P_PID, responder.pid, os.WSTOPPED)
        if where():
            return
        responder.signal(signal.SIGCONT)
        time.sleep(chance.uniform(0.0, 0.05))


def frozen_at_a_post(scene: Scene, which: int) -> threading.Event:
    """Set once responder `which` is frozen: in the middle of a page that Slack has accepted, and has not
    answered; on SQLite not in a transaction.
    """
    store, done = sqlite_file(scene.database), threading.Event()

    def look(method: str) -> None:
        if method == "chat.postMessage" and not done.is_set():
            freeze(scene.responders[which], lambda: store is None or is_free(store))
            done.set()

    scene.slack.on_accepted = look
    return done


def late_s(scene: Scene, agents: list[str]) -> dict[str, float]:
    """By agent, how long after its detection was on the bus its order was heard; those not heard are left
    out."""
    heard = {
        command["target"]["agent"]: scene.gates.heard_s[command_id]
        for command_id, command in scene.gates.heard.items()
    }
    return {agent: heard[agent] - scene.sent_s[agent] for agent in agents if agent in heard}


def paged(scene: Scene) -> set[str]:
    """The agents whose page is known to be delivered."""
    return {
        each.agent
        for each in scene.incidents()
        if any(page.state == "delivered" for page in each.pages.values())
    }


@pytest.mark.parametrize("seed", range(count(1, 5)))
def test_a_frozen_responder_is_taken_over_and_wakes_to_nothing(
    seed: int, bus: Bus, database: str, tmp_path: Path
) -> None:
    with new_scene(bus, tmp_path, database, responders=2, **AS_SHIPPED) as scene:
        scene.start()
        scene.detect(BATCH)
        scene.until(lambda: scene.done)
        done = frozen_at_a_post(scene, seed % 2)
        began = time.monotonic()
        first = scene.detect(BATCH)
        scene.until(done.is_set)
        frozen_at = time.monotonic()
        scene.slack.on_accepted = lambda _: None
        second = scene.detect(BATCH)
        scene.until(lambda: paged(scene) >= {*first, *second} and len(late_s(scene, second)) == BATCH)
        takeover_s = time.monotonic() - frozen_at
        print(f"frozen after {frozen_at - began:.1f} s, all paged and ordered {takeover_s:.1f} s later")
        assert takeover_s <= TAKEOVER_S
        time.sleep(max(0.0, FROZEN_S - takeover_s))
        scene.responders[seed % 2].signal(signal.SIGCONT)
        scene.detect(BATCH)
        scene.detect_again(scene.sent)
        scene.finish(at_most_twice=FROZEN_MID_REQUEST)
