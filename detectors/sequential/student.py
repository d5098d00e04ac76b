"""How well a shift explains values whose mean and variance were learned from others: Student's densities.

With a normal-inverse-gamma posterior the values to come follow Student's distribution (Gelman et al.,
"Bayesian Data Analysis", 2013, ch. 3), whether their mean is as before or a shift away.

Ten values of mean 2 and variance 1, after a hundred of mean 1 and variance 1:

>>> since, known, one = np.array([[10.0, 20.0, 50.0]]), np.array([100.0]), np.array([1.0])
>>> shifted(since, known, one, one, (0.5, 1.0, -1.0)).round(1).tolist()
[[3.3, 4.1, -6.4]]
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from detectors.sequential.evidence import Floats
from detectors.sequential.onsets import Direction

BREADTH = 0.25
"""The standard deviation of each mixed shift, as a share of the shift."""


def shifted(
    since: Floats, known: Floats, mean: Floats, variance: Floats, shifts: tuple[float, ...]
) -> Floats:
    """Log probability of the values since under each shift, in standard deviations, over that of none.

    Args:
        since: count, sum and sum of squares, shape (onsets, at least 3).
        known, mean, variance: of the values before, how many, and of one; shape (onsets,) each.

    Returns:
        Shape (onsets, shifts).
    """
    count = since[:, 0]
    apart = since[:, 1] / count - mean
    within = np.maximum(since[:, 2] - since[:, 1] ** 2 / count, 0.0) / 2.0
    shape = known / 2.0
    scale = shape * variance
    sizes = np.array(shifts)
    spread = (BREADTH * sizes) ** 2 + 1.0 / known[:, None]
    each = 1.0 + count[:, None] * spread
    distance = apart[:, None] - sizes * np.sqrt(variance)[:, None]
    changed = log_student(count[:, None], distance, each, (within + scale)[:, None], shape[:, None])
    unchanged = log_student(count, apart, 1.0 + count / known, within + scale, shape)
    return np.asarray(changed - unchanged[:, None])


def log_student(count: Floats, apart: Floats, spread: Floats, rest: Floats, shape: Floats) -> Floats:
    """Log of Student's density of the values, but for what does not depend on where their mean was expected:
    `apart` is the distance from there, `spread` 1 + count times that expectation's variance in the values'.
    """
    misfit = rest + count * apart**2 / spread / 2.0
    return np.asarray(-0.5 * np.log(spread) - (shape + count / 2.0) * np.log(misfit))


@lru_cache
def signed(direction: Direction, shifts: tuple[float, ...]) -> tuple[float, ...]:
    """Shifts of these sizes, in the directions that are looked for."""
    fallen = tuple(-shift for shift in shifts)
    return {"rise": shifts, "fall": fallen, "both": shifts + fallen}[direction]
