"""What is photographed: drills, and what people do about them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from drills.catalogue import BY_NAME
from responders import actions
from tools.slack_pictures.stage import Stage

PERSON: Final = "Olga Operator"
POLICY: Final = """
[paging]
channels = ["slack:#incidents"]

[[owner]]
agents = ["*"]
owner = "agents on-call"
runbook = "https://wiki.example/agents"
"""
ASKS: Final = """
[containment]
rules = []
otherwise = "approve"
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """What happens, under which policy."""

    play: Callable[[Stage], Awaitable[None]]
    policy: str = POLICY


async def loop_contained(on: Stage) -> None:
    """A loop that was stopped, and proved to have stopped."""
    incident = await on.play(BY_NAME["file-listing"], stretch=20)
    await on.wait(40)
    await asyncio.to_thread(actions.acknowledge, on.responder, incident.incident_id, PERSON)
    await on.work()


async def ignored_stop(on: Stage) -> None:
    """An agent that was told to stop and went on."""
    on.obeys = False
    await on.play(BY_NAME["ignored-stop"], after=100)
    await on.wait(10)


async def approval(on: Stage) -> None:
    """What a person is asked, where the policy wants to be asked."""
    await on.play(BY_NAME["mass-email"], stretch=10)


async def outage(on: Stage) -> None:
    """A provider that fails, and what follows from it."""
    await on.play(BY_NAME["rate-limit-storm"], stretch=20, after=400)


async def false_alarm(on: Stage) -> None:
    """An alarm that was none, and says so."""
    incident = await on.play(BY_NAME["bad-credentials-retry"], stretch=20)
    await on.wait(40)
    await asyncio.to_thread(
        actions.false_alarm,
        on.responder,
        incident.incident_id,
        PERSON,
        "the key was being rotated by hand",
    )
    await on.work()


SCENES: Final[Mapping[str, Scene]] = {
    "loop-contained": Scene(loop_contained),
    "ignored-stop": Scene(ignored_stop),
    "approval": Scene(approval, POLICY + ASKS),
    "outage": Scene(outage),
    "false-alarm": Scene(false_alarm),
}
