"""R 32: the median looks fine, and in one language most answers fail."""

from __future__ import annotations

import random

from drills.script import Act, Drill, Script, llm_call

_BASELINE_SESSIONS = 1_500
_MOST_FAULTY_SESSIONS = 1_800
_LANGUAGES = ("en", "de", "es", "ja")
_SHARES = (0.6, 0.18, 0.14, 0.08)
_SEGMENTS = ("free", "pro", "enterprise")
_FAILS = 0.03
_FAILS_IN_TAIL = 0.4


def script(rng: random.Random, run: str) -> Script:
    """One question a session, told apart by language and segment. From some point on two in five of those in
    Japanese fail, which moves the rate over all by three points.
    """
    for number in range(_BASELINE_SESSIONS + _MOST_FAULTY_SESSIONS):
        session = f"long-tail-{run}-{number}"
        language = rng.choices(_LANGUAGES, _SHARES)[0]
        slices = {"language": language, "segment": rng.choice(_SEGMENTS)}
        faulty = number >= _BASELINE_SESSIONS and language == "ja"
        failed = rng.random() < (_FAILS_IN_TAIL if faulty else _FAILS)
        verdict = yield llm_call("Polyglot", session, attributes=slices, faulty=faulty, pause_ms=12)
        if faulty and (not verdict.allowed or verdict.ladder != "full"):
            return
        outcome = {"outcome": "failed" if failed else "completed", "attributes": slices}
        yield Act("Polyglot", session, "session.end", outcome, gated=False, pause_ms=0)


DRILL = Drill(
    name="long-tail",
    requirement=32,
    story="The median looked fine; in one language two answers in five failed",
    detectors=("slice_regression",),
    make=script,
    within_events=100,
    seconds=90.0,
)
