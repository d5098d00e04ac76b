"""R 24: one agent asks back about everything, another never asks."""

from __future__ import annotations

import random

from drills.script import Act, Drill, Script, llm_call

_BASELINE_SESSIONS = 400
_MOST_FAULTY_SESSIONS = 250
_RATE_BEFORE = 0.2
_RATE_AFTER = {"Shy": 0.9, "Rash": 0.0}


def script(rng: random.Random, run: str) -> Script:
    """Sessions of both in turn: first each asks back in one of five."""
    for number in range(_BASELINE_SESSIONS + _MOST_FAULTY_SESSIONS):
        faulty = number >= _BASELINE_SESSIONS
        for agent, after in _RATE_AFTER.items():
            session = f"too-shy-{run}-{agent.lower()}-{number}"
            yield llm_call(agent, session, faulty=faulty, pause_ms=15)
            if rng.random() < (after if faulty else _RATE_BEFORE):
                asked = {"to_agent": "User", "intent": "clarification", "content_hash": session[-8:]}
                yield Act(agent, session, "message", asked, gated=False, faulty=faulty, pause_ms=5)
            done = {"outcome": "completed"}
            yield Act(agent, session, "session.end", done, gated=False, faulty=faulty, pause_ms=5)


DRILL = Drill(
    name="too-shy",
    requirement=24,
    story="One agent asked back about everything, and another had stopped asking",
    detectors=("clarification_rate",),
    make=script,
    within_events=500,
    agents=tuple(_RATE_AFTER),
    seconds=60.0,
)
