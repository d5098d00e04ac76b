"""R 17: "version 1.2" retrieved after the user said 1.3."""

from __future__ import annotations

import random

from drills.script import Act, Drill, Script, llm_call, tool_call


def script(rng: random.Random, run: str) -> Script:
    """The user's correction is stored and read back once; the next turns read the state before it."""
    agent, session = "Concierge", f"stale-memory-{run}"
    user = f"{rng.getrandbits(64):016x}"
    yield Act(agent, session, "session.start", {"user": user}, gated=False)

    def read(version: str, *, faulty: bool) -> Act:
        memory = {"index": "preferences", "index_version": version, "documents": 1, "owner": user}
        return Act(agent, session, "retrieval", memory, faulty=faulty, gated=False)

    yield read("1.2", faulty=False)
    yield llm_call(agent, session)
    arguments, result = (f"{rng.getrandbits(64):016x}" for _ in range(2))
    yield tool_call(agent, session, "remember", arguments, result, effect="preferences.update")
    yield read("1.3", faulty=False)
    yield llm_call(agent, session)
    for _ in range(3):
        yield read("1.2", faulty=True)
        verdict = yield llm_call(agent, session, faulty=True)
        if not verdict.allowed:
            return
    yield Act(agent, session, "session.end", {"outcome": "completed"}, gated=False, faulty=True)


DRILL = Drill(
    name="stale-memory",
    requirement=17,
    story='"Version 1.2" was retrieved after the user had said 1.3',
    detectors=("stale_memory",),
    make=script,
    within_events=1,
    seconds=20.0,
)
