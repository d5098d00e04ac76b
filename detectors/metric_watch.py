"""A burst in a metric that is too short to be a change: the general metric detector on means of so many
observations each, beside the sequential test that looks for what lasts.

Statistic: the surprise, in nats, of `detectors.sequential.metric.MetricAnomaly`, which needs no tuning to
the metric. The level is far above the one that scores best on the Numenta Anomaly Benchmark, which forgives
seventeen false detections for one true one; what it costs is measured by `make eval-null`. It warns only: a
burst that is over stops nothing.

>>> watch, series = MetricWatch("cost_per_session", every=10, smallest=0.5), MetricSeries()
>>> import random
>>> noise = random.Random(3)
>>> for minute in range(400):
...     _ = watch.observe(series, 10, sum(noise.gauss(2.0, 0.4) for _ in range(10)), 60_000 * minute)
>>> found = watch.observe(series, 10, 50.0, 60_000 * 400)
>>> round(found.value, 1), round(found.usual, 1), found.observations
(5.0, 2.0, 10)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from detectors.base import Detection, Detector, WindowContext
from detectors.indicators import EVALUATION, indicator
from detectors.sequential.metric import MetricAnomaly, MetricState
from detectors.sequential.views import Views

LEVEL: Final = 14.0
"""Nats."""


class MetricSeries(msgspec.Struct, array_like=True):
    """What has come since the last mean, and what is known of the means before."""

    count: int = 0
    total: float = 0.0
    since_ms: int = 0
    state: MetricState | None = None


class Burst(NamedTuple):
    """A mean unlike those before it, the usual one, of how many observations since when; the surprise."""

    value: float
    usual: float
    observations: int
    since_ms: int
    nats: float


@dataclass(frozen=True, slots=True)
class MetricWatch:
    """Parameters
    ----------
    name
        The indicator (`detectors.indicators`): what is read, which way is worse, and how it is told.
    every
        How many observations make one value.
    smallest
        A burst of less is not worth a word; in the indicator's unit, for logarithms a difference of them.
    """

    name: str
    every: int
    smallest: float
    test: MetricAnomaly = field(default_factory=lambda: MetricAnomaly(level=LEVEL, views=Views(weekly=False)))

    def found(self, series: MetricSeries, detector: Detector, context: WindowContext) -> Detection | None:
        """A warning of the frame at hand, or none."""
        its = indicator(self.name)
        count, total, _ = its.read(context.activity)
        burst = self.observe(series, count, total, int(context.time_ms)) if count else None
        if burst is None:
            return None
        value, usual = its.shown(burst.value), its.shown(burst.usual)
        what = self.name.removeprefix(EVALUATION).replace("_", " ")
        return context.detection(
            detector,
            trigger=f"{self.name}/burst/{burst.since_ms}",
            severity="warning",
            metric=self.name.removeprefix(EVALUATION),
            observed=value,
            expected=usual,
            threshold=self.test.level,
            score=burst.nats,
            sample_size=burst.observations,
            since=context.since(burst.since_ms),
            event_ids=(),
            summary=f"{context.agent}'s {what} was {value:,.4g} {its.unit} over the last "
            f"{burst.observations:,}, usually {usual:,.4g}: a burst, if it does not last.",
        )

    def observe(self, series: MetricSeries, count: float, total: float, at_ms: int) -> Burst | None:
        """Take observations in, how many and their sum; a burst, if these make one."""
        if not series.count:
            series.since_ms = at_ms
        series.count += int(count)
        series.total += total
        if series.count < self.every:
            return None
        value, observations = series.total / series.count, series.count
        series.count, series.total = 0, 0.0
        if series.state is None:
            series.state = self.test.begin()
        usual = series.state.views.slow
        score = self.test.update(series.state, at_ms, value)
        worse = usual - value if indicator(self.name).bad == "fall" else value - usual
        if score is None or not score.alarm or worse < self.smallest:
            return None
        return Burst(value, usual, observations, series.since_ms, score.nats)
