"""What values that are not normal do to a test that takes them for normal, and how far that is set right.

For a shift of d standard deviations the normal log likelihood ratio gains d z - d²/2 from a value z; without
a change the exponential of that has mean 1 only if the values' cumulant generating function psi(d) is d²/2.
So psi(d) - d²/2 is subtracted, psi being d²/2 / (1 - g) with g = skewness d/3 + (excess kurtosis - 4/3
skewness²) d²/12: sub-gamma (Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform Chernoff bounds", 2020),
exact to third order, and to fourth where the tails are heavier than a gamma's. Shifts with g of 1 or more are
of no use.

Skewness and kurtosis are learned from batches' (count, sum, sum of squares) alone: with z standardised, the
covariance of the sums of z and of z² is count times the skewness, the variance of the sum of z² is count
times (excess kurtosis + 2). They are learned from what raises no suspicion, and shrunk to the normal's.

>>> random = np.random.default_rng(1)
>>> state = Known(mean=1.0, sd=1.0)
>>> for _ in range(1_000):
...     waits = random.exponential(size=5)
...     learn(state, 5, waits.sum(), (waits**2).sum())
>>> penalties(state, (0.5, 2.0, -0.5)).round(2).tolist()
[0.07, 1000000.0, 0.0]
"""

from __future__ import annotations

from functools import lru_cache
from math import copysign, sqrt

import numpy as np

from detectors.sequential.evidence import Floats
from detectors.sequential.screens import Screened

PRIOR = 100.0
CLIP, CLIP_BATCH = 3.5, 2.0
"""So many standard errors, and at least standard deviations, a batch's mean may lie from the known one: no
single value decides, and tails without any generating function (t, Pareto) are bounded.
"""
NO_USE = 1e6
"""Finite, so that values too heavy-tailed for every shift leave evidence that can be added up."""


class Known(Screened):
    """`mean` and `sd` are taken as known in the quick look; an `sd` of 0 is not known yet. `third` and
    `fourth` are sums over `learned` values, for the skewness and the kurtosis.
    """

    mean: float = 0.0
    sd: float = 0.0
    learned: float = 0.0
    third: float = 0.0
    fourth: float = 0.0


def clipped(state: Known, count: float, total: float, squares: float) -> tuple[float, float]:
    """The sum and the sum of squares with their mean moved to within reach of what is known."""
    mean, reach = total / count, max(CLIP / sqrt(count), CLIP_BATCH) * state.sd
    if state.sd == 0 or abs(mean - state.mean) <= reach:
        return total, squares
    moved = state.mean + copysign(reach, mean - state.mean)
    return count * moved, squares - count * (mean**2 - moved**2)


def learn(state: Known, count: float, total: float, squares: float) -> None:
    """Learns third and fourth moments from a batch."""
    apart = (total - count * state.mean) / state.sd
    about = squares - state.mean * (2.0 * total - count * state.mean)
    spread = about / state.sd**2 - count
    state.learned += count
    state.third += apart * spread
    state.fourth += spread * spread


def penalties(state: Known, shifts: tuple[float, ...]) -> Floats:
    """What a value's log likelihood ratio is lowered by, of each shift."""
    known = state.learned + PRIOR
    skewness = state.third / known
    kurtosis = max(0.0, (state.fourth - 2.0 * state.learned) / known - skewness**2 * 4 / 3)
    return _penalties(shifts, round(skewness, 2), round(kurtosis, 1))


@lru_cache(maxsize=1_024)
def _penalties(shifts: tuple[float, ...], skewness: float, kurtosis: float) -> Floats:
    shift = np.array(shifts)
    excess = np.maximum(skewness * shift, 0.0) / 3.0 + kurtosis * shift**2 / 12.0
    return np.where(excess < 1.0, shift**2 / 2.0 * excess / np.maximum(1.0 - excess, 1e-3), NO_USE)
