"""Levels of equal false-alarm run length, and mean delays there.

A level is set on streams without a change: the least at which the observations seen, over the alarms raised,
come to the run length asked for. (Run lengths are near to exponential, so streams that are cut short serve.)
A delay is counted from the change; a run that was already alarming at the change is left out. Some streams
are harder than others, for the optimal test too; what it needed on those at hand, beside what it needs on
many, corrects every mean (a control variate: Glasserman, "Monte Carlo Methods in Financial Engineering",
2003, ch. 4.1).

>>> runs = [records(np.array(scores)) for scores in ([0, 2.0, 1, 3], [0, 0, 0, 0], [0, 0, 9, 0])]
>>> run_length(runs, 4, level=2.0), delay(runs, 3, level=2.0)[::2]
(4.5, (2.0, 0.3333333333333333))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bench.eval.delay_changes import Floats

Records = list[tuple[int, float]]


class Level(NamedTuple):
    """A level, the run length there (None: no alarm seen), and that at the side's default."""

    level: float
    run_length: float | None
    default_run_length: float | None
    has_default: bool


class Delay(NamedTuple):
    """Mean delay in observations, its standard error, and the share of runs that ended without an alarm."""

    mean: float
    error: float
    missed: float


class Optimum(NamedTuple):
    """Of the test that knows both laws: its delay over many streams; and on each of those that all sides see,
    nan where it was alarming at the change.
    """

    delay: Delay
    seen: Floats


def records(scores: Floats) -> Records:
    """When a score exceeded all before it, and that score."""
    highest = np.maximum.accumulate(scores)
    places = np.flatnonzero(np.diff(highest, prepend=-np.inf) > 0)
    return [(int(place), float(highest[place])) for place in places]


def first_alarm(found: Records, level: float) -> int | None:
    """Observations before the first score of at least the level."""
    return next((place for place, score in found if score >= level), None)


def run_length(runs: Sequence[Records], length: int, level: float) -> float | None:
    """Observations over alarms; None without an alarm."""
    alarms = [first_alarm(found, level) for found in runs]
    seen = sum(length if place is None else place + 1 for place in alarms)
    number = sum(place is not None for place in alarms)
    return seen / number if number else None


def set_level(runs: Sequence[Records], length: int, wanted: float, default: float | None) -> Level:
    """The least level of those scored that has the run length."""
    scored = sorted({score for found in runs for _, score in found if score > 0})
    low, high = 0, len(scored)
    while low < high:
        middle = (low + high) // 2
        reached = run_length(runs, length, scored[middle])
        if reached is None or reached >= wanted:
            high = middle
        else:
            low = middle + 1
    level = scored[low] if low < len(scored) else (scored[-1] * 1.001 if scored else 1e-9)
    own = None if default is None else run_length(runs, length, default)
    return Level(level, run_length(runs, length, level), own, default is not None)


def delays(runs: Sequence[Records], length: int, level: float) -> tuple[Floats, float]:
    """Of runs whose first score is the last before the change: the delay of each, nan where it was alarming
    by then; and the share of the others that ended without an alarm.
    """
    alarms = [first_alarm(found, level) for found in runs]
    values = np.array([length if place is None else place or np.nan for place in alarms], dtype=float)
    return values, sum(place is None for place in alarms) / max(int(np.isfinite(values).sum()), 1)


def delay(runs: Sequence[Records], length: int, level: float, optimum: Optimum | None = None) -> Delay:
    """The mean, corrected by how the optimal test fared on the same streams."""
    values, missed = delays(runs, length, level)
    counted = np.isfinite(values)
    if optimum is not None:
        beside = optimum.seen[: len(values)]
        counted &= np.isfinite(beside)
        values, beside = values[counted], beside[counted]
        slope = float(np.cov(values, beside)[0, 1] / beside.var(ddof=1)) if beside.std() > 0 else 0.0
        values = values - slope * (beside - optimum.delay.mean)
    else:
        values = values[counted]
    return Delay(float(values.mean()), float(values.std() / np.sqrt(len(values))), missed)
