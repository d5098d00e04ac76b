"""The e-detector keeps its false-alarm run length and finds a rise soon; small counts, seeded."""

from __future__ import annotations

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.sequential.e_detector import Alarm, RateRise

Phases = list[tuple[float, int]]


def first_alarm(seed: int, phases: Phases, window: int) -> tuple[int | None, Alarm | None]:
    """Observations until the first alarm, and the alarm, under (rate, number of observations) in turn."""
    random = np.random.default_rng(seed)
    test, state, seen = RateRise(), RateRise.State(), 0
    for rate, observations in phases:
        for _ in range(observations // window):
            alarm = test.update(state, window, int(random.binomial(window, rate)), seen)
            seen += window
            if alarm is not None:
                return seen, alarm
    return None, None


def test_two_to_eight_percent_is_found_within_250_observations() -> None:
    delays, errors = [], []
    for seed in range(50):
        seen, alarm = first_alarm(seed, [(0.02, 3_000), (0.08, 1_000)], 10)
        assert seen is not None
        assert alarm is not None
        if seen > 3_000:
            delays.append(seen - 3_000)
            errors.append(abs(alarm.began - 3_000))
    assert len(delays) >= 40
    assert np.mean(delays) < 140
    assert np.mean(np.array(delays) <= 250) >= 0.9
    assert np.median(errors) <= 60


def test_the_false_alarm_run_length_is_at_least_what_it_says() -> None:
    # The mean of runs that are cut is a lower bound of the run length.
    runs = [first_alarm(seed, [(0.02, 50_000)], 25)[0] or 50_000 for seed in range(16)]
    assert np.mean(runs) >= 15_000


def test_onsets_are_few_however_long_it_runs() -> None:
    random = np.random.default_rng(3)
    test, state = RateRise(run_length=1e300), RateRise.State()
    for turn in range(3_000):
        test.update(state, 7, int(random.binomial(7, 0.02)), turn)
    assert len(state.recent) <= 80
    assert state.count <= test.memory
    assert len(msgspec.msgpack.encode(state)) < 2_048


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), max_size=80))
def test_nothing_is_lost_while_stretches_are_joined(observations: list[tuple[int, int]]) -> None:
    test, state = RateRise(run_length=1e300), RateRise.State()
    for turn, (count, events) in enumerate(observations):
        test.update(state, count, min(count, events), turn)
    assert state.count + sum(each.count for each in state.recent) == sum(count for count, _ in observations)
    assert state.events + sum(each.events for each in state.recent) == sum(min(each) for each in observations)
    assert [each.began for each in state.recent] == sorted(each.began for each in state.recent)
