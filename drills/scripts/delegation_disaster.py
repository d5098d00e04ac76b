"""R 23: every complaint is handed to a person, and nothing is triaged any more."""

from __future__ import annotations

import random

from drills.script import Act, Drill, Script, llm_call, tool_call

_BASELINE_SESSIONS = 400
_MOST_FAULTY_SESSIONS = 150
_RATE_BEFORE = 0.06
_RATE_AFTER = 0.95


def script(rng: random.Random, run: str) -> Script:
    """One complaint a session: first 6% are escalated, then nearly all, without a look at the order."""
    for number in range(_BASELINE_SESSIONS + _MOST_FAULTY_SESSIONS):
        faulty = number >= _BASELINE_SESSIONS
        session = f"delegation-disaster-{run}-{number}"
        yield llm_call("Complaints", session, faulty=faulty, pause_ms=30)
        escalates = rng.random() < (_RATE_AFTER if faulty else _RATE_BEFORE)
        if not faulty:
            order, answer = (f"{rng.getrandbits(48):012x}" for _ in range(2))
            yield tool_call("Complaints", session, "read_order", order, answer, pause_ms=5)
        if escalates:
            reason = {"to": "human", "reason": "complaint"}
            yield Act("Complaints", session, "escalation", reason, gated=False, faulty=faulty, pause_ms=5)
        outcome = {"outcome": "escalated" if escalates else "completed"}
        yield Act("Complaints", session, "session.end", outcome, gated=False, faulty=faulty, pause_ms=5)


DRILL = Drill(
    name="delegation-disaster",
    requirement=23,
    story="An agent forwarded every complaint to people, and triaged none",
    detectors=("escalation_rate",),
    make=script,
    within_events=120,
    seconds=45.0,
)
