"""Watches a rate, such as that of failures among calls: hits among observations.

>>> watch = RateWatch(Watch("error_rate", lambda reading: reading.after >= 2 * reading.before), RateChange())
>>> series = RateSeries()
>>> for minute in range(240):
...     raised = watch.observe(series, 10, 1 if minute < 200 else 4, 60_000 * minute)
...     if raised is not None:
...         print(minute, raised.severity, raised.reading.observations)
202 warning 30
203 critical 40
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log, sqrt
from typing import Final

import msgspec

from detectors.alarm import Raised, Watching, standing_of
from detectors.base import Standing
from detectors.sequential.onsets import Reading
from detectors.sequential.rate import RateChange
from detectors.watch import Watch

LEAST_RATE: Final = 1e-4
"""Rates are taken to be at least this far from 0 and 1."""


class RateSeries(Watching):
    """One rate."""

    test: RateChange.State = msgspec.field(default_factory=RateChange.State)


@dataclass(frozen=True, slots=True)
class RateWatch:
    """A rate: hits among observations, more or fewer of them at some hours."""

    watch: Watch[RateSeries]
    test: RateChange

    def observe(
        self,
        series: RateSeries,
        count: float,
        hits: float,
        at_ms: float,
        *,
        among: int = 1,
        mild: bool = False,
        believed: Callable[[Reading], bool] = lambda _: True,
    ) -> Raised | None:
        """Take `count` observations in, of which `hits` were hits; `among` and `mild` as for a `Watch`. What
        is not `believed` is no reading.
        """

        def exposure() -> float:
            return count * series.season.factor(at_ms)

        def reading() -> Reading | None:
            found = self.test.update(series.test, exposure(), hits, int(at_ms))
            return None if found is None or not believed(found) else found

        def error(after: float, known: float) -> float:
            reference = self.test.reference(series.test)
            of_before = _rate_variance(reference.rate, reference.observations + 1)
            return sqrt(of_before + _rate_variance(min(after, 1.0), known))

        return self.watch.observe(
            series,
            count=count,
            total=hits,
            at_ms=at_ms,
            reading=reading,
            restart=lambda began: self.test.restart(series.test, began),
            gain=lambda one, other: _rate_gain(exposure(), hits, one, other),
            error=error,
            among=among,
            mild=mild,
        )

    def standing(self, series: RateSeries, metric: str) -> Standing:
        """How the series stands: not told before the test's own minimum of evidence."""
        known = self.test.reference(series.test)
        return standing_of(series, metric, known.observations >= self.test.min_reference, known.rate)


def _rate_gain(count: float, hits: float, one: float, other: float) -> float:
    one, other = (min(max(rate, LEAST_RATE), 1 - LEAST_RATE) for rate in (one, other))
    return hits * log(one / other) + max(count - hits, 0.0) * log((1 - one) / (1 - other))


def _rate_variance(rate: float, known: float) -> float:
    return (rate * (1 - rate) + 1 / known) / known
