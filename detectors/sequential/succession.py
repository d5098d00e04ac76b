"""How likely the next observations are, from counts alone: what has not been seen, and a run of what is rare.

Good, "The Population Frequencies of Species and the Estimation of Population Parameters", Biometrika 40
(1953): the probability that the next observation is of a kind not seen yet is about the share of
observations whose kind was seen once. Laplace's rule of succession: after `hits` of n trials, with all
rates equally likely before, the next trial is a hit with probability (hits + 1) / (n + 2).

>>> novelty([9]), novelty([5, 1, 1])
(0.1, 0.375)
>>> round(run_chance(hits=0, misses=9, run=2), 4)
0.0152
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod


def novelty(counts: Iterable[int]) -> float:
    """The probability that the next observation is of a new kind, taking one such observation as made.
    `counts` is the observations of each kind.
    """
    known = list(counts)
    return (sum(count == 1 for count in known) + 1) / (sum(known) + 1)


def run_chance(hits: int, misses: int, run: int) -> float:
    """The probability that the next `run` trials are all hits, after so many hits and misses."""
    return prod((hits + 1 + step) / (hits + misses + 2 + step) for step in range(run))
