"""Watches the mean of values, such as the work done for a request, that lie higher or lower at some hours.

>>> import numpy as np
>>> random, series = np.random.default_rng(7), MeanSeries()
>>> watch = MeanWatch(Watch("activity_collapse", lambda reading: reading.after < 0.7), MeanChange("fall"))
>>> for minute in range(210):
...     work = random.normal(1.0 if minute < 200 else 0.5, 0.2, 5)
...     raised = watch.observe(series, 5, work.sum(), (work**2).sum(), 60_000 * minute)
...     if raised is not None:
...         print(minute, raised.severity, round(raised.reading.after, 2))
201 critical 0.6
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import msgspec

from detectors.alarm import Raised, Watching, standing_of
from detectors.base import Standing
from detectors.sequential.mean import MeanChange
from detectors.sequential.onsets import Reading
from detectors.watch import Watch


class MeanSeries(Watching):
    """One mean."""

    test: MeanChange.State = msgspec.field(default_factory=MeanChange.State)


@dataclass(frozen=True, slots=True)
class MeanWatch:
    """A mean of values that lie higher or lower at some hours."""

    watch: Watch[MeanSeries]
    test: MeanChange

    def observe(
        self,
        series: MeanSeries,
        count: float,
        total: float,
        squares: float,
        at_ms: float,
        *,
        among: int = 1,
    ) -> Raised | None:
        """Take `count` values in, their sum and the sum of their squares."""

        def reading() -> Reading | None:
            offset = series.season.offset(at_ms)
            without = squares - 2 * offset * total + count * offset * offset
            return self.test.update(series.test, count, total - count * offset, without, int(at_ms))

        def gain(one: float, other: float) -> float:
            variance = self.test.reference(series.test).sd ** 2
            above = total - count * (series.season.offset(at_ms) + (one + other) / 2)
            return above * (one - other) / variance if variance else 0.0

        def error(_after: float, known: float) -> float:
            reference = self.test.reference(series.test)
            return reference.sd * sqrt(1 / known + 1 / (reference.observations + 1))

        return self.watch.observe(
            series,
            count=count,
            total=total,
            at_ms=at_ms,
            reading=reading,
            restart=lambda began: self.test.restart(series.test, began),
            gain=gain,
            error=error,
            among=among,
        )

    def standing(self, series: MeanSeries, metric: str) -> Standing:
        """How the series stands: not told before the test's own minimum of evidence."""
        known = self.test.reference(series.test)
        return standing_of(series, metric, known.observations >= self.test.min_reference, known.mean)
