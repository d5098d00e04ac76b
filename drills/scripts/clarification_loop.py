"""R 4: four agents, two of which ask each other for clarification for eleven days."""

from __future__ import annotations

import random

from drills.script import Act, Drill, Script, llm_call

_AGENTS = ("Analyzer", "Verifier", "Planner", "Writer")
_MOST_EXCHANGES = 60


def script(rng: random.Random, run: str) -> Script:
    """Planner delegates once; then Analyzer and Verifier only ever ask each other."""
    session = f"clarification-loop-{run}"
    yield Act("Planner", session, "session.start", {"goal": "quarterly-report"}, gated=False)
    yield llm_call("Planner", session)
    yield Act("Planner", session, "message", {"to_agent": "Analyzer", "intent": "delegate"})
    stopped: set[str] = set()
    for exchange in range(_MOST_EXCHANGES):
        for agent, other in (("Analyzer", "Verifier"), ("Verifier", "Analyzer")):
            if agent in stopped:
                continue
            cost = 0.02 + 0.002 * exchange  # the context grows with every question
            thought = yield llm_call(
                agent, session, cost_usd=cost, input_tokens=1_500 + 150 * exchange, faulty=True, pause_ms=100
            )
            asked = (
                thought.allowed
                and (
                    yield Act(
                        agent,
                        session,
                        "message",
                        {
                            "to_agent": other,
                            "intent": "clarification",
                            "content_hash": f"q{rng.getrandbits(32):08x}",
                        },
                        pause_ms=100,
                        faulty=True,
                    )
                ).allowed
            )
            if not asked:
                stopped.add(agent)
        if len(stopped) == 2:
            return


DRILL = Drill(
    name="clarification-loop",
    requirement=4,
    story="Analyzer and Verifier asked each other for clarification for 11 days and $47,000",
    detectors=("ping_pong",),
    make=script,
    within_events=40,
    within_usd=1.0,
    contained=True,
    seconds=40.0,
    cost_then_usd=47_000.0,
)
