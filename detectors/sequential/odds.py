"""How well changed odds explain hits, when the rate before was learned from others: beta-binomial.

With a beta posterior of the rate, hits to come are beta-binomial where nothing has changed (Gelman et al.,
"Bayesian Data Analysis", 2013, ch. 2). A change multiplies the odds, so that it means as much of a rare hit
as of a frequent one.

Six hits among ten observations, after ten among a hundred:

>>> since, before = np.array([[10.0, 6.0]]), np.array([[100.0, 10.0]])
>>> changed(since, before, ratios("both", (3.0, 12.0))).round(1).tolist()
[[3.8, 6.4, -6.7, -14.8]]
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import betaln

from detectors.sequential.evidence import Floats
from detectors.sequential.onsets import Direction

PRIOR_HITS = 0.5
PRIOR_OTHERS = 0.5


def share(count: float, hits: float) -> float:
    """The rate as known from so many observations and hits."""
    return (PRIOR_HITS + hits) / (PRIOR_HITS + PRIOR_OTHERS + max(count, hits))


def changed(since: Floats, before: Floats, by: tuple[float, ...]) -> Floats:
    """Log probability of the hits since with the odds changed `by` each ratio, over that of none changed.

    Args:
        since, before: count and hits, shape (onsets, at least 2) each.

    Returns:
        Shape (onsets, ratios).
    """
    hits, others = since[:, 1], np.maximum(since[:, 0] - since[:, 1], 0.0)
    successes = PRIOR_HITS + before[:, 1]
    failures = PRIOR_OTHERS + np.maximum(before[:, 0] - before[:, 1], 0.0)
    unchanged = betaln(successes + hits, failures + others) - betaln(successes, failures)
    logit = np.log(successes / failures)[:, None] + np.log(by)
    log_other = -np.log1p(np.exp(logit))
    likelihood = hits[:, None] * (logit + log_other) + others[:, None] * log_other
    return np.asarray(likelihood - unchanged[:, None])


@lru_cache
def ratios(direction: Direction, odds_ratios: tuple[float, ...]) -> tuple[float, ...]:
    """Multiples of the odds, or divisors, or both, as the direction that is looked for has it."""
    fallen = tuple(1.0 / ratio for ratio in odds_ratios)
    return {"rise": odds_ratios, "fall": fallen, "both": odds_ratios + fallen}[direction]
