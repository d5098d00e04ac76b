"""Confidence that means less, or more, than it did is found; another mix of answers is not a change."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from detectors.activity import Calibration
from detectors.behaviour.confidence_calibration import ConfidenceCalibration
from detectors.testing import run_windows, window
from detectors.windows import Window
from schemas.detection import Detection

A_WINDOW = 6


def answered(
    number: int,
    random: np.random.Generator,
    *,
    low: float = 0.5,
    high: float = 1.0,
    off: float = 0.0,
    source: str = "route",
) -> Window:
    """Answers of confidence between two values, right less often than it says by `off`."""
    told = Calibration()
    for sure in random.uniform(low, high, A_WINDOW):
        told.add(float(sure), bool(random.random() < sure - off))
    return window(number, calibration={source: told})


def run(seed: int, off: float, *, after: int = 40, source: str = "route") -> list[Detection]:
    random = np.random.default_rng(seed)
    healthy = [answered(at, random, source=source) for at in range(100)]
    changed = [answered(at, random, off=off, source=source) for at in range(100, 100 + after)]
    return run_windows(ConfidenceCalibration(), healthy + changed)


@pytest.mark.parametrize("seed", range(8))
def test_overconfidence_by_three_tenths_is_critical_within_200_answers(seed: int) -> None:
    found = run(seed, 0.3, after=200 // A_WINDOW)
    assert found
    assert found[-1].severity == "critical"
    assert found[-1].metric == "wrong_answers:route"
    assert "became overconfident: by route" in found[-1].summary
    assert "expected calibration error 0." in found[-1].summary


def test_underconfidence_is_a_warning() -> None:
    found = run(3, -0.25, after=60)
    assert [one.severity for one in found] == ["warning"]
    assert "became underconfident" in found[0].summary


@pytest.mark.parametrize("seed", range(6))
def test_another_mix_of_sure_and_unsure_answers_is_no_change(seed: int) -> None:
    random = np.random.default_rng(seed)
    made = [
        answered(at, random, low=0.8 if at % 2 or at < 100 else 0.5, high=1.0 if at < 100 else 0.7)
        if at >= 60
        else answered(at, random)
        for at in range(60)
    ]
    made += [answered(at, random, low=0.85, high=1.0) for at in range(60, 160)]
    made += [answered(at, random, low=0.5, high=0.7) for at in range(160, 260)]
    assert run_windows(ConfidenceCalibration(), made) == []


def test_answers_that_are_hardly_ever_wrong_are_no_change() -> None:
    random = np.random.default_rng(5)
    made = [answered(at, random, low=0.85, high=0.95, off=-0.09) for at in range(600)]
    assert run_windows(ConfidenceCalibration(), made) == []


def test_an_evaluation_takes_the_place_of_what_knows_less_and_the_state_stays_small() -> None:
    random = np.random.default_rng(5)
    detector, state = ConfidenceCalibration(), ConfidenceCalibration.State()
    from detectors.base import WindowContext

    context = WindowContext()
    sources = ("thumb", "outcome", "route", "fields", "other")
    for number in range(400):
        made = answered(number, random, source=sources[number % 5 if number > 100 else number % 2])
        context.activity, context.standings, context.time_ms = made.total(), {}, made.end_ms
        assert list(detector.update(state, made, context)) == []
        assert len(msgspec.msgpack.encode(state)) < 10_000
    assert sorted(state.sources) == ["fields", "route"]
