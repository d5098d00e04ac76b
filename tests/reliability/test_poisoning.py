"""Reliability test 28: a rate that creeps up so slowly that a baseline could follow it is found before it has
reached five times its start.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from detectors.events import from_model
from detectors.offline import Engine
from schemas.base import from_epoch_ms
from schemas.event import AGENT_EVENT, AgentEvent
from tests.reliability.counts import count

START_MS = 1_800_000_000_000
BATCH, BATCH_MS = 10, 600_000
REQUESTS_A_STEP = 60
BASELINE_STEPS = 72
STEP = 1.005
START_RATE = 0.02
CAP = 5.0
"""Ten requests every ten minutes: a step an hour, after three days of baseline."""


def rates() -> list[float]:
    """Of each step."""
    creeping, rate = [], START_RATE
    while (rate := rate * STEP) < CAP * START_RATE:
        creeping.append(rate)
    return [START_RATE] * BASELINE_STEPS + creeping


def requests(seed: int) -> Iterator[tuple[float, AgentEvent]]:
    """Each request with the rate at which such are refused."""
    random = np.random.default_rng(seed)
    number = 0
    for rate in rates():
        for _ in range(REQUESTS_A_STEP):
            fields = {
                "event_id": f"e{number}",
                "type": "llm.call",
                "time": from_epoch_ms(START_MS + number // BATCH * BATCH_MS + 100 * (number % BATCH)),
                "agent": "agent",
                "session": f"s{number // BATCH}",
                "request_model": "m",
                "input_tokens": 900,
                "output_tokens": int(random.lognormal(4.8, 0.4)),
                "refusal": bool(random.random() < rate),
                "status": "ok",
            }
            number += 1
            yield rate, from_model(AGENT_EVENT.validate_python(fields))


@pytest.mark.parametrize("seed", range(count(3, 20)))
def test_slow_poisoning_is_found_before_the_cap(seed: int) -> None:
    """Whatever is found is held against what was before: the baseline has not followed."""
    engine = Engine()
    found = [
        (rate / START_RATE, one)
        for rate, request in requests(seed)
        for one in engine.process(request)
        if one.detector == "refusal_rate"
    ]
    assert "critical" in [one.severity for _, one in found]
    for times, one in found:
        assert times < CAP
        assert one.expected is not None
        assert one.expected < 1.5 * START_RATE
