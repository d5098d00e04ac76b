"""The changes of a histogram that a test looks for: tilts, and more mass in a run of bins.

A tilt multiplies each bin's share by the exponential of a function of its normal score (of rank, so that any
distribution has them): the score itself for a shift, its square for spread, its positive or negative part for
a tail. Source: Neyman, "Smooth test for goodness of fit" (1937). A second mode is mass that comes into a run
of 1, 2 or 4 neighbouring bins, the more to be expected the less was there.

>>> old = np.array([0.1, 0.2, 0.4, 0.2, 0.1])
>>> gains, log_weights = changes(np.array([[0, 0, 0, 0, 9.0]]), old[None])
>>> float(gains.max().round(1)), gains.shape[1] == len(log_weights)
(16.7, True)
"""

from __future__ import annotations

from functools import lru_cache
from math import log

import numpy as np
from scipy.special import gammaln, ndtri

from detectors.sequential.evidence import Floats

PRIOR = 0.5
ONCE = 1.5
TILTS = np.array(
    [(each, 0.0, 0.0, 0.0) for each in (-2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0)]
    + [(0.0, each, 0.0, 0.0) for each in (-1.0, -0.4, 0.2, 0.35)]
    + [(0.0, 0.0, each, 0.0) for each in (-0.8, 0.7)]
    + [(0.0, 0.0, 0.0, each) for each in (-0.8, 0.7)]
)
"""Of a score z: z (a shift), z² (spread), its positive and its negative part (either tail)."""
TILT_WEIGHTS = np.array([0.4 / 8] * 8 + [0.25 / 4] * 4 + [0.05 / 4] * 4)
PARTS = np.array([0.06, 0.15, 0.4])
QUICK_PART = 0.15
REGION_WEIGHT = 0.25
FREE_WEIGHT = 0.05


def changes(counts: Floats, shares: Floats) -> tuple[Floats, Floats]:
    """Log likelihood ratios of the changes, shape (onsets, changes), to the shares before each onset, shape
    (onsets, bins), and the changes' log weights. What the changes are is taken from the first onset's shares.
    """
    old, count = shares[0], counts.sum(axis=1, keepdims=True)
    basis = _tilts(old)
    tilted = counts @ basis.T - count * np.log(shares @ np.exp(basis).T)
    regions, sizes = _regions(len(old))
    inside, share = counts @ regions.T, shares @ regions.T
    raised = np.log1p(PARTS[:, None, None] * (1.0 / share - 1.0))
    more = inside * raised + (count - inside) * np.log1p(-PARTS)[:, None, None]
    weights = sizes / np.sqrt(regions @ old)
    weights *= REGION_WEIGHT / len(PARTS) / weights.sum()
    log_weights = np.log(np.concatenate([TILT_WEIGHTS, *[weights] * len(PARTS)]))
    return np.concatenate([tilted, *more], axis=1), log_weights


@lru_cache(maxsize=2_048)
def log_ratios(shares: tuple[float, ...]) -> Floats:
    """Log likelihood ratios of some of the changes, shape (changes, bins), for a quick look."""
    old = np.maximum(shares, 1e-4)
    old /= old.sum()
    basis = _tilts(old)[1::2]
    regions = _regions(len(old))[0][len(old) :]
    raised = np.log1p(QUICK_PART * (1.0 / (regions @ old) - 1.0))[:, None]
    inside = regions * raised + (1.0 - regions) * log(1.0 - QUICK_PART)
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
    return np.asarray(
        TILTS @ np.array([scores, scores**2, np.maximum(scores, 0.0), np.maximum(-scores, 0.0)])
    )


@lru_cache
def _regions(bins: int) -> tuple[Floats, Floats]:
    """Runs of neighbouring bins, shape (regions, bins), and their sizes."""
    places = np.arange(bins)
    rows = [places // size == number for size in (1, 2, 4) for number in range(-(-bins // size))]
    regions = np.array(rows, dtype=float)
    return regions, regions.sum(axis=1)
