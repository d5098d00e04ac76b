"""The change of a distribution over bins, with the one before it estimated.

Statistic: of each onset, a mixture over changed histograms of the probability of the bins since, over the
Dirichlet-multinomial of "nothing changed" whose posterior is learned from before the onset. The changes are
exponential tilts of the old histogram in normal scores of rank (location, spread, either tail) and more mass
in a region of bins; a Dirichlet-multinomial around the old histogram takes what is none of these. Unit: bins
(in their order). Source: for the sum over onsets see `onsets`; for tilts Neyman, "Smooth test for goodness of
fit" (1937).

>>> import numpy as np
>>> random = np.random.default_rng(7)
>>> test, state, seen = DistributionChange(12), DistributionChange.State(), 0
>>> for mean in [6.0] * 200 + [8.0] * 20:
...     bins = np.clip(random.normal(mean, 2.0, 5).astype(int), 0, 11)
...     reading = test.update(state, np.bincount(bins, minlength=12).tolist(), seen)
...     seen += 5
...     if reading is not None and reading.run_length >= 15_000:
...         break
>>> seen, reading.began
(1010, 1000)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import log
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln, ndtri

from detectors.sequential import onsets
from detectors.sequential.evidence import Floats, dispersion, log_sum_exp, weigh
from detectors.sequential.onsets import History, Spans

CALIBRATION = 2 / 3
PRIOR = 0.5
LOCATIONS = (-2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0)
SPREADS = (-1.0, -0.4, 0.2, 0.35)
TAILS = (0.7, 1.4)
SHARES = (0.06, 0.15, 0.4)
FREE_WEIGHT = 20.0


class Reference(NamedTuple):
    """What is known of before: the number of observations and each bin's share."""

    observations: float
    shares: list[float]


class Divergence(NamedTuple):
    """A reading with the Kullback-Leibler divergence, in nats, of since from before."""

    run_length: float
    began: int
    before: float
    after: float
    observations: int
    divergence: float


@dataclass(frozen=True, slots=True)
class DistributionChange:
    """Parameters
    ----------
    bins
        How many bins; some 12 to 24, of which none need be filled.
    min_reference
        No reading before so many observations before the onset.
    min_divergence
        A smaller change, in nats, is of no practical meaning.
    spans
        How long onsets and references are kept.
    floor
        Evidence worth less than this run length is not told.
    """

    bins: int
    min_reference: float = 100.0
    min_divergence: float = 0.0
    spans: Spans = field(default_factory=Spans)
    floor: float = 1_000.0

    class State(History):
        """Nothing but the history."""

    def update(self, state: State, counts: Sequence[float], at: int) -> Divergence | None:
        """Takes the counts of each bin in; `at` names them."""
        count = sum(counts)
        if count <= 0:
            return None
        place = sum(number * each for number, each in enumerate(counts))
        onsets.take(state, self.spans, at, (count, place, *counts))
        found = weigh(state, self.min_reference, self._log_e)
        if found is None or (length := found.run_length(CALIBRATION)) < self.floor:
            return None
        old, new = _shares(found.before[2:-2]), _shares(found.since[2:-2])
        divergence = float((new * np.log(new / old)).sum())
        if divergence < self.min_divergence:
            return None
        before, after = found.before[1] / found.before[0], found.since[1] / found.since[0]
        return Divergence(length, found.began, float(before), float(after), int(found.since[0]), divergence)

    def restart(self, state: State, began: int) -> None:
        """Forgets what came from the onset on: the reference does not learn from it."""
        onsets.restart(state, self.spans, began)

    def reference(self, state: State) -> Reference:
        """The shares as known from everything that was not forgotten."""
        sums = onsets.known(state)
        return Reference(
            sums[0] if sums else 0.0, _shares(np.array(sums[2:-2] or [0.0] * self.bins)).tolist()
        )

    def _log_e(self, since: Floats, before: Floats) -> Floats:
        """Of each onset, shape (onsets,): log probability of a mixed change over that of none."""
        prior = before[:, 2:-2] + PRIOR
        counts, count = since[:, 2:-2], since[:, :1]
        weight = prior.sum(axis=1, keepdims=True)
        shares = prior / weight
        unchanged = _log_dirichlet(counts, prior)
        as_before = (counts * np.log(shares)).sum(axis=1)
        basis, mixed = _changes(tuple(shares[0].round(3)))
        tilted = counts @ basis.T - count * np.log(shares @ np.exp(basis).T)
        inside, share = counts @ mixed.T, shares @ mixed.T
        regions = [
            inside * np.log(part + (1.0 - part) * share)
            - inside * np.log(share)
            + (count - inside) * log(1.0 - part)
            for part in SHARES
        ]
        free = _log_dirichlet(counts, FREE_WEIGHT * shares)
        changed = np.concatenate(
            [as_before[:, None] + np.concatenate([tilted, *regions], axis=1), free[:, None]], axis=1
        )
        places = np.arange(self.bins)
        mean = shares @ places
        variance = shares @ (places**2) - mean**2
        tempered = (changed - unchanged[:, None]) / dispersion(before, variance)[:, None]
        return log_sum_exp(tempered) - log(changed.shape[1])


def _log_dirichlet(counts: Floats, prior: Floats) -> Floats:
    """Log of the Dirichlet-multinomial probability of observations in their order."""
    weight, count = prior.sum(axis=1), counts.sum(axis=1)
    each = (gammaln(prior + counts) - gammaln(prior)).sum(axis=1)
    return np.asarray(each + gammaln(weight) - gammaln(weight + count))


def _shares(counts: Floats) -> Floats:
    return np.asarray((counts + PRIOR) / (counts + PRIOR).sum())


@lru_cache(maxsize=64)
def _changes(shares: tuple[float, ...]) -> tuple[Floats, Floats]:
    """Tilts and regions of a histogram, shape (changes, bins) each."""
    old = np.array(shares) + 1e-3
    old /= old.sum()
    scores = ndtri(np.cumsum(old) - old / 2)
    tilts = [
        *(size * scores for size in LOCATIONS),
        *(size * scores**2 for size in SPREADS),
        *(size * np.maximum(side * scores, 0.0) for size in TAILS for side in (-1, 1)),
    ]
    bins = len(old)
    size = max(1, bins // 6)
    regions = [np.arange(bins) // size == number for number in range(-(-bins // size))]
    return np.array(tilts), np.array(regions, dtype=float)
