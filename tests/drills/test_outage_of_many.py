"""One provider's outage under two hundred agents, through the real detectors and decisions: one page."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

from detectors.events import from_model
from detectors.offline import Engine
from responders.policy import DEFAULT
from responders.rehearsal import rehearse
from schemas.base import from_epoch_ms
from schemas.detection import Detection
from schemas.event import AGENT_EVENT

AGENTS = 200
START_MS = 1_780_300_800_000
HEALTHY_MS = 2 * 60_000
OUTAGE_MS = 15_000
TRIES = 6
EVERY_MS = 15_000
"""How often each agent calls its model."""


def events(rng: random.Random) -> Iterator[dict[str, object]]:
    """Each agent calls its model four times a minute; then nearly every call fails, and is tried again."""
    number = 0
    for at_ms in range(0, HEALTHY_MS + OUTAGE_MS, EVERY_MS):
        for agent in range(AGENTS):
            down = at_ms >= HEALTHY_MS
            # Each of them has its own phase.
            begun_ms = START_MS + at_ms + agent * EVERY_MS // AGENTS
            for tried in range(TRIES):
                fails = rng.random() < (0.97 if down else 0.005)
                yield event(agent, f"e-{number}", begun_ms + 60 * tried, at_ms // EVERY_MS, fails, rng)
                number += 1
                if not fails or not down:
                    break


def event(
    agent: int, event_id: str, time_ms: int, session: int, fails: bool, rng: random.Random
) -> dict[str, object]:
    return {
        "schema": "agent.event/1",
        "event_id": event_id,
        "type": "llm.call",
        "time": from_epoch_ms(time_ms).isoformat(),
        "agent": f"agent-{agent}",
        "session": f"s-{agent}-{session}",
        "provider": "openai",
        "request_model": "gpt-4o",
        "input_tokens": 500,
        "output_tokens": 0 if fails else rng.randint(80, 200),
        "duration_ms": rng.lognormvariate(6.5, 0.4),
        "status": "error" if fails else "ok",
        **({"error_type": "server_error"} if fails else {"cost_usd": 0.002}),
    }


def found() -> list[Detection]:
    engine = Engine(window_ms=1_000)
    detections: list[Detection] = []
    for fields in events(random.Random(5)):
        detections += engine.process(from_model(AGENT_EVENT.validate_python(fields)))
    return sorted([*detections, *engine.finish()], key=lambda each: each.time)


def test_an_outage_of_a_provider_under_two_hundred_agents_pages_once() -> None:
    detections = found()
    by_detector = Counter(each.detector for each in detections)
    assert by_detector["provider_outage"] == 1
    assert len({each.agent for each in detections if each.detector == "retry_storm"}) > 0.8 * AGENTS
    outcome = rehearse(DEFAULT, detections)
    told = [
        (each.detection.detector, word)
        for each in outcome.by_detection.values()
        for word in each.paging
        if word.endswith(" to default")
    ]
    assert told == [("provider_outage", "opened to default")]
    assert (outcome.pages, outcome.digests) == (1, 0)
