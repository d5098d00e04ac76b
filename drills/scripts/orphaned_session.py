"""R 18: the user left; the session's state and its commitments stayed."""

from __future__ import annotations

import random

from drills.script import Act, Drill, Script, llm_call, tool_call

_IDLE_TIMEOUT_MS = 2_000
_MOST_TURNS = 12


def script(rng: random.Random, run: str) -> Script:
    """Two seats are held, the user is gone, nothing ends the session; other users are served meanwhile."""
    agent, left = "Concierge", f"orphaned-session-{run}"
    yield Act(agent, left, "session.start", {"idle_timeout_ms": _IDLE_TIMEOUT_MS}, gated=False)
    yield llm_call(agent, left)
    yield tool_call(agent, left, "hold_seats", f"a{rng.getrandbits(48):012x}", "r-held", effect="seats.hold")
    yield llm_call(agent, left, faulty=True)
    other = f"other-user-{run}"
    yield Act(agent, other, "session.start", {"idle_timeout_ms": 60_000}, gated=False)
    for _ in range(_MOST_TURNS):
        if not (yield llm_call(agent, other, pause_ms=500)).allowed:
            break
    yield Act(agent, other, "session.end", {"outcome": "completed"}, gated=False)


DRILL = Drill(
    name="orphaned-session",
    requirement=18,
    story="The user left in the middle; the seats stayed held and the session open",
    detectors=("orphaned_session",),
    make=script,
    within_events=1,
    seconds=30.0,
)
