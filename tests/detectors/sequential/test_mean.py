"""A change of mean is found soon, at the run length it says, whatever the values are like."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detectors.sequential.mean import MeanChange
from detectors.sequential.onsets import Direction, Reading

LEVEL = 15_000.0
Floats = NDArray[np.float64]
LAWS: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "normal": lambda random, size: random.normal(size=size),
    "waits": lambda random, size: random.exponential(size=size),
    "skewed scores": lambda random, size: random.beta(8, 2, size),
    "judge": lambda random, size: np.where(random.random(size) < 0.9, 0.95, 0.2),
    "heavy tails": lambda random, size: random.standard_t(5, size),
}


def first_alarm(
    test: MeanChange, values: Floats, window: int, start: int = 0
) -> tuple[int | None, Reading | None]:
    """Where the window that raised the first alarm ended."""
    state = test.State()
    for at in range(0, len(values), window):
        batch = values[at : at + window]
        reading = test.update(state, len(batch), float(batch.sum()), float((batch**2).sum()), at)
        if at >= start and reading is not None and reading.run_length >= LEVEL:
            return at + len(batch), reading
    return None, None


@pytest.mark.parametrize("law", LAWS)
def test_the_false_alarm_run_length_is_at_least_what_it_says(law: str) -> None:
    # The mean of runs that are cut is a lower bound of the run length.
    test, length = MeanChange(floor=LEVEL), 24_000
    runs = []
    for seed in range(10):
        values = LAWS[law](np.random.default_rng(seed), length)
        runs.append(first_alarm(test, values, 20)[0] or length)
    assert np.mean(runs) >= LEVEL


def test_waits_one_by_one_would_cry_wolf_were_their_skewness_not_learned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def alarms() -> int:
        test = MeanChange("rise", floor=LEVEL)
        streams = [np.random.default_rng(seed).exponential(size=3_000) for seed in range(6)]
        return sum(first_alarm(test, values, 1, start=500)[0] is not None for values in streams)

    learned = alarms()
    monkeypatch.setattr("detectors.sequential.mean.penalties", lambda state, shifts: np.zeros(len(shifts)))
    assert alarms() > learned


@pytest.mark.parametrize(("shift", "delay"), [(0.5, 75), (1.0, 24), (2.0, 10)])
def test_a_shift_is_found_within_a_few_observations(shift: float, delay: int) -> None:
    test, delays = MeanChange(floor=LEVEL), []
    for seed in range(16):
        random = np.random.default_rng(seed)
        values = np.concatenate([random.normal(size=1_600), random.normal(shift, 1.0, 300)])
        seen, reading = first_alarm(test, values, 4, start=1_400)
        assert seen is not None
        assert reading is not None
        if seen > 1_600:
            delays.append(seen - 1_600)
            assert reading.after > reading.before
    assert len(delays) >= 13
    assert np.mean(delays) < delay


def test_a_single_wild_value_is_no_change() -> None:
    random = np.random.default_rng(5)
    values = random.normal(size=3_000)
    values[2_000] = 1e3
    assert first_alarm(MeanChange(), values, 1, start=1_990)[0] is None


def test_what_is_told_is_not_clipped() -> None:
    random = np.random.default_rng(5)
    values = np.concatenate([random.normal(size=2_000), random.normal(30.0, 1.0, 40)])
    seen, reading = first_alarm(MeanChange(), values, 10, start=1_000)
    assert (seen or 0) > 2_000
    assert reading is not None
    assert reading.after == pytest.approx(30.0, abs=1.0)


def test_a_fall_of_a_judges_score_by_a_third_is_found_within_50() -> None:
    for seed in range(10):
        random = np.random.default_rng(seed)
        values = np.concatenate([random.beta(8, 2, 1_000), random.beta(5, 5, 60)])
        seen, reading = first_alarm(MeanChange("fall"), values, 5, start=900)
        assert seen is not None
        assert reading is not None
        assert 1_000 < seen <= 1_050
        assert reading.before == pytest.approx(0.8, abs=0.03)


def test_slow_poisoning_is_caught_before_five_times() -> None:
    """The mean creeps up by half a percent of itself a step (reliability test 28)."""
    test = MeanChange("rise", floor=LEVEL)
    for seed in range(20):
        random = np.random.default_rng(seed)
        steps = np.concatenate([np.ones(60), 1.005 ** np.arange(300)])
        values = random.normal(np.repeat(steps, 100), 0.5)
        seen, _ = first_alarm(test, values, 100, start=6_000)
        assert seen is not None
        assert steps[seen // 100 - 1] < 1.5


def test_constant_values_do_not_make_any_change_certain() -> None:
    values = np.concatenate([np.ones(500), np.full(20, 1.002)])
    assert first_alarm(MeanChange(), values, 5)[0] is None


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), min_size=1, max_size=40),
    st.sampled_from(("rise", "fall", "both")),
)
def test_no_values_are_an_error(batches: list[list[float]], direction: Direction) -> None:
    test, state = MeanChange(direction, floor=1e-6, min_reference=10), MeanChange.State()
    for at, batch in enumerate(batches):
        reading = test.update(state, len(batch), sum(batch), sum(each**2 for each in batch), at)
        assert reading is None or np.isfinite(reading.run_length)
    assert np.isfinite(test.reference(state).sd)
