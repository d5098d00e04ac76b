"""Reliability 22: a thousand halts at twice the load, and in a fifth of them a responder is killed.

A halt is what somebody orders with one command. Its time runs from there until the agent's gate has heard it
on the bus; meanwhile the engine finds as many agents in a loop each second as it does with everything.
"""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from responders import actions
from responders.handle import Responder
from responders.policy import DEFAULT
from tests.reliability.bus import Bus
from tests.reliability.counts import count
from tests.reliability.responding import Scene, new_scene

HALTS = count(10, 1_000)
KILLED_EACH = 5
DETECTIONS_A_SECOND = 4
ALL_WITHIN_S = 30.0
P99_WITHIN_S = 5.0

pytestmark = pytest.mark.timeout(3_600)


class Load:
    """New incidents at a steady rate, until it is stopped."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            self._scene.detect(DETECTIONS_A_SECOND)


def heard_s(scene: Scene, agent: str) -> float | None:
    for command_id, command in list(scene.gates.heard.items()):
        if command["target"]["agent"] == agent:
            return scene.gates.heard_s[command_id]
    return None


def test_halts_are_heard_in_time_whoever_is_killed(bus: Bus, database: str, tmp_path: Path) -> None:
    with new_scene(bus, tmp_path, database, responders=2) as scene:
        scene.start()
        by_hand = Responder(scene.store, DEFAULT.with_channels("slack:#incidents"))
        ordered: dict[str, float] = {}
        with Load(scene):
            for number in range(HALTS):
                agent = f"halted-{number:04}"
                victim = scene.responders[number // KILLED_EACH % 2]
                ordered[agent] = time.monotonic()
                actions.halt(by_hand, f"{scene.tenant}-people/{agent}", "alice")
                if number % KILLED_EACH == 0:
                    victim.signal(signal.SIGKILL)
                    victim.wait(10)
                    victim.start()
                if number % KILLED_EACH == KILLED_EACH - 1:
                    victim.await_ready()
                time.sleep(0.1)
        scene.until(lambda: all(heard_s(scene, agent) is not None for agent in ordered), ALL_WITHIN_S)
        took = sorted((heard_s(scene, agent) or 0.0) - at for agent, at in ordered.items())
        p50, p99 = took[len(took) // 2], took[min(len(took) - 1, int(len(took) * 0.99))]
        print(
            f"{HALTS} halts, {HALTS // KILLED_EACH} deaths, {len(scene.sent)} incidents beside them: "
            f"p50 {p50:.2f} s, p99 {p99:.2f} s, max {took[-1]:.2f} s"
        )
        assert took[-1] <= ALL_WITHIN_S
        assert p99 <= P99_WITHIN_S
        scene.finish()
