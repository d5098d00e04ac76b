"""A series under watch: told on transitions only, nothing learned under alarm, recovery, and restarts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np
import pytest

from detectors.mean_watch import MeanSeries, MeanWatch
from detectors.rate_watch import RateSeries, RateWatch
from detectors.sequential.mean import MeanChange
from detectors.sequential.onsets import Reading
from detectors.sequential.rate import RateChange
from detectors.watch import SETTLED, Watch

STEP = 10
FRAME_MS = 60_000
HOUR_FRAMES = 60


def doubled(reading: Reading) -> bool:
    return reading.after >= 2 * reading.before


WATCH = RateWatch(Watch("refusal_rate", doubled), RateChange("rise"))
Told = tuple[str, int]
"""Severity, and the frame it came with."""


def frames(rates: Iterable[float], seed: int) -> Iterator[int]:
    """Hits among `STEP` observations, one frame for each rate."""
    random = np.random.default_rng(seed)
    for rate in rates:
        yield int(random.binomial(STEP, rate))


def watched(hits: Iterable[int], series: RateSeries | None = None, first: int = 0) -> list[Told]:
    series = RateSeries() if series is None else series
    told: list[Told] = []
    for number, hit in enumerate(hits, first):
        raised = WATCH.observe(series, STEP, hit, float(number * FRAME_MS))
        if raised is not None:
            told.append((raised.severity, number))
    return told


def severities(told: Iterable[Told]) -> list[str]:
    return [severity for severity, _ in told]


@pytest.mark.parametrize("seed", range(8))
def test_a_failure_that_goes_on_is_told_once(seed: int) -> None:
    told = watched(frames([0.02] * 200 + [0.08] * 3_000, seed))
    assert severities(told) in (["critical"], ["warning", "critical"])
    assert all(number >= 200 for _, number in told)


def test_a_warning_outlasts_frames_without_a_hit() -> None:
    """A rise that is not severe: its evidence comes with hits, and most frames have none."""
    hits = [int(number % 5 == 0) for number in range(300)]
    risen = [int(number % 3 == 0) for number in range(1_500)]
    assert severities(watched(hits + risen)) == ["warning"]


def test_a_warning_that_nothing_speaks_for_any_more_is_over() -> None:
    series = RateSeries()
    hits = [int(number % 5 == 0) for number in range(300)]
    risen = [int(number % 3 == 0) for number in range(1_500)]
    told: list[Told] = []
    for number, hit in enumerate(hits + risen):
        told += watched([hit], series, number)
        if told:
            break
    assert severities(told) == ["warning"]
    assert not series.settled
    fewer = [int(number % 12 == 0) for number in range(300)]
    assert watched(fewer, series, number + 1) == []
    assert series.severity == ""


def test_a_warning_that_is_known_to_be_bad_may_still_become_critical() -> None:
    mild = [int(number % 5 == 0) for number in range(300)] + [int(number % 3 == 0) for number in range(1_000)]
    assert 1_000 * STEP > 2 * SETTLED
    told = watched(mild + [2, 3] * 100)
    assert severities(told) == ["warning", "critical"]
    assert 1_300 <= told[1][1] <= 1_330


def test_what_is_under_alarm_is_not_learned() -> None:
    series = RateSeries()
    watched(frames([0.02] * 300, 1), series)
    before = WATCH.test.reference(series.test).rate
    watched(frames([0.15] * 3_000, 2), series, 300)
    assert series.severity == "critical"
    assert WATCH.test.reference(series.test).rate == pytest.approx(before, abs=0.004)


@pytest.mark.parametrize("seed", range(4))
def test_a_series_that_has_recovered_is_told_of_again(seed: int) -> None:
    series = RateSeries()
    told = watched(frames([0.02] * 300 + [0.1] * 200 + [0.02] * 300 + [0.1] * 100, seed), series)
    critical = [number for severity, number in told if severity == "critical"]
    assert len(critical) == 2
    assert 300 <= critical[0] < 340
    assert 800 <= critical[1] < 840
    assert series.before < 0.04


@pytest.mark.parametrize("seed", range(6))
def test_a_little_better_is_not_recovered(seed: int) -> None:
    """Half-way back is not back, however the rate after was overestimated at first."""
    told = watched(frames([0.02] * 300 + [0.1] * 60 + [0.06] * 2_500, seed))
    assert severities(told).count("critical") == 1


def test_an_alarm_that_was_false_is_withdrawn() -> None:
    """By chance before looked better, and since looked worse, than the rate that there was all along."""
    series = RateSeries()
    lucky, unlucky = [0.012] * 200, [0.15] * 6
    told = watched(frames(lucky + unlucky, 2), series)
    assert severities(told)[-1] == "critical"
    for number, hit in enumerate(frames([0.016] * 3_000, 3), 206):
        watched([hit], series, number)
        if not series.severity:
            break
    assert not series.severity
    assert number < 1_000


def test_a_rhythm_of_the_day_is_no_change() -> None:
    number = np.arange(24 * HOUR_FRAMES * 12)
    rates = 0.03 * (1 + 0.6 * np.sin(2 * np.pi * number / (24 * HOUR_FRAMES)))
    told = watched(frames(rates[: 24 * HOUR_FRAMES * 4], 1))
    later = watched(frames(rates, 1))[len(told) :]
    assert "critical" not in severities(later)


@pytest.mark.parametrize("cut", [50, 215, 260, 700, 990])
def test_a_restart_anywhere_changes_nothing(cut: int) -> None:
    hits = list(frames([0.02] * 200 + [0.1] * 300 + [0.02] * 300 + [0.1] * 200, 3))
    series = RateSeries()
    told = watched(hits[:cut], series)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(series), type=RateSeries)
    assert told + watched(hits[cut:], again, cut) == watched(hits)


def test_a_mean_recovers_too() -> None:
    random = np.random.default_rng(5)
    watch = MeanWatch(
        Watch("judge_score", lambda reading: reading.after < reading.before - 0.1), MeanChange("fall")
    )
    series, told = MeanSeries(), []
    for number, mean in enumerate([0.8] * 100 + [0.5] * 200 + [0.8] * 100 + [0.5] * 40):
        scores = random.normal(mean, 0.15, 5)
        raised = watch.observe(
            series, 5, float(scores.sum()), float((scores**2).sum()), float(number * FRAME_MS)
        )
        if raised is not None:
            told.append((raised.severity, number))
    critical = [number for severity, number in told if severity == "critical"]
    assert len(critical) == 2
    assert 100 <= critical[0] < 106
    assert 400 <= critical[1] < 406
    assert series.before == pytest.approx(0.8, abs=0.03)
