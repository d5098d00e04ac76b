"""Histograms that merge exactly: sparse counts by bin.

Output lengths go into bins of 25 tokens (R 36), and of 5 below 100, where a few tokens are half an answer.
Durations and costs, which spread over orders of magnitude, go into bins each 4% wider than the last, so that
any quantile read back is within 2% of the true one: the DDSketch of Masson, Rim and Lee (VLDB 2019). Unlike a
KLL sketch, whose compaction is random and depends on the order of merges, two of these merge to the same
counts whatever the grouping (docs/decisions/006).

>>> bins: dict[int, int] = {}
>>> for value_ms in (90, 100, 110, 5_000):
...     count_in(bins, log_bin(value_ms))
>>> round(quantile(bins, 0.5)), round(quantile(bins, 1.0))
(100, 5067)
>>> [length_tokens(length_bin(tokens)) for tokens in (3, 12, 99, 110, 1_000, 9_000)]
[0, 10, 95, 100, 1000, 6375]
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log, log1p
from typing import Final

LENGTH_BIN_TOKENS: Final = 25
SHORT_BIN_TOKENS: Final = 5
SHORT_TOKENS: Final = 100
SHORT_BINS: Final = SHORT_TOKENS // SHORT_BIN_TOKENS
MAX_LENGTH_BIN: Final = 271
GROWTH: Final = 1.04
_STEP: Final = log(GROWTH)
_STEPS: Final = 1 / _STEP
MAX_LOGGED: Final = 1e13


def length_bin(tokens: int) -> int:
    """The bin of an output length; lengths from 6,375 tokens on share the last."""
    if tokens < SHORT_TOKENS:
        return tokens // SHORT_BIN_TOKENS
    return min(SHORT_BINS + (tokens - SHORT_TOKENS) // LENGTH_BIN_TOKENS, MAX_LENGTH_BIN)


def length_tokens(place: float) -> float:
    """The output length at which a bin begins; of a place and a half, the middle of the bin."""
    if place < SHORT_BINS:
        return place * SHORT_BIN_TOKENS
    return SHORT_TOKENS + (place - SHORT_BINS) * LENGTH_BIN_TOKENS


def log_bin(value: float) -> int:
    """The bin of a value; what is less than 1 counts as 1, what is more than 1e13 as that."""
    if value <= 1.0:
        return 0
    return int(log(value if value < MAX_LOGGED else MAX_LOGGED) * _STEPS)


def log_value(place: float) -> float:
    """The value in the (geometric) middle of a log bin."""
    return exp((place + 0.5) * _STEP)


def log_boundary(place: float) -> float:
    """The natural logarithm of the value at which a log bin begins."""
    return place * _STEP


def length_boundary(place: float) -> float:
    """Where a bin of lengths begins, on a scale linear below some 25 tokens and logarithmic above."""
    return log1p(length_tokens(place) / LENGTH_BIN_TOKENS)


def count_in(bins: dict[int, int], place: int) -> None:
    """Count one observation."""
    bins[place] = bins.get(place, 0) + 1


def merge_bins(mine: dict[int, int], others: Mapping[int, int]) -> None:
    """Add the counts of `others` to `mine`."""
    for place, count in others.items():
        mine[place] = mine.get(place, 0) + count


def log_moments(bins: Mapping[int, int]) -> tuple[int, float, float]:
    """Count, sum and sum of squares of the natural logarithms of what log bins hold."""
    count, total, squares = 0, 0.0, 0.0
    for place, here in bins.items():
        logged = (place + 0.5) * _STEP
        count += here
        total += here * logged
        squares += here * logged * logged
    return count, total, squares


def quantile(bins: Mapping[int, int], share: float) -> float:
    """The value below which `share` of the observations in log bins lie, within 2%. 0 of none."""
    wanted = share * sum(bins.values())
    for place in sorted(bins):
        wanted -= bins[place]
        if wanted <= 0:
            return log_value(place)
    return 0.0
