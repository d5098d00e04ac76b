"""Watches how values are distributed, not only their mean: lengths, durations, costs and scores come as
histograms, and a few outliers must not pass for a change of all of them.

Values are told apart in up to `GROUPS` groups (`detectors.groups`); what is normal at an hour
(`detectors.seasonal`) is taken off first. Counts are divided by how many alike values are worth one
(`detectors.alikeness`) before the test sees them. Where one way is bad, a change the other way that is as
certain as a critical alarm is the new normal.

>>> from math import exp
>>> from detectors.bins import log_bin, log_boundary
>>> def slower(change):
...     return change.after - change.before > 0.5
>>> watch, series = DistributionWatch("latency", slower, log_boundary, bad="rise"), ValueSeries()
>>> for minute in range(220):
...     usual = log_bin(700 if minute < 200 else 1_500)
...     raised = watch.observe(series, {usual: 2, usual + 3: 2}, 60_000 * minute)
...     if raised is not None:
...         print(minute, raised.severity, round(exp(raised.reading.before)), raised.reading.observations)
200 warning 760 16
208 critical 760 48
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from operator import mul
from typing import Final, Literal

import msgspec
import numpy as np

from detectors import value_series
from detectors.alarm import Raised, standing_of
from detectors.alikeness import PRESUMED, design_effect
from detectors.base import Standing
from detectors.groups import Boundary, Groups, learned_edges
from detectors.sequential.distribution import DistributionChange, Divergence
from detectors.sequential.onsets import Reading
from detectors.value_series import Change, ValueSeries
from detectors.watch import Watch

GROUPS: Final = 12
LEARNED: Final = 100
"""Values from which edges are learned where none are given."""


@dataclass(frozen=True, slots=True)
class DistributionWatch:
    """Parameters
    ----------
    detector
        Whose share of the false-alarm budget is spent.
    severe
        Whether a change is worth a critical alarm, were it certain.
    boundary, edges
        As of `Groups`; edges are learned when there are none.
    bad, min_change
        Which way is worse; a smaller change of the mean is not told of, unless both ways are bad.
    seasonal
        Whether hours differ.
    alike
        By how much values are presumed to be alike before that is known.
    batch
        Values are shown to the test when there are so many: it costs the same for one.
    """

    detector: str
    severe: Callable[[Change], bool]
    boundary: Boundary
    bad: Literal["rise", "fall", "both"] = "both"
    min_change: float = 0.0
    edges: tuple[float, ...] = ()
    seasonal: bool = True
    alike: float = PRESUMED
    batch: int = 16
    test: DistributionChange = field(default_factory=lambda: DistributionChange(GROUPS))

    def observe(
        self,
        series: ValueSeries,
        bins: Mapping[int, int],
        at_ms: float,
        *,
        among: int = 1,
        certain: Callable[[Change], bool] | None = None,
    ) -> Raised | None:
        """Take a histogram in; once there is a batch, test it. `certain` knows more and replaces `severe`."""
        known = self.edges or series.edges
        if not value_series.await_batch(series, bins, at_ms, self.batch if known else LEARNED):
            return None
        bins, at_ms, series.waiting = series.waiting, series.waiting_ms, {}
        offset = series.season.offset(at_ms) if self.seasonal else 0.0
        values = [(self.boundary(place) + self.boundary(place + 1)) / 2 for place in bins]
        value_series.learn(series, values, list(bins.values()), offset)
        alike = design_effect(series.blocks, self.alike)
        if not known:
            known = series.edges = learned_edges(bins, self.test.bins, self.boundary)
        groups = Groups(known, self.test.bins, self.boundary)
        counts = value_series.grouped(series, groups, bins, offset, alike)
        severe = certain or self.severe
        watch: Watch[ValueSeries] = Watch(
            self.detector, lambda found: severe(value_series.change_of(series, found)), seasonal=self.seasonal
        )

        def reading() -> Reading | None:
            found = self.test.update(series.test, counts, int(at_ms)) if any(counts) else None
            believed = watch.level(series, "critical", at_ms, among)
            return None if found is None else self._read(series, found, alike, believed)

        return watch.observe(
            series,
            count=sum(bins.values()),
            total=float(sum(map(mul, values, bins.values()))),
            at_ms=at_ms,
            reading=reading,
            restart=lambda began: self.test.restart(series.test, began),
            gain=lambda _one, _other: sum(map(mul, counts, series.gains)),
            among=among,
        )

    def standing(self, series: ValueSeries, metric: str, shown: Callable[[float], float] = float) -> Standing:
        """How the series stands: not told before the test's own minimum of evidence. `shown` makes what
        people read of the values' unit.
        """
        enough = series.observations >= LEARNED + self.test.min_reference
        standing = standing_of(series, metric, enough, series.usual)
        if standing.observed is None or standing.expected is None:
            return standing
        observed, expected = shown(standing.observed), shown(standing.expected)
        return msgspec.structs.replace(standing, observed=observed, expected=expected)

    def _read(self, series: ValueSeries, found: Divergence, alike: float, believed: float) -> Reading | None:
        """What the test has found in whole values, if it is for the worse; evidence that it is for the
        better is `believed` when it is worth so much.
        """
        old, new = value_series.shares(series, self.test.counts(series.test), found.began)
        middles = np.array(series.middles)
        was, has_become = float(old @ middles), float(new @ middles)
        worse = {"rise": has_become - was, "fall": was - has_become, "both": inf}[self.bad]
        evidence = alike * found.run_length
        if worse < self.min_change:
            if worse < 0 and evidence >= believed:
                value_series.adopt(series, found.began)
            return None
        series.divergence = found.divergence
        series.gains = np.log(2 * old / (old + new)).round(4).tolist()
        return Reading(evidence, found.began, was, has_become, round(alike * found.observations))
