"""Watches how values are distributed, not only their mean: lengths, durations, costs and scores come as
histograms, and a few outliers must not pass for a change of all of them.

Values are told apart in up to `GROUPS` groups: between given edges, or between quantiles of the first
`LEARNED` values, with one group on either side for what was hardly ever seen. What is normal at an hour
(`detectors.seasonal`) is taken off first; what a bin of the histogram, so shifted, holds on either side of an
edge goes there by its share, in whole observations.

Calls of one session are alike, and so are requests of one hour: so many values are worth fewer. How many
fewer (the design effect: Kish, "Survey Sampling", 1965) is measured: by how much the means of successive
blocks of 16 to 1,024 values lie further apart than those of independent ones would (von Neumann, 1941), in
the median, which a change does not move. Counts are divided by the largest before the test sees them.

Where one way is bad, a change the other way that is as certain as a critical alarm is the new normal.

>>> from math import exp
>>> from detectors.bins import log_bin, log_boundary
>>> def slower(change):
...     return change.after - change.before > 0.5
>>> watch, series = DistributionWatch("latency", slower, log_boundary, bad="rise"), ValueSeries()
>>> for minute in range(220):
...     usual_ms = 700 if minute < 200 else 1_500
...     calls = {log_bin(usual_ms): 2, log_bin(1.2 * usual_ms): 2}
...     raised = watch.observe(series, calls, 60_000 * minute)
...     if raised is not None:
...         print(minute, raised.severity, round(exp(raised.reading.before)), raised.reading.observations)
200 warning 775 16
208 critical 775 48
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from operator import mul
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.alarm import Raised, Watching, standing_of
from detectors.base import Standing
from detectors.bins import merge_bins
from detectors.false_alarms import level
from detectors.sequential.distribution import DistributionChange
from detectors.sequential.onsets import Reading
from detectors.watch import Watch

Floats = NDArray[np.float64]
GROUPS: Final = 12
LEARNED: Final = 100
MARGIN: Final = 0.3
"""Kept beyond the least and the greatest of the first values, in the values' unit."""
MEMORY: Final = 2_000.0
BLOCKS: Final = (16, 64, 256, 1_024)
LATEST: Final = 16
ENOUGH: Final = 5
MEDIAN: Final = 0.455
"""Of chi-square with one degree of freedom."""
LENIENCE: Final = 0.9
"""Since the largest of several medians is taken."""
MIDDLE_MEMORY: Final = 32.0
PRESUMED: Final = 4.0
MOST_ALIKE: Final = 100.0
PRIOR: Final = 0.5


class Change(NamedTuple):
    """What a histogram has become: mean before and after in the values' unit, made of the middles of groups;
    the Kullback-Leibler divergence, in nats, of since from before; how many observations since when.
    """

    before: float
    after: float
    divergence: float
    observations: int
    began: int


class Block(msgspec.Struct, array_like=True):
    """Of blocks of a size: the one that is not full, count and mean of the last full one, and how far apart
    the latest were, squared, in thousandths of the variance of such a difference.
    """

    count: float = 0.0
    total: float = 0.0
    last: tuple[float, float] | None = None
    off: list[int] = msgspec.field(default_factory=list)


class ValueSeries(Watching):
    """One distribution. `waiting` is a histogram of what the test has not seen; `middles` are means of
    groups; `carried` is what whole observations have left over; `usual` and `variance` are of all values,
    `blocks` of each of `BLOCKS`. Of the last evidence `divergence`, and by group the log likelihood ratio of
    before over halfway to since: `gains`.
    """

    waiting: dict[int, int] = msgspec.field(default_factory=dict)
    waiting_ms: float = 0.0
    edges: list[float] = msgspec.field(default_factory=list)
    middles: list[float] = msgspec.field(default_factory=list)
    carried: list[float] = msgspec.field(default_factory=list)
    usual: float = 0.0
    variance: float = 0.0
    blocks: list[Block] = msgspec.field(default_factory=list)
    divergence: float = 0.0
    gains: list[float] = msgspec.field(default_factory=list)
    test: DistributionChange.State = msgspec.field(default_factory=DistributionChange.State)


@dataclass(frozen=True, slots=True)
class DistributionWatch:
    """Parameters
    ----------
    detector
        Whose share of the false-alarm budget is spent.
    severe
        Whether a change is worth a critical alarm, were it certain.
    boundary
        The value at which a bin of the histogram begins; it must grow with the bin.
    bad
        Which way is worse.
    min_change
        A smaller change of the mean is not told of, unless both ways are bad.
    edges
        Between groups; learned when there are none.
    seasonal
        Whether hours differ.
    alike
        By how much values are presumed to be alike before that is known.
    batch
        Values are shown to the test when there are so many: it costs the same for one.
    """

    detector: str
    severe: Callable[[Change], bool]
    boundary: Callable[[float], float]
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
        """Take a histogram in; once there is a batch, show it to the test. `certain` is asked in place of
        `severe` where more is known of a change.
        """
        if not bins:
            return None
        if not series.waiting:
            series.waiting_ms = at_ms
        merge_bins(series.waiting, bins)
        count = sum(series.waiting.values())
        if count < (self.batch if self.edges or series.edges else LEARNED):
            return None
        bins, at_ms, series.waiting = series.waiting, series.waiting_ms, {}
        offset = series.season.offset(at_ms) if self.seasonal else 0.0
        total = self._note(series, bins, count, offset)
        alike = self._alikeness(series)
        groups = self._groups(series, bins, offset, alike)

        def severe(reading: Reading) -> bool:
            return (certain or self.severe)(change_of(series, reading))

        watch: Watch[ValueSeries] = Watch(self.detector, severe, seasonal=self.seasonal)
        return watch.observe(
            series,
            count=count,
            total=total,
            at_ms=at_ms,
            reading=lambda: self._read(series, groups, alike, at_ms, among) if any(groups) else None,
            restart=lambda began: self.test.restart(series.test, began),
            gain=lambda _one, _other: sum(map(mul, groups, series.gains)),
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

    def _note(self, series: ValueSeries, bins: Mapping[int, int], count: int, offset: float) -> float:
        """Learn mean, variance and by how much blocks are alike. Returns the sum, the season in it."""
        middles = [(self.boundary(place) + self.boundary(place + 1)) / 2 for place in bins]
        whole = float(sum(map(mul, middles, bins.values())))
        total = whole - count * offset
        known = min(series.observations + count, MEMORY)
        was = series.usual if series.observations else total / count
        series.usual = was + (total - count * was) / known
        products = ((each - offset - was) * (each - offset - series.usual) for each in middles)
        series.variance += (sum(map(mul, products, bins.values())) - count * series.variance) / known
        if not series.blocks:
            series.blocks = [Block() for _ in BLOCKS]
        for size, block in zip(BLOCKS, series.blocks, strict=True):
            block.count += count
            block.total += total
            if block.count >= size:
                mean = block.total / block.count
                if block.last is not None and series.variance > 0:
                    apart = (mean - block.last[1]) ** 2 / (1 / block.count + 1 / block.last[0])
                    block.off = [*block.off[1 - LATEST :], round(1_000 * apart / series.variance)]
                block.last = (block.count, mean)
                block.count = block.total = 0.0
        return whole

    def _alikeness(self, series: ValueSeries) -> float:
        """The design effect: as many alike values are worth one."""
        found = [
            LENIENCE * sorted(block.off)[len(block.off) // 2] / 1_000 / MEDIAN
            for block in series.blocks
            if len(block.off) >= ENOUGH
        ]
        if len(series.blocks[1].off) < ENOUGH:
            found.append(self.alike)
        return min(max(found, default=1.0), MOST_ALIKE) if max(found, default=1.0) > 1.0 else 1.0

    def _groups(self, series: ValueSeries, bins: Mapping[int, int], offset: float, alike: float) -> list[int]:
        """Whole counts by group, as many as the values are worth."""
        edges: Sequence[float] = self.edges or series.edges
        if not edges:
            edges = series.edges = self._learn(bins)
        if not series.middles:
            series.middles = _middles(edges, self.test.bins).tolist()
        for place, count in bins.items():
            value = (self.boundary(place) + self.boundary(place + 1)) / 2 - offset
            group = bisect(edges, value)
            series.middles[group] += (value - series.middles[group]) * min(1.0, count / MIDDLE_MEMORY)
        low, high = (np.array([self.boundary(place + at) for place in bins]) - offset for at in (0, 1))
        counts = np.fromiter(bins.values(), float)
        below = np.clip((np.array([*edges, inf])[:, None] - low) / (high - low), 0.0, 1.0) @ counts
        below /= alike
        if series.carried:
            below += series.carried
        whole = np.maximum.accumulate(np.maximum(np.rint(below), 0.0))
        series.carried = (below - whole).round(3).tolist()
        made = np.diff(whole, prepend=0.0).astype(int).tolist()
        return [*made, *[0] * (self.test.bins - len(made))]

    def _learn(self, early: Mapping[int, int]) -> list[float]:
        """Edges at the quantiles of a histogram, and one beyond either end."""
        places = sorted(early)
        reached = np.cumsum([early[place] for place in places]) / sum(early.values())
        wanted = np.arange(1, self.test.bins - 2) / (self.test.bins - 2)
        cuts = {self.boundary(places[at] + 1) for at in np.searchsorted(reached, wanted)} - {
            self.boundary(places[-1] + 1)
        }
        return [self.boundary(places[0]) - MARGIN, *sorted(cuts), self.boundary(places[-1] + 1) + MARGIN]

    def _read(
        self, series: ValueSeries, groups: list[int], alike: float, at_ms: float, among: int
    ) -> Reading | None:
        found = self.test.update(series.test, groups, int(at_ms))
        if found is None:
            return None
        since = np.array(_sums_since(series, found.began), dtype=float)
        before = np.array(self.test.counts(series.test)) - since
        old, new = (((each + PRIOR) / (each + PRIOR).sum()) for each in (before, since))
        middles = np.array(series.middles)
        was, has_become = float(old @ middles), float(new @ middles)
        worse = {"rise": has_become - was, "fall": was - has_become, "both": inf}[self.bad]
        if worse < self.min_change:
            if worse < 0 and alike * found.run_length >= self._certain(series, at_ms, among):
                _adopt(series.test, found.began)
            return None
        series.divergence = found.divergence
        series.gains = np.log(2 * old / (old + new)).round(4).tolist()
        return Reading(
            alike * found.run_length, found.began, was, has_become, round(alike * found.observations)
        )

    def _certain(self, series: ValueSeries, at_ms: float, among: int) -> float:
        return level(
            self.detector,
            "critical",
            observations=series.observations,
            span_ms=at_ms - series.first_ms,
            among=among,
        )


def change_of(series: ValueSeries, reading: Reading) -> Change:
    """A reading of the series just made, with the divergence."""
    return Change(reading.before, reading.after, series.divergence, reading.observations, reading.began)


def _sums_since(series: ValueSeries, began: int) -> list[int | float]:
    """Counts by group of what came at or after a time."""
    rows = [each.sums[2:-2] for each in series.test.recent if each.began >= began]
    return [sum(column) for column in zip(*rows, strict=True)]


def _adopt(state: DistributionChange.State, began: int) -> None:
    """Forget what was before."""
    state.reference, state.frozen = [], []
    state.recent = [each for each in state.recent if each.began >= began]
    state.screens, state.shares = [], ()


def _middles(edges: Sequence[float], groups: int) -> Floats:
    """The middle of each group; of the outer ones, as if they were as wide as their neighbours."""
    widths = np.diff(edges)
    inner = np.array(edges[:-1]) + widths / 2
    middles = np.array([edges[0] - widths[0] / 2, *inner, edges[-1] + widths[-1] / 2])
    return np.append(middles, np.full(groups - len(middles), middles[-1]))
