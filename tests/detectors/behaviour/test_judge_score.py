"""A drop of a judge's scores is found within 50 of them; a judge that changed is no failure of the agent."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from detectors.activity import Activity, CallCounts, Scores
from detectors.base import WindowContext
from detectors.behaviour.judge_score import JudgeScore
from detectors.testing import run_windows, window
from detectors.windows import Window
from schemas.detection import Detection

A_WINDOW = 4


def scored(number: int, scores: list[float], **more: Any) -> Window:
    moments = Scores()
    for each in scores:
        moments.add(each)
    return window(number, evaluations={"groundedness": moments}, **more)


def windows(seed: int, phases: list[tuple[float, int]], **more: Any) -> list[Window]:
    """Windows of four scores, skewed as scores are, of (mean, number of windows) in turn. What else there is
    comes with every window.
    """
    random = np.random.default_rng(seed)
    made: list[Window] = []
    for mean, count in phases:
        for _ in range(count):
            made.append(scored(len(made), random.beta(10 * mean, 10 * (1 - mean), A_WINDOW).tolist(), **more))
    return made


def canaries(failed: int = 0) -> dict[str, CallCounts]:
    return {"known": CallCounts(2, failed)}


def severities(found: list[Detection]) -> list[str]:
    return [one.severity for one in found]


@pytest.mark.parametrize("seed", range(12))
def test_a_drop_of_three_tenths_is_found_within_fifty_scores(seed: int) -> None:
    found = run_windows(JudgeScore(), windows(seed, [(0.85, 100), (0.55, 50 // A_WINDOW)]))
    assert "critical" in severities(found)
    critical = found[-1]
    assert critical.suggested is not None
    assert critical.suggested.ladder == "static"
    assert "groundedness fell from 0.8" in critical.summary
    assert "judge itself" not in critical.summary


@pytest.mark.parametrize("seed", range(8))
def test_scores_that_stay_as_they_were_are_no_alarm(seed: int) -> None:
    assert run_windows(JudgeScore(), windows(seed, [(0.93, 400)])) == []


def test_scores_that_are_right_or_wrong_are_no_alarm() -> None:
    random = np.random.default_rng(1)
    made = [scored(number, (random.random(3) < 0.97).astype(float).tolist()) for number in range(400)]
    assert run_windows(JudgeScore(), made) == []


def test_a_small_drop_is_a_warning() -> None:
    found = run_windows(JudgeScore(), windows(1, [(0.85, 100), (0.78, 100)]))
    assert severities(found) == ["warning"]


def test_before_there_is_a_reference_nothing_is_told() -> None:
    assert run_windows(JudgeScore(), windows(1, [(0.9, 10), (0.3, 20)])) == []


class TestTheJudgeIsWatchedToo:
    @pytest.mark.parametrize(("failed", "severity"), [(0, "warning"), (2, "critical")])
    def test_it_is_doubted_only_while_canaries_hold(self, failed: int, severity: str) -> None:
        runs = {"known": CallCounts(10, failed)}
        before = windows(1, [(0.85, 100)], canaries={"known": CallCounts(10, 0)})
        found = run_windows(JudgeScore(), before + shifted(windows(2, [(0.6, 40)], canaries=runs), by=100))
        assert severities(found)[-1] == severity

    def test_what_it_says_once_canaries_have_looked(self) -> None:
        calls = canaries() | {"other": CallCounts(8, 0)}
        made = windows(1, [(0.85, 100), (0.6, 40)], canaries=calls)
        found = run_windows(JudgeScore(), made)
        assert severities(found) == ["warning"]
        assert found[0].summary.endswith("the judge itself may have changed: canaries hold.")

    def test_somebody_else_who_scores_is_named(self) -> None:
        before = windows(1, [(0.85, 100)], evaluators={"judge-1": CallCounts(4, 0)})
        after = windows(2, [(0.55, 20)], evaluators={"judge-2": CallCounts(4, 0)})
        found = run_windows(JudgeScore(), before + shifted(after, by=100))
        assert severities(found) == ["warning"]
        assert "judge-2 began to score then" in found[0].summary

    def test_thumbs_that_begin_to_contradict_it_are_told_of(self) -> None:
        made = [
            scored(number, [0.8, 0.9, 0.7], judged={"groundedness": CallCounts(2, (number % 20 == 0) + late)})
            for number in range(120)
            for late in [number >= 90]
        ]
        found = run_windows(JudgeScore(), made)
        assert [(one.metric, one.severity) for one in found] == [("judge_agreement", "warning")]
        assert "contradict the judge" in found[0].summary


def shifted(made: list[Window], *, by: int) -> list[Window]:
    for each in made:
        each.start_ms += by * 10_000
    return made


def test_of_many_evaluations_a_few_are_watched_and_the_state_stays_small() -> None:
    random = np.random.default_rng(3)
    detector, state = JudgeScore(), JudgeScore.State()
    context = WindowContext()
    for number in range(500):
        made = window(120 * number)
        context.time_ms, context.standings = made.end_ms, {}
        moments = Scores()
        for each in random.beta(8, 2, 8):
            moments.add(float(each))
        scores = dict.fromkeys("abcdefgh", moments)
        runs = {"known": CallCounts(2, 0)}
        context.activity = Activity(evaluations=scores, canaries=runs, judged={"a": CallCounts(1, 0)})
        assert list(detector.update(state, made, context)) == []
    assert len(state.scores) == 4
    assert context.standings["judge_score"].verdict == "healthy"
    assert len(msgspec.msgpack.encode(state)) < 20_000
