"""The groups in which values of a histogram are told apart: the edges between them, the middle of each, and
how many values it gets.

Edges are given, or the quantiles of the first values, with one group on either side for what was hardly ever
seen. What a bin of the histogram holds on either side of an edge goes there by its share, in whole
observations; what they leave over is carried to the next time.

>>> edges = learned_edges({1: 10, 2: 10, 3: 10}, places=5, boundary=float)
>>> edges
[0.7, 2.0, 3.0, 4.3]
>>> groups = Groups(edges, places=5, boundary=float)
>>> [round(middle, 2) for middle in groups.middles()]
[0.05, 1.35, 2.5, 3.65, 4.95]
>>> groups.counts({1: 5, 3: 6}, offset=0.5, alike=2.0, carried=[])
([0, 2, 2, 2, 0], [0.5, 0.5, 0.0, -0.5, -0.5])
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

import numpy as np

MARGIN: Final = 0.3
"""Kept beyond the least and the greatest of the first values, in the values' unit."""
MIDDLE_MEMORY: Final = 32.0

Boundary = Callable[[float], float]


def learned_edges(early: Mapping[int, int], places: int, boundary: Boundary) -> list[float]:
    """At the quantiles of a histogram, and one beyond either end, for `places` groups at most."""
    bins = sorted(early)
    reached = np.cumsum([early[each] for each in bins]) / sum(early.values())
    wanted = np.arange(1, places - 2) / (places - 2)
    last = boundary(bins[-1] + 1)
    cuts = {boundary(bins[at] + 1) for at in np.searchsorted(reached, wanted)} - {last}
    return [boundary(bins[0]) - MARGIN, *sorted(cuts), last + MARGIN]


@dataclass(frozen=True, slots=True)
class Groups:
    """Parameters
    ----------
    edges
        Between groups; there may be fewer groups than places for them.
    places
        How many there are places for.
    boundary
        The value at which a bin of the histogram begins; it must grow with the bin.
    """

    edges: Sequence[float]
    places: int
    boundary: Boundary

    def middles(self) -> list[float]:
        """The middle of each group; of the outer ones, as if they were as wide as their neighbours."""
        widths = np.diff(self.edges)
        inner = np.array(self.edges[:-1]) + widths / 2
        middles = [self.edges[0] - widths[0] / 2, *inner, self.edges[-1] + widths[-1] / 2]
        return [float(each) for each in middles + middles[-1:] * (self.places - len(middles))]

    def follow(self, middles: list[float], bins: Mapping[int, int], offset: float) -> None:
        """Move the middle of each group to where its values are; `offset` is taken off them."""
        for place, count in bins.items():
            value = (self.boundary(place) + self.boundary(place + 1)) / 2 - offset
            group = bisect(self.edges, value)
            middles[group] += (value - middles[group]) * min(1.0, count / MIDDLE_MEMORY)

    def counts(
        self, bins: Mapping[int, int], *, offset: float, alike: float, carried: Sequence[float]
    ) -> tuple[list[int], list[float]]:
        """Whole counts by group, as many as the values are worth if `alike` are worth one; what to carry."""
        low, high = (np.array([self.boundary(place + at) for place in bins]) - offset for at in (0, 1))
        held = np.fromiter(bins.values(), float)
        below = np.clip((np.array([*self.edges, inf])[:, None] - low) / (high - low), 0.0, 1.0) @ held
        below /= alike
        if carried:
            below += carried
        whole = np.maximum.accumulate(np.maximum(np.rint(below), 0.0))
        made = np.diff(whole, prepend=0.0).astype(int).tolist()
        return [*made, *[0] * (self.places - len(made))], (below - whole).round(3).tolist()
