"""R 30: a provider answers 429, and agents try again at once, and again."""

from __future__ import annotations

import random

from drills.script import Drill, Script, llm_call

_AGENTS = ("Summarizer", "Classifier", "Router")
_MOST_TRIES = 400


def script(rng: random.Random, run: str) -> Script:
    """Three agents, each in its own session, none of which waits longer after a refusal than before it."""
    sessions = {agent: f"rate-limit-storm-{agent.lower()}-{run}" for agent in _AGENTS}
    for agent, session in sessions.items():
        yield llm_call(agent, session)
    for _ in range(_MOST_TRIES):
        for agent in list(sessions):
            tried = yield llm_call(
                agent,
                sessions[agent],
                output_tokens=0,
                cost_usd=0.0,
                finish_reasons=None,
                status="error",
                error_type="rate_limit_exceeded",
                duration_ms=float(rng.randint(20, 60)),
                faulty=True,
                pause_ms=60,
            )
            if not tried.allowed:
                del sessions[agent]
        if not sessions:
            return


DRILL = Drill(
    name="rate-limit-storm",
    requirement=30,
    story="A provider's rate limit was met with millions of calls tried again without backoff",
    detectors=("retry_storm",),
    make=script,
    within_events=15,
    contained=True,
    seconds=30.0,
)
