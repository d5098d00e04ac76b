"""R 19: the same search with the same results, again and again, with a thought in between."""

from __future__ import annotations

import random

from drills.script import Drill, Script, llm_call, tool_call

_MOST_SEARCHES = 200


def script(rng: random.Random, run: str) -> Script:
    """Think, search, think, search: only the thoughts differ."""
    session = f"cheapest-flight-{run}"
    query, flights = f"a{rng.getrandbits(48):012x}", f"r{rng.getrandbits(48):012x}"
    for _ in range(_MOST_SEARCHES):
        thought = yield llm_call(
            "Traveller", session, output_hash=f"o{rng.getrandbits(48):012x}", faulty=True
        )
        if not thought.allowed:
            return
        found = yield tool_call(
            "Traveller", session, "search_flights", query, flights, faulty=True, pause_ms=100
        )
        if not found.allowed:
            return


DRILL = Drill(
    name="cheapest-flight",
    requirement=19,
    story="The same flight search with the same results, again and again",
    detectors=("tool_loop",),
    make=script,
    within_events=12,
    contained=True,
    seconds=30.0,
)
