"""R 14: 200 OK, provisioning behind it failed, task called complete."""

from __future__ import annotations

import random

from drills.script import Act, Drill, Script, llm_call, tool_call


def script(rng: random.Random, run: str) -> Script:
    """The first machine comes up; the second call is accepted too, and what is behind it fails."""
    agent, session = "Provisioner", f"state-blindness-{run}"
    yield Act(agent, session, "session.start", {"declared_tools": ["create_machine"]}, gated=False)
    for faulty in (False, True):
        yield llm_call(agent, session)
        arguments, result = (f"{rng.getrandbits(64):016x}" for _ in range(2))
        accepted = yield tool_call(
            agent, session, "create_machine", arguments, result, effect="machine.create", faulty=faulty
        )
        if not accepted.allowed:
            return
        outcome = {"ref": accepted.event_id, "confirmed": not faulty}
        yield Act(agent, session, "effect", outcome, gated=False, faulty=faulty, pause_ms=300)
    yield Act(agent, session, "session.end", {"outcome": "completed"}, gated=False, faulty=True)


DRILL = Drill(
    name="state-blindness",
    requirement=14,
    story="A call returned 200 OK, the provisioning behind it failed, and the task was called complete",
    detectors=("unconfirmed_effect",),
    make=script,
    within_events=2,
    seconds=20.0,
)
