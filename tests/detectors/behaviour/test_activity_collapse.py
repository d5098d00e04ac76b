"""An agent that does nothing in its sessions, one that has stopped, and quiet hours that are no failure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import log1p, pi, sin
from typing import Any

import numpy as np
import pytest

from detectors.activity import Moments
from detectors.behaviour.activity_collapse import ActivityCollapse
from detectors.seasonal import DAY_MS, HOUR_MS
from detectors.testing import START_MS, run_windows, window
from detectors.windows import Window
from schemas.base import epoch_ms
from schemas.detection import Detection

MONDAY_MS = START_MS - START_MS % DAY_MS + 3 * DAY_MS
Rate = Callable[[int, int], float]
"""Sessions an hour, from the day (0 is a Monday) and the hour."""


def office(day: int, hour: int) -> float:
    return 0.0 if day % 7 >= 5 or not 8 <= hour < 18 else 12.0


def always(_day: int, hour: int) -> float:
    return 6.0 + 4.0 * sin(pi * hour / 24)


def mondays(day: int, hour: int) -> float:
    return 15.0 if day % 7 == 0 and 9 <= hour < 12 else 0.0


def every_third_day(day: int, hour: int) -> float:
    return 10.0 if day % 3 == 0 and 9 <= hour < 13 else 0.0


def now_and_then(day: int, hour: int) -> float:
    """On a third of all days."""
    return 5.0 if np.random.default_rng(day).random() < 0.35 and 9 <= hour < 17 else 0.0


def hours(first: int, last: int, seed: int, rate: Rate, actions: float = 5.0) -> list[Window]:
    """A window for each session, `first` and `last` in hours since that Monday."""
    random = np.random.default_rng((seed, first))
    made: list[Window] = []
    for hour in range(first, last):
        expected = rate(hour // 24, hour % 24) * random.gamma(4.0, 0.25)
        for begin in np.sort(random.random(int(random.poisson(expected)))):
            done = int(random.poisson(actions))
            work = Moments()
            work.add(log1p(done) + log1p(done // 4))
            start_ms = int(MONDAY_MS + (hour + begin) * HOUR_MS)
            number = (start_ms - START_MS) // 10_000
            more: dict[str, Any] = {"llm_calls": 3, "tool_calls": done, "session_work": work}
            made.append(window(number, sessions_started=1, outcomes={"completed": 1}, **more))
    return made


def told(found: Iterable[Detection], since_h: float) -> list[tuple[str, str, float]]:
    """Metric, severity, and hours since."""
    return [(one.metric, one.severity, (epoch_ms(one.time) - MONDAY_MS) / HOUR_MS - since_h) for one in found]


@pytest.mark.parametrize("rate", [office, always])
@pytest.mark.parametrize("seed", range(2))
def test_quiet_weekends_and_nights_are_not_told_of(seed: int, rate: Rate) -> None:
    assert run_windows(ActivityCollapse(), hours(0, 24 * 21, seed, rate), quiet_ms=2 * HOUR_MS) == []


@pytest.mark.parametrize("rate", [mondays, every_third_day])
def test_days_off_that_come_again_are_no_critical_and_soon_no_warning(rate: Rate) -> None:
    found = told(run_windows(ActivityCollapse(), hours(0, 24 * 42, 1, rate), quiet_ms=HOUR_MS), 0)
    assert not [after_h for _, severity, after_h in found if severity == "critical"]
    assert not [after_h for _, _, after_h in found if after_h > 24 * 15]


def test_days_off_without_any_order_are_critical_once_a_month_at_most() -> None:
    found = run_windows(ActivityCollapse(), hours(0, 24 * 60, 1, now_and_then), quiet_ms=HOUR_MS)
    assert [one.severity for one in found].count("critical") <= 2


@pytest.mark.parametrize(("rate", "stops", "within_days"), [(mondays, 50, 10), (every_third_day, 48, 6)])
def test_an_agent_with_days_off_that_stops_is_critical_soon_after_it_is_missed(
    rate: Rate, stops: int, within_days: int
) -> None:
    working = hours(0, 24 * stops, 1, rate)
    last_h = 24 * (stops - 1) if rate is mondays else 24 * (stops - 3)
    found = told(run_windows(ActivityCollapse(), working, quiet_ms=13 * DAY_MS), last_h)
    assert found[-1][1] == "critical"
    assert found[-1][2] <= 24 * within_days


def test_what_comes_once_a_night_and_stops_is_told_of() -> None:
    first = (MONDAY_MS - START_MS) // 10_000
    nightly = [window(first + 360 * (24 * day + 2), llm_calls=3, sessions_started=1) for day in range(28)]
    found = run_windows(ActivityCollapse(), nightly, quiet_ms=13 * DAY_MS)
    assert [one.severity for one in found] == ["warning"]


@pytest.mark.parametrize("seed", range(3))
def test_sessions_that_do_nothing_are_critical_within_a_day(seed: int) -> None:
    working = hours(0, 24 * 8 + 9, seed, office)
    idle = hours(24 * 8 + 9, 24 * 9, seed, office, actions=0.0)
    found = told(run_windows(ActivityCollapse(), working + idle), 24 * 8 + 9)
    assert found[-1][:2] == ("work_a_session", "critical")
    assert 0 < found[-1][2] < 3
    assert [severity for _, severity, _ in found] in (["critical"], ["warning", "critical"])


@pytest.mark.parametrize(("rate", "stops"), [(office, 24 * 15 + 9), (always, 24 * 15 + 2)])
@pytest.mark.parametrize("seed", range(2))
def test_an_agent_that_stops_is_a_warning_within_a_day_and_critical_after_it(
    seed: int, rate: Rate, stops: int
) -> None:
    found = run_windows(ActivityCollapse(), hours(0, stops, seed, rate), quiet_ms=4 * DAY_MS)
    assert [one.severity for one in found] == ["warning", "critical"]
    (_, _, warned), (_, _, critical) = told(found, stops)
    assert warned <= 10
    assert 24 < critical <= 48
    assert "has not been heard of" in found[0].summary


@pytest.mark.parametrize("seed", range(4))
def test_an_outage_of_hours_is_never_critical_and_an_end_of_it_is_the_end(seed: int) -> None:
    stops, again = 24 * 15 + 9, 24 * 15 + 15
    both = hours(0, stops, seed, always) + hours(again, 24 * 21, seed, always)
    found = run_windows(ActivityCollapse(), both)
    assert [one.severity for one in found] in ([], ["warning"])


def test_a_holiday_is_never_critical() -> None:
    before, after = hours(0, 24 * 15, 1, office), hours(24 * 16, 24 * 19, 1, office)
    assert [one.severity for one in run_windows(ActivityCollapse(), before + after)] == ["warning"]


def test_far_less_than_usual_is_told_of() -> None:
    first = (MONDAY_MS - START_MS + 24 * 15 * HOUR_MS) // 10_000
    moments = [hour for hour in range(8, 40, 3) if 8 <= hour % 24 < 18]
    little = [window(first + 360 * hour, llm_calls=1, sessions_started=1) for hour in moments]
    found = run_windows(ActivityCollapse(), hours(0, 24 * 15, 1, office) + little, quiet_ms=HOUR_MS)
    assert [(one.metric, one.severity) for one in found] == [("work_an_hour", "warning")]
    assert "little" in found[0].summary


def test_heartbeats_tell_idle_from_gone() -> None:
    stops = 24 * 15 + 9
    working = hours(0, stops, 1, office)
    first = (MONDAY_MS - START_MS + stops * HOUR_MS) // 10_000
    beats = [window(first + 90 * number, events=1) for number in range(24 * 4)]
    found = run_windows(ActivityCollapse(), working + beats)
    assert "is alive and has done nothing" in found[0].summary


def test_what_is_missing_is_not_learned_and_told_again_when_it_stops_again() -> None:
    weeks = hours(0, 24 * 15, 1, always) + hours(24 * 19, 24 * 26, 1, always)
    found = told(run_windows(ActivityCollapse(), weeks, quiet_ms=2 * DAY_MS), 24 * 15)
    assert [severity for _, severity, _ in found] == ["warning", "critical", "warning", "critical"]
    assert found[2][2] > 24 * 11


@pytest.mark.parametrize("cut", [100, 900, 1_300])
def test_a_restart_changes_nothing(cut: int) -> None:
    windows = hours(0, 24 * 10 + 12, 2, office)
    whole = run_windows(ActivityCollapse(), windows, quiet_ms=2 * DAY_MS)
    parted = run_windows(ActivityCollapse(), windows, restart_at=cut, quiet_ms=2 * DAY_MS)
    assert [one.detection_id for one in whole] == [one.detection_id for one in parted]
    assert whole
