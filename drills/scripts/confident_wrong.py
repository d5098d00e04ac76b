"""R 2: wrong answers with normal latency and HTTP 200, for three days."""

from __future__ import annotations

import random

from drills.script import Act, Drill, Script, llm_call

_HEALTHY_SCORES = 400
_MOST_FAULTY_SCORES = 400
_BEFORE, _AFTER = 0.85, 0.55
_CONCENTRATION = 10.0


def script(rng: random.Random, run: str) -> Script:
    """Every answer is scored for groundedness: 0.3 lower from some answer on. Nothing else changes, and the
    distance is counted in scored answers.
    """
    for number in range(_HEALTHY_SCORES + _MOST_FAULTY_SCORES):
        wrong = number >= _HEALTHY_SCORES
        session = f"confident-wrong-{run}-{number}"
        verdict = yield llm_call(
            "Answers",
            session,
            duration_ms=rng.gauss(850, 90),
            output_tokens=rng.randint(90, 160),
            pause_ms=30,
        )
        if not verdict.allowed or verdict.ladder != "full":
            return
        mean = _AFTER if wrong else _BEFORE
        score = rng.betavariate(_CONCENTRATION * mean, _CONCENTRATION * (1 - mean))
        judged = {"name": "groundedness", "score": round(score, 3), "evaluator": "judge-1"}
        judged["ref"] = verdict.event_id
        yield Act("Answers", session, "evaluation", judged, pause_ms=10, gated=False, faulty=wrong)
        yield Act("Answers", session, "session.end", {"outcome": "completed"}, gated=False, pause_ms=0)


DRILL = Drill(
    name="confident-wrong",
    requirement=2,
    story="Wrong answers with normal latency and HTTP 200, for 72 hours",
    detectors=("judge_score",),
    make=script,
    within_events=50,
    contained=True,
    seconds=90.0,
)
