"""Reliability 14: a responder is killed at seeded points; nothing is lost, and nothing is there twice.

Deaths between the steps of the store are in `tests/responders/test_crash.py`: here whole processes die, while
Slack and Kafka have the request or have answered it.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.parts.kafka_proxy import Api, Side
from tests.reliability.bus import Bus
from tests.reliability.counts import count
from tests.reliability.responding import Scene, new_scene
from tests.reliability.worker import Moment, StreamWorker, send

TIMEOUT_S = 600
BATCH = 4
DEATHS = 2

pytestmark = pytest.mark.timeout(TIMEOUT_S)


class Accepted:
    """Kills the responder when Slack has accepted the `nth` call of a method, before it answers."""

    def __init__(self, scene: Scene, method: str, nth: int) -> None:
        self._scene, self._method, self._nth = scene, method, nth
        self._calls: Counter[str] = Counter()
        self.victim: StreamWorker | None = None
        scene.slack.on_accepted = self._look

    def _look(self, method: str) -> None:
        self._calls[method] += 1
        if method == self._method and self._calls[method] == self._nth:
            (self.victim,) = self._scene.responders
            self.victim.end()


def kill_somewhere(scene: Scene, chance: random.Random) -> StreamWorker:
    """The responder that was killed, in the middle of a batch."""
    where = chance.choice(["slack", "slack", "kafka"])
    if where == "kafka":
        api = chance.choice([Api.PRODUCE, Api.PRODUCE, Api.OFFSET_COMMIT])
        nth = chance.randrange(1, 12 if api is Api.PRODUCE else 3)
        scene.trap.arm(Moment(api, chance.choice(list(Side)), nth), send(signal.SIGKILL))
        scene.detect(BATCH)
        killed = scene.trap.caught()
        killed.wait(10)
        return killed
    method = chance.choice(["chat.postMessage", "chat.postMessage", "chat.update"])
    accepted = Accepted(scene, method, chance.randrange(1, BATCH + 1))
    scene.detect(BATCH)
    scene.until(lambda: accepted.victim is not None)
    scene.slack.on_accepted = lambda _: None
    assert accepted.victim is not None
    return accepted.victim


@pytest.mark.parametrize("seed", range(count(1, 25)))
def test_a_killed_responder_loses_and_doubles_nothing(
    seed: int, bus: Bus, database: str, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    with new_scene(bus, tmp_path, database) as scene:
        scene.start()
        for _ in range(DEATHS):
            killed = kill_somewhere(scene, chance)
            scene.assert_offsets_are_covered()
            killed.start()
            killed.await_ready()
        scene.detect_again(scene.sent)
        scene.finish()
