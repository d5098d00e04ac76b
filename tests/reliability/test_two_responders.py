"""Reliability 15: of two responders on one store one is frozen; the other takes over within 15 s, and nothing
is lost or there twice, also when the first wakes again.
"""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.bus import Bus
from tests.reliability.counts import count
from tests.reliability.responding import Scene, new_scene

FROZEN_S = count(15, 60)
TAKEOVER_S = 15.0
BATCH = 8
FROZEN_MID_REQUEST = 1
"""What may be there twice: a request that was under way, and that Slack got only after the thaw."""
AS_SHIPPED: dict[str, Any] = {"KAFKA__SESSION_TIMEOUT_MS": 6_000, "KAFKA__REBALANCE_TIMEOUT_MS": 3_000}
"""What other tests make shorter is part of how long a takeover takes."""

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(600)]


def frozen_at_a_post(scene: Scene, which: int) -> threading.Event:
    """Set once responder `which` is frozen: in the middle of a page that Slack has accepted."""
    done = threading.Event()

    def look(method: str) -> None:
        if method == "chat.postMessage" and not done.is_set():
            scene.responders[which].signal(signal.SIGSTOP)
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
    seed: int, bus: Bus, postgres_url: str, tmp_path: Path
) -> None:
    with new_scene(bus, tmp_path, postgres_url, responders=2, **AS_SHIPPED) as scene:
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
