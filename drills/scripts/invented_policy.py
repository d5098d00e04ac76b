"""R 26: a refund policy is invented, and cases are cited that do not exist."""

from __future__ import annotations

import random

from drills.script import Act, Drill, Script, llm_call, tool_call

_HEALTHY_SESSIONS = 600
_MOST_FAULTY_SESSIONS = 250
_REFUNDS = 0.3
_SCORED = 0.5


def script(rng: random.Random, run: str) -> Script:
    """From some day on questions about refunds are answered from a policy that nobody wrote: three answers in
    ten are without any ground. Half of all answers are scored, for faithfulness and for relevance, which
    stays as it was.
    """
    for number in range(_HEALTHY_SESSIONS + _MOST_FAULTY_SESSIONS):
        session = f"invented-policy-{run}-{number}"
        invents = number >= _HEALTHY_SESSIONS and rng.random() < _REFUNDS
        verdict = yield llm_call("Refunds", session, output_tokens=rng.randint(90, 180), pause_ms=15)
        if not verdict.allowed or verdict.ladder != "full":
            return
        if not invents:
            yield tool_call("Refunds", session, "search_policy", f"q{number}", f"p{number}", pause_ms=5)
        if rng.random() < _SCORED:
            faithful = rng.betavariate(1.5, 8.5) if invents else rng.betavariate(9, 1)
            for name, score in (("faithfulness", faithful), ("relevance", rng.betavariate(8, 2))):
                judged = {"name": name, "score": round(score, 3), "evaluator": "judge-1"}
                judged["ref"] = verdict.event_id
                faulty = invents and name == "faithfulness"
                yield Act("Refunds", session, "evaluation", judged, pause_ms=5, gated=False, faulty=faulty)
        yield Act("Refunds", session, "session.end", {"outcome": "completed"}, gated=False, pause_ms=0)


DRILL = Drill(
    name="invented-policy",
    requirement=26,
    story="A support agent invented a refund policy and cited cases that do not exist",
    detectors=("judge_score",),
    make=script,
    within_events=25,
    contained=True,
    seconds=90.0,
)
