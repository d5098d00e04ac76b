"""R 30: a provider answers 429, and agents try again at once, and again."""

from __future__ import annotations

import random

from drills.script import Act, Drill, Script, llm_call

_AGENTS = ("Summarizer", "Classifier", "Router")
_REQUESTS_BEFORE = 70
_MOST_TRIES = 400


def script(rng: random.Random, run: str) -> Script:
    """Three agents work, with a second provider too. Then each, in a session of its own, is refused, and none
    waits longer after a refusal than before it.
    """
    for number in range(_REQUESTS_BEFORE):
        for agent in _AGENTS:
            session = f"rate-limit-storm-{agent.lower()}-{run}-{number}"
            yield (
                _other_provider(agent, session) if number % 3 == 0 else llm_call(agent, session, pause_ms=20)
            )
            yield Act(agent, session, "session.end", {"outcome": "completed"}, gated=False, pause_ms=0)
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


def _other_provider(agent: str, session: str) -> Act:
    return llm_call(agent, session, provider="anthropic", request_model="claude-sonnet-4", pause_ms=20)


DRILL = Drill(
    name="rate-limit-storm",
    requirement=30,
    story="A provider's rate limit was met with millions of calls tried again without backoff",
    detectors=("retry_storm",),
    fleet=("provider_outage",),
    make=script,
    within_events=15,
    contained=True,
    seconds=60.0,
)
