"""A change of rate is found soon, at the run length it says; exposure may be fractional, requests alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.sequential.onsets import Direction, Reading, Spans
from detectors.sequential.rate import RateChange

Phases = list[tuple[float, int]]
LEVEL = 15_000.0


def first_alarm(
    test: RateChange, seed: int, phases: Phases, window: int
) -> tuple[int | None, Reading | None]:
    """Observations until the first alarm, and its reading, under (rate, number of observations) in turn."""
    random = np.random.default_rng(seed)
    state, seen = test.State(), 0
    for rate, observations in phases:
        for hits in random.binomial(window, rate, observations // window):
            reading = test.update(state, window, int(hits), seen)
            seen += window
            if reading is not None and reading.run_length >= LEVEL:
                return seen, reading
    return None, None


def test_two_to_eight_percent_is_found_within_250_observations() -> None:
    delays, errors = [], []
    for seed in range(30):
        seen, reading = first_alarm(RateChange(floor=LEVEL), seed, [(0.02, 3_000), (0.08, 1_000)], 10)
        assert seen is not None
        assert reading is not None
        if seen > 3_000:
            delays.append(seen - 3_000)
            errors.append(abs(reading.began - 3_000))
    assert len(delays) >= 24
    assert np.mean(delays) < 135
    assert np.mean(np.array(delays) <= 250) >= 0.9
    assert np.median(errors) <= 60


@pytest.mark.parametrize(("direction", "rate"), [("rise", 0.02), ("fall", 0.9), ("both", 0.1)])
def test_the_false_alarm_run_length_is_at_least_what_it_says(direction: Direction, rate: float) -> None:
    # The mean of runs that are cut is a lower bound of the run length.
    test = RateChange(direction, floor=LEVEL)
    runs = [first_alarm(test, seed, [(rate, 40_000)], 40)[0] or 40_000 for seed in range(12)]
    assert np.mean(runs) >= LEVEL


def test_a_fall_is_found_and_not_by_who_looks_for_a_rise() -> None:
    phases = [(0.9, 3_000), (0.7, 400)]
    for direction in ("fall", "both"):
        seen, reading = first_alarm(RateChange(direction), 1, phases, 10)
        assert seen is not None
        assert reading is not None
        assert 3_000 < seen < 3_150
        assert reading.after < reading.before
    assert first_alarm(RateChange("rise"), 1, phases, 10) == (None, None)


def test_requests_alike_in_bursts_cry_wolf_far_less_than_if_each_counted() -> None:
    def mean_run(copies: int, counted: int) -> float:
        test, runs = RateChange(floor=LEVEL), []
        for seed in range(8):
            random, state = np.random.default_rng(seed), test.State()
            ran = 20_000
            for at in range(0, 20_000, 40):
                hits = int(random.binomial(40 // copies, 0.05)) * counted
                reading = test.update(state, 40 * counted // copies, hits, at)
                if at > 2_000 and reading is not None and reading.run_length >= LEVEL:
                    ran = at
                    break
            runs.append(ran)
        return float(np.mean(runs))

    # As measured: 12,000 of 15,000 for bursts of four; some 600 if each of a burst counted.
    assert mean_run(copies=4, counted=4) > 6_000


@pytest.mark.parametrize("observations", [200, 1_000])
def test_slow_poisoning_is_caught_before_five_times(observations: int) -> None:
    """The rate creeps up by half a percent of itself a step (reliability test 28)."""
    test, window = RateChange(floor=LEVEL), 100
    for seed in range(20):
        random, state = np.random.default_rng(seed), test.State()
        for hits in random.binomial(window, 0.02, 12_000 // window):
            test.update(state, window, int(hits), 0)
        times = _caught(test, state, random, observations // window, window)
        assert times is not None
        assert times < 2.5


def _caught(
    test: RateChange, state: RateChange.State, random: np.random.Generator, windows: int, size: int
) -> float | None:
    times = 1.0
    while times < 5.0:
        times *= 1.005
        for hits in random.binomial(size, 0.02 * times, windows):
            reading = test.update(state, size, int(hits), 1)
            if reading is not None and reading.run_length >= LEVEL:
                return times
    return None


def test_a_creep_that_the_reference_follows_is_caught_by_the_frozen_one() -> None:
    def caught(freeze: int, seed: int) -> float | None:
        spans = Spans(horizon=500, memory=1_000, freeze=freeze)
        test = RateChange(odds_ratios=(3.0, 7.0), spans=spans, floor=LEVEL)
        random, state = np.random.default_rng(seed), test.State()
        for hits in random.binomial(100, 0.02, 40):
            test.update(state, 100, int(hits), 0)
        return _caught(test, state, random, 10, 100)

    frozen = [caught(2_000, seed) for seed in range(6)]
    # A frozen reference too small to be one is never used.
    followed = [caught(1, seed) for seed in range(6)]
    assert all(times is not None and times < 4.0 for times in frozen)
    assert np.mean([times or 5.0 for times in frozen]) < np.mean([times or 5.0 for times in followed]) - 0.3


def test_it_cannot_tell_before_it_has_a_reference() -> None:
    test, state = RateChange(), RateChange.State()
    assert test.update(state, 50, 0, 1) is None
    assert test.update(state, 49, 49, 2) is None
    assert test.update(state, 0, 0, 3) is None


def test_after_a_restart_the_old_rate_is_known_and_the_new_one_not() -> None:
    test, state = RateChange(), RateChange.State()
    for at in range(200):
        test.update(state, 10, int(at % 5 == 0), at)
    for at in range(200, 230):
        if (reading := test.update(state, 10, 4, at)) is not None and reading.run_length >= LEVEL:
            break
    assert reading is not None
    assert reading.began in range(196, 203)
    test.restart(state, reading.began)
    assert test.reference(state).rate == pytest.approx(0.02, abs=0.003)
    assert state.recent == []


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.01, 50), st.floats(0, 60)), min_size=1, max_size=60),
    st.sampled_from(("rise", "fall", "both")),
)
def test_fractional_exposure_and_hits_beyond_it_are_no_error(
    batches: list[tuple[float, float]], direction: Direction
) -> None:
    test, state = RateChange(direction, floor=1e-6), RateChange.State()
    for at, (count, hits) in enumerate(batches):
        reading = test.update(state, count, hits, at)
        assert reading is None or np.isfinite(reading.run_length)
    assert 0.0 < test.reference(state).rate < 1.0
