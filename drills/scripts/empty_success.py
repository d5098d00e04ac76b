"""R 22: success with hits and no documents."""

from __future__ import annotations

import random

from drills.script import Act, Drill, Script, llm_call, tool_call

_GOOD_SEARCHES = 3
_EMPTY_SEARCHES = 6


def script(rng: random.Random, run: str) -> Script:
    """After the token has expired, every search says how many hits there are and brings none."""
    agent, session = "Finder", f"empty-success-{run}"
    yield Act(agent, session, "session.start", {"declared_tools": ["search"]}, gated=False)
    for number in range(_GOOD_SEARCHES + _EMPTY_SEARCHES):
        expired = number >= _GOOD_SEARCHES
        hits = rng.randint(11, 60)
        yield llm_call(agent, session, faulty=number > _GOOD_SEARCHES)
        yield tool_call(
            agent,
            session,
            "search",
            f"{rng.getrandbits(64):016x}",
            f"{rng.getrandbits(64):016x}",
            argument_keys=["query"],
            result_items=0 if expired else 10,
            result_total=hits,
            faulty=expired,
        )
    yield Act(agent, session, "session.end", {"outcome": "completed"}, gated=False, faulty=True)


DRILL = Drill(
    name="empty-success",
    requirement=22,
    story="A search answered 200 with hits above 0 and no documents, after its token had expired",
    detectors=("result_contract",),
    make=script,
    within_events=1,
    seconds=20.0,
)
