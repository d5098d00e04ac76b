"""Bursts in latency, cost and the scores of evaluations: told once, as warnings, and only what is worse."""

from __future__ import annotations

import random
from collections.abc import Callable
from math import exp

import pytest

from detectors.activity import Scores
from detectors.base import BehaviourDetector, Window
from detectors.behaviour.cost_per_session import CostPerSession
from detectors.behaviour.judge_score import JudgeScore
from detectors.behaviour.latency import Latency
from detectors.bins import log_bin
from detectors.testing import run_windows, window

WINDOWS = 420
BURST = 400


def calls(number: int, spread: random.Random, times: float) -> Window:
    bins: dict[int, int] = {}
    for _ in range(40):
        place = log_bin(800 * times * exp(spread.gauss(0, 0.3)))
        bins[place] = bins.get(place, 0) + 1
    return window(number, llm_duration_bins=bins, llm_calls=40)


def sessions(number: int, spread: random.Random, times: float) -> Window:
    bins: dict[int, int] = {}
    for _ in range(20):
        place = log_bin(20_000 * times * exp(spread.gauss(0, 0.3)))
        bins[place] = bins.get(place, 0) + 1
    return window(number, session_cost_bins=bins, outcomes={"completed": 20}, cost_known_calls=20)


def scores(number: int, spread: random.Random, times: float) -> Window:
    given = Scores()
    for _ in range(20):
        given.add(min(max(spread.gauss(0.85, 0.05) / times, 0.0), 1.0))
    steady = Scores()
    steady.add(0.9)
    others = dict.fromkeys(("accuracy", "depth", "groundedness", "safety"), steady)
    return window(number, evaluations={**others, "tone of voice": given})


CASES = pytest.mark.parametrize(
    ("detector", "series", "metric", "worse"),
    [
        (Latency(), calls, "latency", 1.6),
        (CostPerSession(), sessions, "cost_per_session", 1.7),
        (JudgeScore(), scores, "tone of voice", 1.16),
    ],
    ids=["latency", "cost", "evaluation"],
)
Series = Callable[[int, random.Random, float], Window]


@CASES
def test_a_burst_is_told_once_by_this_test_or_by_that_of_changes(
    detector: BehaviourDetector, series: Series, metric: str, worse: float
) -> None:
    told = []
    for seed in range(4):
        spread = random.Random(seed)
        windows = [series(number, spread, worse if number == BURST else 1.0) for number in range(WINDOWS)]
        (found,) = run_windows(detector, windows)
        assert (found.severity, found.metric) == ("warning", metric)
        assert found.expected is not None
        change = 1 / worse if metric == "tone of voice" else worse
        assert found.observed == pytest.approx(found.expected * change, rel=0.15)
        told.append("a burst" in found.summary)
    assert sum(told) >= 2


@CASES
@pytest.mark.parametrize("seed", range(3))
def test_what_is_better_or_as_ever_is_no_burst(
    detector: BehaviourDetector, series: Series, metric: str, worse: float, seed: int
) -> None:
    spread = random.Random(seed)
    windows = [series(number, spread, 1 / worse if number == BURST else 1.0) for number in range(WINDOWS)]
    assert not [each for each in run_windows(detector, windows) if "a burst" in each.summary]
