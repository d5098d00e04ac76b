"""What one session has many times over is one cause: it is not taken for what befalls all of them, and what
does not end in a session that never ends is told of all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from detectors.base import BehaviourDetector
from detectors.behaviour.error_rate import ErrorRate
from detectors.behaviour.refusal_rate import RefusalRate
from detectors.behaviour.slice_regression import SliceRegression
from detectors.offline import Engine
from detectors.testing import START_MS, event
from schemas.base import from_epoch_ms

TOOL = {"type": "tool.call", "tool": "search", "arguments_hash": "a", "status": "ok"}
MODEL = {"type": "llm.call", "request_model": "m", "input_tokens": 9, "output_tokens": 9, "status": "ok"}
ANOTHER = {**TOOL, "tool": "read"}
FAILED = {**TOOL, "status": "error", "error_type": "timeout"}
REFUSED = {**MODEL, "refusal": True}
ANSWERED = {**MODEL, "refusal": False}
HOUR_S = 3_600
DAYS = 3
Call = tuple[float, str, dict[str, Any]]
"""When, in seconds, in which session, and what."""


def healthy(hours: int, good: dict[str, Any], bad: dict[str, Any], seed: int = 0) -> Iterator[Call]:
    """Two sessions an hour of six calls each, one in a hundred of them bad; a model call before each."""
    random = np.random.default_rng(seed)
    for number in range(2 * hours):
        for place in range(6):
            at = number * HOUR_S / 2 + 20 * place
            language = "de" if number % 4 == 0 else "en"
            yield at, f"s{number}-{language}", ANSWERED
            yield at + 5, f"s{number}-{language}", bad if random.random() < 0.01 else good


def told(detector: BehaviourDetector, calls: list[Call]) -> list[str]:
    """The severities of all that is told."""
    engine = Engine((), (detector,), ())
    stream = (
        event(
            number,
            {
                **call,
                "time": from_epoch_ms(START_MS + round(1_000 * at)),
                "session": session,
                "attributes": {"language": session[-2:]},
            },
        )
        for number, (at, session, call) in enumerate(calls)
    )
    return [one.severity for one in engine.run(stream)]


@pytest.mark.parametrize("between", [[], [ANSWERED], [ANSWERED, ANOTHER, ANSWERED]])
@pytest.mark.parametrize("detector", [ErrorRate(), SliceRegression()])
def test_fifty_retries_of_one_session_are_no_outage(
    detector: BehaviourDetector, between: list[dict[str, Any]]
) -> None:
    calls = list(healthy(24 * DAYS, TOOL, FAILED))
    again = [call for _ in range(50) for call in (*between, FAILED)]
    calls += [(24 * DAYS * HOUR_S + 2 * number, "retries-de", call) for number, call in enumerate(again)]
    assert told(detector, calls) == []


def test_somebody_who_asks_thirty_times_for_what_is_refused_is_one() -> None:
    calls = list(healthy(24 * DAYS, ANSWERED, REFUSED))
    calls += [(24 * DAYS * HOUR_S + 10 * number, "asks-en", REFUSED) for number in range(30)]
    assert told(RefusalRate(), calls) == []


@pytest.mark.parametrize(
    ("detector", "good", "bad"), [(ErrorRate(), TOOL, FAILED), (RefusalRate(), ANSWERED, REFUSED)]
)
def test_an_everlasting_session_in_which_all_goes_wrong_is_critical_within_two_hours(
    detector: BehaviourDetector, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    calls = [(at, "forever-en", call) for at, _, call in healthy(24 * DAYS, good, bad)]
    calls += [(24 * DAYS * HOUR_S + 60 * number, "forever-en", bad) for number in range(120)]
    assert told(detector, calls)[-1:] == ["critical"]


@pytest.mark.parametrize(
    ("detector", "good", "bad"), [(ErrorRate(), TOOL, FAILED), (RefusalRate(), ANSWERED, REFUSED)]
)
def test_what_befalls_session_after_session_is_critical_within_a_few(
    detector: BehaviourDetector, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    calls = list(healthy(24 * DAYS, good, bad))
    for number in range(12):
        start_s = 24 * DAYS * HOUR_S + 120 * number
        calls += [(start_s + 5 * place, f"n{number}-en", bad) for place in range(5)]
    assert told(detector, calls)[-1:] == ["critical"]
