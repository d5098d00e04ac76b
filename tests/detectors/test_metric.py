"""The metric detector finds what it should on made-up series, and says nothing where it cannot tell."""

from __future__ import annotations

import doctest
import math
from types import ModuleType

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detectors.sequential import metric, tails, views
from detectors.sequential.metric import MetricAnomaly, MetricState, Score
from detectors.sequential.tails import Tails, TailState
from detectors.sequential.views import NAMES, Views

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
PAGING = MetricAnomaly(level=10.0)


def scores(
    values: NDArray[np.float64] | list[float], test: MetricAnomaly = PAGING, step_ms: int = MINUTE_MS
) -> list[Score | None]:
    state = test.begin()
    return [test.update(state, step_ms * row, float(value)) for row, value in enumerate(values)]


def alarms(given: list[Score | None]) -> list[int]:
    return [row for row, score in enumerate(given) if score is not None and score.alarm]


def normal(seed: int, rows: int = 2_000) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=rows)


def test_nothing_can_be_told_before_the_minimum() -> None:
    given = scores(normal(1, 300))
    assert given[: PAGING.minimum - 1] == [None] * (PAGING.minimum - 1)
    assert all(score is not None for score in given[PAGING.minimum - 1 :])


@pytest.mark.parametrize(
    ("change", "within"),
    [
        (lambda values: np.where(np.arange(len(values)) == 1_500, 15.0, values), 1),
        (lambda values: np.where(np.arange(len(values)) >= 1_500, values + 6.0, values), 3),
        (lambda values: np.where(np.arange(len(values)) >= 1_500, values - 6.0, values), 3),
        (lambda values: np.where(np.arange(len(values)) >= 1_500, values * 6.0, values), 10),
    ],
    ids=["spike", "level up", "level down", "variance"],
)
def test_a_change_is_found_soon_and_nothing_before_it(change, within: int) -> None:
    found = [alarms(scores(change(normal(seed)))) for seed in range(4)]
    assert all(min(rows) >= 1_500 for rows in found)
    assert all(min(rows) < 1_500 + within for rows in found)


def test_a_flat_line_where_there_was_noise_is_among_the_most_surprising_things() -> None:
    values = normal(3)
    values[1_500:] = values[1_499]
    given = [score for score in scores(values) if score is not None]
    flat = max(given[-500:], key=lambda score: score.nats)
    assert (flat.view, flat.high) == ("roughness", False)
    assert flat.nats > 6.0


def test_a_usual_peak_at_an_unusual_hour_is_found() -> None:
    rows = np.arange(24 * 60)
    values = np.random.default_rng(5).normal(scale=0.3, size=len(rows)) + 10.0 * (rows % 24 == 9)
    assert not alarms(scores(values[: 24 * 50], step_ms=HOUR_MS))
    values[24 * 50 + 9] = 0.0
    values[24 * 50 + 21] = 10.0
    assert {24 * 50 + 9, 24 * 50 + 21} & set(alarms(scores(values, step_ms=HOUR_MS)))


def test_noise_alone_keeps_quiet() -> None:
    judged = sum(len(alarms(scores(normal(seed, 5_000)))) for seed in range(10, 14))
    assert judged <= 2


def test_a_long_anomaly_is_told_once_or_twice_not_by_the_row() -> None:
    values = normal(7)
    values[1_500:1_700] += 12.0
    assert 1 <= len(alarms(scores(values))) <= 4


def test_what_keeps_recurring_is_told_less_and_less() -> None:
    test = MetricAnomaly(level=7.8, fatigue=1.0, memory=1e9)
    state = test.begin()
    news = [test.news(state, 9.0 if row % 400 == 399 else 0.0) for row in range(8_000)]
    told = [row for row, each in enumerate(news) if each >= test.level]
    assert told == [399, 799, 1_199]


def test_after_an_alarm_only_what_is_far_worse_is_news_until_it_is_calm_again() -> None:
    test = MetricAnomaly(level=8.0, again=4.0, fatigue=0.0, hold=20)
    state = test.begin()
    assert test.news(state, 9.0) == 9.0
    assert test.news(state, 12.0) == 0.0
    assert test.news(state, 13.5) == 13.5
    assert [test.news(state, 0.0) for _ in range(200)] == [0.0] * 200
    assert test.news(state, 9.0) == 9.0


@given(st.integers(0, 250), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_the_state_survives_being_encoded_anywhere(cut: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_t(2, size=260).tolist()
    state = MetricState(PAGING.views.begin(), [TailState() for _ in NAMES])
    for row, value in enumerate(values):
        if row == cut:
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=MetricState)
        last = PAGING.update(state, MINUTE_MS * row, value)
    assert last == scores(values)[-1]


def test_the_state_does_not_grow() -> None:
    state = PAGING.begin()
    sizes = []
    for row, value in enumerate(normal(9, 6_000)):
        PAGING.update(state, HOUR_MS * row, float(value))
        if row in (1_000, 5_999):
            sizes.append(len(msgspec.msgpack.encode(state)))
    assert sizes[1] <= sizes[0] + 200
    assert sizes[1] < 4_096


@given(
    st.lists(st.floats(-1e12, 1e12), min_size=200, max_size=260),
    st.lists(st.integers(-HOUR_MS, 10 * HOUR_MS), min_size=260, max_size=260),
)
@settings(max_examples=25, deadline=None)
def test_any_values_at_any_times_give_finite_scores(values: list[float], steps_ms: list[int]) -> None:
    state, time_ms = PAGING.begin(), 1_700_000_000_000
    for value, step_ms in zip(values, steps_ms, strict=False):
        time_ms += step_ms
        score = PAGING.update(state, time_ms, value)
        if score is not None:
            assert math.isfinite(score.nats)
            assert 0.0 <= score.news <= score.nats


@given(st.floats(1e-6, 1e6), st.floats(-100.0, 100.0))
@settings(max_examples=10, deadline=None)
def test_the_unit_of_the_value_makes_no_difference(scale: float, shift: float) -> None:
    values = normal(11, 400)
    values[350] = 9.0
    as_they_are, in_other_units = scores(values), scores((values + shift) * scale)
    for one, other in zip(as_they_are, in_other_units, strict=True):
        assert (one is None) is (other is None)
        if one is not None and other is not None:
            assert one.nats == pytest.approx(other.nats, rel=1e-3, abs=1e-3)


def test_a_constant_series_is_no_surprise_and_its_first_change_is() -> None:
    values = [5.0] * 500 + [6.0] + [5.0] * 20
    given = scores(values)
    assert all(score is None or score.nats == 0.0 for score in given[:500])
    assert alarms(given)[0] == 500


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="leave out what was not measured"):
        PAGING.update(PAGING.begin(), 0, value)


def test_the_tail_of_a_normal_distribution_is_told_about_right_and_a_heavy_one_is_not_feared() -> None:
    for seed in range(3):
        random = np.random.default_rng(seed)
        test, state = Tails(), TailState()
        for number in random.normal(size=6_000):
            test.update(state, float(number))
        assert test.update(state, 3.5)[0] == pytest.approx(8.37, abs=1.5)
        assert test.update(state, -3.5) == (pytest.approx(8.37, abs=1.5), False)
        heavy = TailState()
        surprises = [test.update(heavy, float(number))[0] for number in random.standard_t(3, size=6_000)]
        assert sum(surprise > 9.0 for surprise in surprises) <= 6


def test_views_see_what_they_are_named_after() -> None:
    seen = Views()
    state = seen.begin()
    for row in range(1_000):
        calm = dict(zip(NAMES, seen.update(state, HOUR_MS * row, 1.0), strict=True))
    assert {name: calm[name] for name in ("step", "swing", "trend", "of the hour", "unexplained", "run")} == {
        "step": 0.0, "swing": 0.0, "trend": 0.0, "of the hour": 0.0, "unexplained": 0.0, "run": 0.0,
    }  # fmt: skip
    for row in range(1_000, 1_010):
        changed = dict(zip(NAMES, seen.update(state, HOUR_MS * row, 3.0), strict=True))
    assert changed["unexplained"] == changed["step"] < changed["swing"] < changed["of the hour"]
    assert changed["trend"] > 0.5
    assert changed["run"] > 3.0
    assert changed["roughness"] > calm["roughness"]


@pytest.mark.parametrize("module", [metric, tails, views], ids=lambda module: module.__name__)
def test_the_examples_hold(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


def test_values_of_any_size_are_taken() -> None:
    """Hours are kept in single precision, which ends at 3.4e38."""
    test = MetricAnomaly()
    state = test.begin()
    for hour in range(200):
        test.update(state, HOUR_MS * hour, (-1) ** hour * 1e300)
    far = [1e12 + hour % 24 for hour in range(24 * 30)]
    assert alarms(scores(far, step_ms=HOUR_MS)) == []
