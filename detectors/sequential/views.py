"""A number's recent past seen in eight ways, each a quantity whose extremes mean something.

Exponentially weighted means (Roberts, "Control Chart Tests Based on Geometric Moving Averages", Technometrics
1, 1959) at several horizons and by hour of the day and of the week; a horizon of h observations is a weight
of 1/h, and the plain mean until h have been seen. `unexplained` is how far a value lies outside of everything
that was expected of it: nought as soon as one of the means, whichever, explains it.

>>> views = Views()
>>> state = views.begin()
>>> for hour in range(24 * 7):
...     seen = views.update(state, 3_600_000 * hour, 5.0 * (hour % 24 == 9))
>>> nine, ten = (views.update(state, 3_600_000 * (24 * 7 + hour), 5.0) for hour in (9, 10))
>>> [[name for name, quantity in zip(NAMES, each) if quantity > 3.0] for each in (nine, ten)]
[['step', 'swing'], ['step', 'swing', 'of the hour', 'unexplained']]
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Final

import msgspec

from detectors.sequential import hours

HOUR_MS: Final = 3_600_000
NAMES: Final = ("step", "swing", "trend", "roughness", "of the hour", "unexplained", "run", "level")
"""value against a short and a long mean; a short mean against a long one; how large changes are; value
against its hour of the day; beyond all that was expected; many in a row on one side; the smoothed value."""
SETTLED, TINY = 20, 1e-12


class ViewState(msgspec.Struct, array_like=True):
    """Means and counts, all in the number's own unit but `run`, which is in scales. `by_hour` has, for each
    hour of the day, the mean distance from `base`, `by_week` that from the first value.
    """

    count: int = 0
    last_ms: int = 0
    first: float = 0.0
    last: float = 0.0
    fast: float = 0.0
    slow: float = 0.0
    near: float = 0.0
    far: float = 0.0
    change: float = 0.0
    usual_change: float = 0.0
    base: float = 0.0
    middle: float = 0.0
    spread: float = 0.0
    run: float = 0.0
    level: float = 0.0
    by_hour: bytearray = msgspec.field(default_factory=lambda: hours.begin(hours.OF_DAY))
    by_week: bytearray = msgspec.field(default_factory=bytearray)


@dataclass(frozen=True, slots=True)
class Views:
    """Parameters
    ----------
    fast, slow, near, far, roughness, base, run, level, middle
        Horizons, in observations.
    days, weeks
        How many days an hour of the day, weeks an hour of the week remembers.
    clip
        How many scales a value counts at most in `run`.
    memory
        How many observations the usual size of a change remembers.
    weekly
        Whether hours of the week are kept too, beside those of the day: most of the state.
    """

    fast: float = 15.0
    slow: float = 110.0
    near: float = 10.0
    far: float = 80.0
    roughness: float = 20.0
    base: float = 300.0
    run: float = 4.0
    level: float = 20.0
    middle: float = 3_000.0
    days: float = 8.0
    weeks: float = 4.0
    clip: float = 5.0
    memory: float = 20_000.0
    weekly: bool = True

    def begin(self) -> ViewState:
        """Nothing seen."""
        return ViewState(by_week=hours.begin(hours.OF_WEEK if self.weekly else 0))

    def update(self, state: ViewState, time_ms: int, value: float) -> tuple[float, ...]:
        """Take a value in and return the quantities, in the order of `NAMES`."""
        if state.count == 0:
            state.last_ms, state.first, state.last = time_ms, value, value
            state.fast = state.slow = state.near = state.far = value
            state.base = state.middle = state.level = value
        state.count += 1
        least = 1.0 / state.count
        fast, slow, step, swing = state.fast, state.slow, value - state.fast, value - state.slow
        state.fast += step * max(least, 1.0 / self.fast)
        state.slow += swing * max(least, 1.0 / self.slow)
        state.near += (value - state.near) * max(least, 1.0 / self.near)
        state.far += (value - state.far) * max(least, 1.0 / self.far)
        change = abs(value - state.last)
        state.last = value
        state.change += (change - state.change) * max(least, 1.0 / self.roughness)
        state.usual_change += (change - state.usual_change) * max(least, 1.0 / self.memory)
        roughness = log(state.change + 0.01 * state.usual_change + TINY * (abs(value) + TINY))
        of_the_hour, unexplained = self._seasons(state, time_ms, value, fast, slow)
        state.base += (value - state.base) * max(least, 1.0 / self.base)
        run = self._run(state, value, least)
        state.level += (value - state.level) * max(least, 1.0 / self.level)
        trend = state.near - state.far
        return step, swing, trend, roughness, of_the_hour, unexplained, run, state.level

    def _seasons(
        self, state: ViewState, time_ms: int, value: float, fast: float, slow: float
    ) -> tuple[float, float]:
        """Against the hour of the day; outside of the means and the hours of the day and of the week."""
        hour, passed = time_ms // HOUR_MS, max(time_ms - state.last_ms, 0) / HOUR_MS
        state.last_ms = time_ms
        by_hour, days = hours.usual(state.by_hour, hour)
        expected = by_hour + state.base if days else state.base
        lowest, highest = (fast, slow) if fast < slow else (slow, fast)
        if days:
            lowest, highest = min(lowest, expected), max(highest, expected)
        if self.weekly:
            by_week, weeks = hours.usual(state.by_week, hour)
            if weeks:
                lowest, highest = min(lowest, by_week + state.first), max(highest, by_week + state.first)
            hours.learn(state.by_week, hour, value, passed=passed, memory=self.weeks, origin=state.first)
        hours.learn(state.by_hour, hour, value - state.base, passed=passed, memory=self.days)
        beyond = value - highest if value > highest else min(value - lowest, 0.0)
        return value - expected, beyond

    def _run(self, state: ViewState, value: float, least: float) -> float:
        """A short mean of the value in scales, none counting more than `clip`."""
        off = value - state.middle
        scale = 1.25 * state.spread + 1e-9 * (abs(state.middle) + 1e-9)
        clipped = max(-self.clip, min(self.clip, off / scale))
        weight = max(least, 1.0 / self.middle)
        settled = state.count > SETTLED + 1
        state.middle += weight * (clipped * scale if settled else off)
        size = min(abs(off), self.clip * scale) if settled else abs(off)
        state.spread += weight * (size - state.spread)
        state.run += (clipped - state.run) * max(least, 1.0 / self.run)
        return state.run
