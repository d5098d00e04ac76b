"""R 33: the confidence that decides answer or escalation is itself wrong."""

from __future__ import annotations

import random

from drills.script import Act, Drill, Script, llm_call

_HEALTHY_REQUESTS = 900
_MOST_FAULTY_REQUESTS = 300
_SURE_ENOUGH = 0.65


def script(rng: random.Random, run: str) -> Script:
    """A router answers when it is sure enough and else escalates; what it answered turns out right as often
    as it said. From some request on the requests are harder and its confidence does not notice: it is as sure
    as ever, and right half of the time. Nothing else changes. The distance is counted in answers whose
    outcome is known.
    """
    for number in range(_HEALTHY_REQUESTS + _MOST_FAULTY_REQUESTS):
        deluded = number >= _HEALTHY_REQUESTS
        session = f"overconfident-router-{run}-{number}"
        stated = rng.betavariate(6, 1.8)
        truth = rng.betavariate(4, 3.5) if deluded else stated
        verdict = yield llm_call(
            "Router", session, confidence=round(stated, 3), output_tokens=rng.randint(6, 14), pause_ms=20
        )
        if not verdict.allowed or verdict.ladder != "full":
            return
        if stated < _SURE_ENOUGH:
            unsure = {"to": "human", "reason": "not sure"}
            yield Act("Router", session, "escalation", unsure, pause_ms=5, gated=False)
            outcome = "escalated"
        else:
            outcome = "completed" if rng.random() < truth else "failed"
        faulty = deluded and outcome != "escalated"
        yield Act("Router", session, "session.end", {"outcome": outcome}, 5, gated=False, faulty=faulty)


DRILL = Drill(
    name="overconfident-router",
    requirement=33,
    story="The confidence that decided answer or escalation was itself wrong",
    detectors=("confidence_calibration",),
    make=script,
    within_events=150,
    seconds=90.0,
)
