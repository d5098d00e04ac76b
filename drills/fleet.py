"""A small healthy fleet: agents that do their work, so that what goes wrong has a background."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from drills.done import Done
from drills.live import Actors
from drills.script import Act, Script, Verdict, llm_call, tool_call

NAMES = ("Billing", "Search", "Onboarding", "Catalog")
_TOOLS = ("find_customer", "read_order", "search_docs", "update_ticket")


def session(rng: random.Random, agent: str, name: str) -> Script:
    """A session of a few model and tool calls that ends well; one in fifty ends in a refusal."""
    yield Act(agent, name, "session.start", {"declared_tools": list(_TOOLS)}, gated=False, pause_ms=0)
    for _ in range(rng.randint(2, 5)):
        pause_ms = rng.uniform(150, 600)
        yield llm_call(agent, name, cost_usd=round(rng.uniform(0.002, 0.02), 4), pause_ms=pause_ms)
        arguments, result = (f"{rng.getrandbits(64):016x}" for _ in range(2))
        yield tool_call(agent, name, rng.choice(_TOOLS), arguments, result, pause_ms=rng.uniform(80, 300))
    refuses = rng.random() < 0.02
    yield llm_call(agent, name, refusal=refuses, cost_usd=0.004, pause_ms=200)
    yield Act(agent, name, "session.end", {"outcome": "refused" if refuses else "completed"}, gated=False)


async def run(actors: Actors, *, seed: int, on_done: Callable[[Done], None]) -> None:
    """Every agent of the fleet works through one session after the other until this is cancelled."""
    async with asyncio.TaskGroup() as group:
        for number, agent in enumerate(NAMES):
            group.create_task(_work(actors, agent, random.Random(seed + number), on_done))


async def _work(actors: Actors, agent: str, rng: random.Random, on_done: Callable[[Done], None]) -> None:
    while True:
        name = f"{agent.lower()}-{rng.getrandbits(48):012x}"
        script = session(rng, agent, name)
        act: Act | None = next(script)
        while act is not None:
            await asyncio.sleep(act.pause_ms / 1000)
            verdict, done = await actors.perform(act)
            if not done.denied:
                on_done(done)
            act = _next(script, verdict)


def _next(script: Script, verdict: Verdict) -> Act | None:
    try:
        return script.send(verdict)
    except StopIteration:
        return None
