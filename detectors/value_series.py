"""What is remembered of values whose distribution is watched, and what they have changed to.

>>> series = ValueSeries()
>>> learn(series, [1.0, 3.0], [30, 10], offset=0.5)
>>> series.usual, series.variance
(1.0, 0.75)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import mul
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import alikeness
from detectors.alarm import Watching
from detectors.alikeness import Block
from detectors.bins import merge_bins
from detectors.groups import Groups
from detectors.sequential.distribution import DistributionChange
from detectors.sequential.onsets import Reading

Floats = NDArray[np.float64]
MEMORY: Final = 2_000.0
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


class ValueSeries(Watching):
    """One distribution. `waiting` is a histogram of what the test has not seen; `edges` are those that were
    learned, `middles` are means of groups; `carried` is what whole observations have left over; `usual` and
    `variance` are of all values, `blocks` as in `detectors.alikeness`. Of the last evidence `divergence`, and
    by group the log likelihood ratio of before over halfway to since: `gains`.
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


def await_batch(series: ValueSeries, bins: Mapping[int, int], at_ms: float, enough: int) -> bool:
    """Let a histogram wait with others; whether so many values wait as are enough."""
    if not bins:
        return False
    if not series.waiting:
        series.waiting_ms = at_ms
    merge_bins(series.waiting, bins)
    return sum(series.waiting.values()) >= enough


def learn(series: ValueSeries, values: Sequence[float], counts: Sequence[int], offset: float) -> None:
    """Learn mean, variance and by how much blocks are alike; `offset` is taken off the values."""
    count = sum(counts)
    total = sum(map(mul, values, counts)) - count * offset
    known = min(series.observations + count, MEMORY)
    was = series.usual if series.observations else total / count
    series.usual = was + (total - count * was) / known
    products = ((each - offset - was) * (each - offset - series.usual) for each in values)
    series.variance += (sum(map(mul, products, counts)) - count * series.variance) / known
    alikeness.note(series.blocks, count, total, series.variance)


def grouped(
    series: ValueSeries, groups: Groups, bins: Mapping[int, int], offset: float, alike: float
) -> list[int]:
    """Whole counts by group, as many as the values are worth when `alike` of them are worth one."""
    if not series.middles:
        series.middles = groups.middles()
    groups.follow(series.middles, bins, offset)
    counts, series.carried = groups.counts(bins, offset=offset, alike=alike, carried=series.carried)
    return counts


def shares(series: ValueSeries, known: Sequence[float], began: int) -> tuple[Floats, Floats]:
    """Each group's share of what came before a time, and since, given all that is `known`."""
    rows = [each.sums[2:-2] for each in series.test.recent if each.began >= began]
    since = np.array([sum(column) for column in zip(*rows, strict=True)], dtype=float)
    before = np.array(known) - since
    old, new = (((each + PRIOR) / (each + PRIOR).sum()) for each in (before, since))
    return old, new


def adopt(series: ValueSeries, began: int) -> None:
    """Take what came since a time for normal: forget what was before."""
    test = series.test
    test.reference, test.frozen = [], []
    test.recent = [each for each in test.recent if each.began >= began]
    test.screens, test.shares = [], ()


def change_of(series: ValueSeries, reading: Reading) -> Change:
    """A reading of the series just made, with the divergence."""
    return Change(reading.before, reading.after, series.divergence, reading.observations, reading.began)
