"""R 28: the provider puts another model behind the same name, without a word."""

from __future__ import annotations

import random

from drills.script import Act, Drill, Script, llm_call

_BASELINE_REQUESTS = 800
_MOST_FAULTY_REQUESTS = 400
_REQUESTS_A_ROUND = 20
_CANARIES = ("arithmetic", "refund-policy", "json-only", "capital-cities")
_FAILING = 0.9
_REFUSALS = (0.02, 0.05)
_LENGTHS = (120.0, 100.0)
_SPREAD = 0.4


def script(rng: random.Random, run: str) -> Script:
    """Requests, and a round of four canaries every twenty of them. After the change most canaries fail,
    more than twice as many requests are refused and answers are a sixth shorter; every trace stays clean.
    """
    for number in range(_BASELINE_REQUESTS + _MOST_FAULTY_REQUESTS):
        faulty = number >= _BASELINE_REQUESTS
        session = f"silent-model-update-{run}-{number}"
        yield llm_call(
            "Assistant",
            session,
            refusal=rng.random() < _REFUSALS[faulty],
            output_tokens=round(_LENGTHS[faulty] * rng.lognormvariate(0.0, _SPREAD)),
            faulty=faulty,
            pause_ms=25,
        )
        yield Act("Assistant", session, "session.end", {"outcome": "completed"}, gated=False, pause_ms=0)
        if number % _REQUESTS_A_ROUND == _REQUESTS_A_ROUND - 1:
            for canary in _CANARIES:
                passed = not (faulty and rng.random() < _FAILING)
                result = {"canary": canary, "passed": passed}
                checks = f"canaries-{run}"
                yield Act("Assistant", checks, "canary", result, gated=False, faulty=faulty, pause_ms=1)


DRILL = Drill(
    name="silent-model-update",
    requirement=28,
    story="The provider changed the model behind a name without a word",
    detectors=("canary",),
    make=script,
    within_events=100,
    seconds=60.0,
)
