"""R 1: an agent begins to refuse; every trace is clean and every status is 200."""

from __future__ import annotations

import random

from drills.script import Act, Drill, Script, llm_call

_BASELINE_REQUESTS = 3_000
_MOST_FAULTY_REQUESTS = 600
_QUICK_PAUSE_MS = 12
_PAUSE_MS = 60
_RATE_BEFORE = 0.02
_RATE_AFTER = 0.08


def script(rng: random.Random, run: str) -> Script:
    """One request a session: first at 2% refusals, then at 8%, until the agent is stepped down."""
    for number in range(_BASELINE_REQUESTS + _MOST_FAULTY_REQUESTS):
        faulty = number >= _BASELINE_REQUESTS
        session = f"silent-refusals-{run}-{number}"
        refuses = rng.random() < (_RATE_AFTER if faulty else _RATE_BEFORE)
        pause_ms = _PAUSE_MS if faulty else _QUICK_PAUSE_MS
        verdict = yield llm_call("Support", session, refusal=refuses, faulty=faulty, pause_ms=pause_ms)
        if faulty and (not verdict.allowed or verdict.ladder != "full"):
            return
        yield Act("Support", session, "session.end", {"outcome": "completed"}, gated=False, pause_ms=0)


DRILL = Drill(
    name="silent-refusals",
    requirement=1,
    story="An agent began to refuse; every trace was clean, and tickets told the story a week later",
    detectors=("refusal_rate",),
    make=script,
    within_events=250,
    contained=True,
    seconds=90.0,
)
