"""R 6: a run left to itself over a weekend, every call with a longer context than the one before."""

from __future__ import annotations

import random

from drills.script import Act, Drill, Script, llm_call, tool_call

TOKEN_BUDGET = 1_000_000
_FIRST_TOKENS = 3_000
_TOKENS_A_CALL = 2_600
_USD_A_TOKEN = 2.5e-6
_MOST_CALLS = 400


def script(rng: random.Random, run: str) -> Script:
    """All that is read stays in the context: over 50,000 tokens by step 20. Only the budget ends it."""
    agent, session = "Researcher", f"weekend-run-{run}"
    yield Act(agent, session, "session.start", {"budget": {"tokens": TOKEN_BUDGET}}, gated=False)
    tokens = _FIRST_TOKENS
    for call in range(_MOST_CALLS):
        thought = yield llm_call(
            agent,
            session,
            input_tokens=tokens,
            output_tokens=rng.randint(150, 400),
            cost_usd=tokens * _USD_A_TOKEN,
            pause_ms=150,
            faulty=True,
        )
        if not thought.allowed:
            return
        read = yield tool_call(
            agent, session, "read_page", f"a{call}", f"r{rng.getrandbits(48):012x}", pause_ms=50, faulty=True
        )
        if not read.allowed:
            return
        tokens += _TOKENS_A_CALL + rng.randint(-600, 600)


DRILL = Drill(
    name="weekend-run",
    requirement=6,
    story="A run left alone over a weekend spent thousands of dollars, its context growing with every call",
    detectors=("context_growth", "spend_forecast"),
    make=script,
    within_events=40,
    within_usd=2.0,
    contained=True,
    seconds=40.0,
)
