"""R 15: invalid credentials, retried to the limit."""

from __future__ import annotations

import random

from drills.script import Drill, Script, tool_call

_MOST_TRIES = 500


def script(rng: random.Random, run: str) -> Script:
    """The same call fails the same way each time."""
    session = f"bad-credentials-retry-{run}"
    arguments = f"a{rng.getrandbits(48):012x}"
    for _ in range(_MOST_TRIES):
        verdict = yield tool_call(
            "Deployer",
            session,
            "login",
            arguments,
            "unauthorized",
            status="error",
            error_type="401",
            faulty=True,
            pause_ms=100,
        )
        if not verdict.allowed:
            return


DRILL = Drill(
    name="bad-credentials-retry",
    requirement=15,
    story="Invalid credentials were retried to the limit",
    detectors=("retry_storm",),
    make=script,
    within_events=3,
    contained=True,
    seconds=30.0,
)
