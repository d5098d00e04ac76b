"""The changes of a histogram that a test looks for: tilts, and more mass in a run of bins.

A tilt multiplies each bin's share by the exponential of a function of its normal score (of rank, so that any
distribution has them): the score itself for a shift, its square for spread. Source: Neyman, "Smooth test for
goodness of fit" (1937). A second mode is mass that comes into a bin or three neighbouring ones, the more to
be expected the less was there. Each change looked for makes all others later: they are few, and of two that
are hard to tell apart there is one.

>>> old = np.array([0.1, 0.2, 0.4, 0.2, 0.1])
>>> gains, log_weights = changes(np.array([[0, 0, 0, 0, 9.0]]), old[None])
>>> float(gains.max().round(1)), gains.shape[1] == len(log_weights)
(12.7, True)
"""

from __future__ import annotations

from functools import lru_cache
from math import log1p

import numpy as np
from scipy.special import gammaln, ndtri

from detectors.sequential.evidence import Floats

PRIOR = 0.5
ONCE = 1.5
TILTS = np.array(
    [(each, 0.0) for each in (-1.2, -0.6, -0.3, 0.3, 0.6, 1.2)]
    + [(0.0, each) for each in (-1.0, -0.4, 0.2, 0.35)]
)
"""Of a score z: z (a shift) and z² (spread)."""
TILT_WEIGHTS = np.array([0.38 / 6] * 6 + [0.27 / 4] * 4)
QUICK_TILTS = [1, 4, 6, 8]
PART = 0.15
RUNS = (1, 3)
RAREST = 0.005
RUN_WEIGHT = 0.3
FREE_WEIGHT = 0.05


def changes(counts: Floats, shares: Floats) -> tuple[Floats, Floats]:
    """Log likelihood ratios of the changes, shape (onsets, changes), to the shares before each onset, shape
    (onsets, bins), and the changes' log weights. What the changes are is taken from the first onset's shares.
    """
    old, count = shares[0], counts.sum(axis=1, keepdims=True)
    basis = _tilts(old)
    tilted = counts @ basis.T - count * np.log(shares @ np.exp(basis).T)
    runs, sizes = _runs(len(old))
    inside, share = counts @ runs.T, shares @ runs.T
    more = inside * np.log1p(PART * (1.0 / share - 1.0)) + (count - inside) * log1p(-PART)
    weights = sizes / np.maximum(runs @ old, RAREST)
    weights *= RUN_WEIGHT / weights.sum()
    return np.concatenate([tilted, more], axis=1), np.log(np.concatenate([TILT_WEIGHTS, weights]))


@lru_cache(maxsize=2_048)
def log_ratios(shares: tuple[float, ...]) -> Floats:
    """Log likelihood ratios of some of the changes, shape (changes, bins), for a quick look."""
    old = np.maximum(shares, 1e-4)
    old /= old.sum()
    basis = _tilts(old)[QUICK_TILTS]
    bins = len(old)
    runs = _runs(bins)[0][[0, bins - 1, *range(bins, 2 * bins - 2, 3)]]
    raised = np.log1p(PART * (1.0 / (runs @ old) - 1.0))[:, None]
    inside = runs * raised + (1.0 - runs) * log1p(-PART)
    return np.concatenate([basis - np.log(np.exp(basis) @ old)[:, None], inside])


def with_prior(counts: Floats) -> Floats:
    """Dirichlet parameters, shape (onsets, bins). A bin that was never seen is rather expected beside one
    that was, and if others were seen but once (Good and Turing); were all expected alike, a histogram of few
    bins would seem to narrow as it fills.
    """
    seen = counts > 0
    beside = np.zeros_like(seen)
    beside[:, 1:] |= seen[:, :-1]
    beside[:, :-1] |= seen[:, 1:]
    once = (seen & (counts < ONCE)).sum(axis=1) / np.maximum((~seen).sum(axis=1), 1)
    rare = PRIOR * np.clip(once, 1.0 / counts.shape[1], 1.0)[:, None]
    return counts + np.where(seen, PRIOR, np.where(beside, np.maximum(rare, PRIOR / 2.0), rare))


def log_dirichlet(counts: Floats, prior: Floats) -> Floats:
    """Log of the Dirichlet-multinomial probability of observations in their order, shape (onsets,)."""
    weight, count = prior.sum(axis=1), counts.sum(axis=1)
    each = (gammaln(prior + counts) - gammaln(prior)).sum(axis=1)
    return np.asarray(each + gammaln(weight) - gammaln(weight + count))


def _tilts(old: Floats) -> Floats:
    """Exponents of the tilts of a histogram, shape (tilts, bins)."""
    scores = ndtri(np.cumsum(old) - old / 2.0)
    return np.asarray(TILTS @ np.array([scores, scores**2]))


@lru_cache
def _runs(bins: int) -> tuple[Floats, Floats]:
    """Runs of neighbouring bins, shape (runs, bins), and their sizes."""
    places = np.arange(bins)
    rows = [(places >= first) & (places < first + size) for size in RUNS for first in range(bins - size + 1)]
    runs = np.array(rows, dtype=float)
    return runs, runs.sum(axis=1)
