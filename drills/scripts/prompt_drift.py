"""R 8: quality slides over thousands of calls after a small edit of the prompt."""

from __future__ import annotations

import random

from drills.script import Act, Drill, Script, llm_call

_BASELINE_CALLS = 1_500
_MOST_FAULTY_CALLS = 3_000
_SCORED = 1 / 3
_SCORE_BEFORE = 0.86
_SCORE_AFTER = 0.66
_SPREAD = 0.12
_SLIDE_CALLS = 2_500


def script(rng: random.Random, run: str) -> Script:
    """One answer a session, a third of them scored. The edit is announced; then the mean score falls little
    by little, and nothing errs, slows or refuses.
    """
    for number in range(_BASELINE_CALLS + _MOST_FAULTY_CALLS):
        since = number - _BASELINE_CALLS
        faulty = since >= 0
        session = f"prompt-drift-{run}-{number}"
        if since == 0:
            edit = {"component": "prompt", "name": "answer", "from_version": "v7", "to_version": "v8"}
            yield Act("Writer", f"prompt-drift-{run}-edit", "deployment", edit, gated=False)
        verdict = yield llm_call(
            "Writer", session, prompt_version="v8" if faulty else "v7", faulty=faulty, pause_ms=10
        )
        if faulty and (not verdict.allowed or verdict.ladder != "full"):
            return
        if rng.random() < _SCORED:
            slid = min(max(since, 0) / _SLIDE_CALLS, 1.0)
            mean = _SCORE_BEFORE + slid * (_SCORE_AFTER - _SCORE_BEFORE)
            score = min(max(rng.gauss(mean, _SPREAD), 0.0), 1.0)
            yield Act(
                "Writer",
                session,
                "evaluation",
                {"name": "groundedness", "score": score},
                gated=False,
                pause_ms=0,
            )
        yield Act("Writer", session, "session.end", {"outcome": "completed"}, gated=False, pause_ms=0)


DRILL = Drill(
    name="prompt-drift",
    requirement=8,
    story="After a small edit of the prompt, quality slid over thousands of calls",
    detectors=("version_regression",),
    make=script,
    within_events=1_500,
    seconds=90.0,
)
