"""slice_regression: the slice that fares worse is named, the simplest one, and healthy slices are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import pytest

from detectors.activity import Activity, Scores
from detectors.behaviour.slice_regression import SliceRegression, standing
from detectors.slice_table import MAX_SLICES, MAX_VALUES, Slices
from detectors.slice_watch import SliceWatch
from detectors.testing import START_MS, run_windows, window
from detectors.windows import Window
from schemas.detection import Detection

LANGUAGES = ("en", "de", "ja")
TIERS = ("free", "pro")
Rate = Callable[[str, str, int], float]


def calls(seed: int, rate: Rate, frames: int = 240, each: int = 8) -> Iterator[Window]:
    """Calls of three languages and two tiers; how many fail is `rate` of language, tier and frame."""
    rng = np.random.default_rng(seed)
    for number in range(frames):
        parts = {}
        for language in LANGUAGES:
            for tier in TIERS:
                count = int(rng.poisson(each / 2 if language == "ja" else each))
                failed = int(rng.binomial(count, rate(language, tier, number)))
                parts[f"prompt=v1;language={language};tier={tier}"] = Activity(
                    llm_calls=count, llm_errors=failed
                )
        yield window(number, parts=parts)


def found_in(windows: Iterator[Window]) -> list[Detection]:
    return run_windows(SliceRegression(), windows)


def named(found: list[Detection]) -> set[str]:
    return {one.metric for one in found}


@pytest.mark.parametrize("seed", range(6))
def test_a_language_that_begins_to_fail_is_named_and_nothing_else(seed: int) -> None:
    found = found_in(calls(seed, lambda lang, _, n: 0.35 if lang == "ja" and n >= 120 else 0.04))
    assert named(found) == {"calls:language=ja"}
    assert found[-1].severity == "critical"
    for one in found:
        assert one.onset is not None
        assert one.onset.timestamp() * 1000 >= START_MS + 100 * 10_000
        assert one.sample_size > 0


@pytest.mark.parametrize("seed", range(6))
def test_a_pair_is_named_where_only_the_pair_fails(seed: int) -> None:
    def rate(language: str, tier: str, number: int) -> float:
        return 0.5 if (language, tier) == ("de", "pro") and number >= 120 else 0.04

    assert named(found_in(calls(seed, rate))) == {"calls:language=de;tier=pro"}


@pytest.mark.parametrize("seed", range(6))
def test_what_failed_from_the_first_day_is_found_against_the_rest(seed: int) -> None:
    found = found_in(calls(seed, lambda lang, *_: 0.45 if lang == "ja" else 0.04))
    assert named(found) == {"calls:language=ja"}


@pytest.mark.parametrize("seed", range(4))
def test_what_moves_all_slices_alike_is_of_no_slice(seed: int) -> None:
    """A provider's hiccup, a night, a release that is worse for everybody."""
    assert found_in(calls(seed, lambda _lang, _tier, n: 0.3 if 100 <= n < 130 or n > 200 else 0.03)) == []


def test_healthy_slices_that_differ_are_left_alone() -> None:
    """Languages of different but constant rates, for a long time."""
    rates = {"en": 0.02, "de": 0.035, "ja": 0.015}
    for seed in range(4):
        assert found_in(calls(seed, lambda lang, *_: rates[lang], frames=1_500)) == []


def test_sessions_and_scores_are_searched_too() -> None:
    rng = np.random.default_rng(3)

    def shown(number: int, *, outcomes: bool) -> Window:
        parts = {}
        for index in ("handbook%401", "memory"):
            poisoned = index == "memory" and number >= 150
            if outcomes:
                bad = int(rng.binomial(6, 0.5 if poisoned else 0.05))
                parts[f"index={index}"] = Activity(outcomes={"completed": 6 - bad, "failed": bad})
                continue
            moments = Scores()
            for score in rng.normal(0.55 if poisoned else 0.85, 0.12, 3):
                moments.add(float(np.clip(score, 0, 1)))
            parts[f"index={index}"] = Activity(evaluations={"groundedness": moments})
        return window(number, parts=parts)

    failing = found_in(shown(number, outcomes=True) for number in range(260))
    assert named(failing) == {"sessions:index=memory"}
    scored = found_in(shown(number, outcomes=False) for number in range(260))
    assert named(scored) == {"scores:index=memory"}
    assert "standard deviations below" in scored[0].summary


def test_a_slice_that_recovers_is_well_again_and_may_fail_again() -> None:
    def rate(language: str, _tier: str, number: int) -> float:
        return 0.4 if language == "ja" and (120 <= number < 200 or number >= 600) else 0.04

    state, standings = SliceWatch(), []
    for shown in calls(2, rate, frames=800):
        state.take(shown, shown.total())
        standings.append(standing(state).verdict)
    assert standings[119] == "healthy"
    assert standings[199] == "critical"
    assert standings[599] == "healthy"
    assert standings[-1] == "critical"


def test_a_restart_anywhere_changes_nothing() -> None:
    windows = list(calls(1, lambda lang, _, n: 0.35 if lang == "ja" and n >= 120 else 0.04))
    expected = [one.detection_id for one in run_windows(SliceRegression(), windows)]
    assert expected
    for cut in (1, 60, 130, 150):
        again = run_windows(SliceRegression(), windows, restart_at=cut)
        assert [one.detection_id for one in again] == expected


def test_dimensions_with_too_many_values_are_dropped_and_the_frequent_slices_kept() -> None:
    slices, rng = Slices(), np.random.default_rng(1)
    for number in range(4_000):
        language = "en" if number % 3 else "de"
        city = f"c{int(rng.integers(MAX_VALUES - 1))}"
        plan = f"p{int(rng.integers(MAX_VALUES))}"
        slices.rows_of(f"city={city};language={language};plan={plan};user=u{number}", 1.0)
        slices.settle()
    assert slices.values["user"] == []
    assert len(slices.rows) <= MAX_SLICES
    assert sorted(slices.rows.values()) == list(range(len(slices.seen)))
    assert {"language=en", "language=de"} <= set(slices.rows)
    assert not any(name.startswith("user=") and row in slices.held for name, row in slices.rows.items())


def test_the_state_stays_small_with_everything_in_use() -> None:
    state, rng = SliceWatch(), np.random.default_rng(2)
    for number in range(300):
        parts = {}
        for _ in range(12):
            names = {"language": 8, "segment": 4, "channel": 5, "region": 10}
            key = ";".join(f"{name}=value-{int(rng.integers(most))}" for name, most in names.items())
            moments = Scores()
            moments.add(0.8)
            parts[key] = Activity(
                llm_calls=5,
                llm_errors=int(rng.random() < 0.2),
                outcomes={"completed": 1},
                evaluations={"e": moments},
            )
        shown = window(number, parts=parts)
        state.take(shown, shown.total())
    assert len(state.slices.rows) == MAX_SLICES
    assert len(msgspec.msgpack.encode(state)) <= 8 * 1024
