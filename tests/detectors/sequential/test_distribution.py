"""A change of distribution is found soon, at the run length it says, from the first sparse histogram on."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from detectors.sequential.distribution import DistributionChange, Divergence

LEVEL = 15_000.0
BINS = 16
Floats = NDArray[np.float64]


def first_alarm(
    values: Floats, window: int, start: int = 0, bins: int = BINS
) -> tuple[int | None, Divergence | None]:
    """Of values in standard deviations, in bins of half of one."""
    test = DistributionChange(bins, floor=LEVEL)
    state = test.State()
    places = np.clip(values * 2 + bins / 2, 0, bins - 1).astype(int)
    for at in range(0, len(values), window):
        counts = np.bincount(places[at : at + window], minlength=bins).tolist()
        reading = test.update(state, counts, at)
        if at >= start and reading is not None and reading.run_length >= LEVEL:
            return at + window, reading
    return None, None


@pytest.mark.parametrize("spread", [0.1, 1.0])
def test_the_false_alarm_run_length_is_at_least_what_it_says(spread: float) -> None:
    # Of a narrow distribution nearly all bins are empty. The mean of runs that are cut is a lower bound.
    streams = [np.random.default_rng(seed).normal(0, spread, 20_000) for seed in range(8)]
    assert np.mean([first_alarm(values, 30)[0] or 20_000 for values in streams]) >= LEVEL


@pytest.mark.parametrize(
    ("mean", "spread", "delay"),
    [(1.0, 1.0, 26), (0.0, 2.0, 27), (0.0, 0.6, 65)],
    ids=["shift", "wider", "narrower"],
)
def test_a_change_of_place_or_spread_is_found(mean: float, spread: float, delay: int) -> None:
    delays = []
    for seed in range(8):
        random = np.random.default_rng(seed)
        values = np.concatenate([random.normal(size=2_000), random.normal(mean, spread, 300)])
        seen, reading = first_alarm(values, 4, start=1_500)
        assert seen is not None
        assert reading is not None
        if seen > 2_000:
            delays.append(seen - 2_000)
            assert reading.divergence > 0.1
    assert len(delays) >= 6
    assert np.mean(delays) < delay


def test_a_second_mode_where_nothing_was_is_found() -> None:
    random = np.random.default_rng(1)
    new = np.where(random.random(300) < 0.15, random.normal(3.5, 0.2, 300), random.normal(size=300))
    seen, reading = first_alarm(np.concatenate([random.normal(size=2_000), new]), 4, start=1_500)
    assert seen is not None
    assert reading is not None
    assert 2_000 < seen < 2_080
    assert reading.began == pytest.approx(2_000, abs=30)


def test_a_histogram_seen_before_is_known_and_restarting_forgets() -> None:
    test = DistributionChange(3)
    state = test.State()
    for at in range(100):
        test.update(state, [6, 3, 1], at)
    known = test.reference(state)
    assert known.observations == 1_000
    assert known.shares == pytest.approx([0.6, 0.3, 0.1], abs=0.01)
    test.restart(state, state.recent[0].began)
    assert test.reference(state).observations == 0
    assert test.update(state, [0, 0, 0], 200) is None
