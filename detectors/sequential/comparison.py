"""Two versions compared on live traffic from a known start: better, worse, the same, or not yet known.

Statistic: a confidence sequence for the difference new - old, valid at every time of looking. Of each side
and each supposed value the evidence against it is an e-process (a mixture of likelihoods over the likelihood
there); their product is one against both values together, and a difference is out when every pair of values
with it is, that is when the least product reaches 1/error (Ville's inequality). For rates: the beta-binomial
mixture (Robbins, 1970), exact at any rate and any sample size. For means: the scale-invariant t mixture (Wang
and Ramdas, "Anytime-valid t-tests", 2024), exact for normal values. Unit: that of the rate or mean.

`error` bounds the probability that any verdict ever given is false. "same" says that the difference is within
the margin, whichever sign it has.

>>> test, state = RateComparison(margin=0.05), Sides()
>>> test.update(state, "old", 2_000, 1_800).verdict
'not yet known'
>>> test.update(state, "new", 300, 210).verdict
'worse'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, log
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from scipy.special import betaln, xlog1py, xlogy

from detectors.sequential.evidence import Floats

Side = Literal["old", "new"]
Verdict = Literal["better", "worse", "same", "not yet known"]
Evidence = Callable[[list[float], Floats], Floats]

GRID = 65
BREADTH = 0.25
"""Variance of the mixed means, in variances of the values: the sequence is narrowest near 4/this values."""


class Comparison(NamedTuple):
    """The verdict, the rate or mean of each side (None: nothing yet), how many observations of
    the new.
    """

    verdict: Verdict
    old: float | None
    new: float | None
    observations: int


class Sides(msgspec.Struct):
    """Sums of each side."""

    old: list[float] = msgspec.field(default_factory=lambda: [0.0, 0.0, 0.0])
    new: list[float] = msgspec.field(default_factory=lambda: [0.0, 0.0, 0.0])


@dataclass(frozen=True, slots=True)
class RateComparison:
    """Parameters
    ----------
    margin
        A difference within this is the same.
    higher_is_better
        What a rise is.
    error
        The probability that a verdict ever given is false.
    dispersion
        By how much the counts vary more than independent ones; the evidence is divided by it.
    """

    margin: float = 0.02
    higher_is_better: bool = True
    error: float = 0.01
    dispersion: float = 1.0

    def update(self, state: Sides, side: Side, count: float, hits: float) -> Comparison:
        """Takes `count` observations of a side in, of which `hits` were hits."""
        _add(state, side, count, hits, 0.0)
        return _compare(state, _against_rate, (0.0, 1.0), self)


@dataclass(frozen=True, slots=True)
class MeanComparison:
    """As `RateComparison`, for means; `min_sd` is the least that values are taken to vary by."""

    margin: float = 0.05
    higher_is_better: bool = True
    error: float = 0.01
    dispersion: float = 1.0
    min_sd: float = 0.01

    def update(self, state: Sides, side: Side, count: float, total: float, squares: float) -> Comparison:
        """Takes `count` values of a side in, their sum and their sum of squares."""
        _add(state, side, count, total, squares)
        return _compare(state, lambda sums, means: _against_mean(sums, means, self.min_sd), (-inf, inf), self)


def _add(state: Sides, side: Side, *sums: float) -> None:
    mine = state.old if side == "old" else state.new
    mine[:] = [one + more for one, more in zip(mine, sums, strict=True)]


def _compare(
    state: Sides, against: Evidence, support: tuple[float, float], test: RateComparison | MeanComparison
) -> Comparison:
    old, new = (sums[1] / sums[0] if sums[0] else None for sums in (state.old, state.new))
    observations = int(state.new[0])
    if old is None or new is None:
        return Comparison("not yet known", old, new, observations)
    needed = -log(test.error) * test.dispersion

    def excluded(difference: float) -> bool:
        """Whether every pair of values so far apart is out; the least is between the two sides' own."""
        one, other = sorted((old, new - difference))
        values = np.linspace(
            max(one, support[0], support[0] - difference),
            min(other, support[1], support[1] - difference),
            GRID,
        )
        evidence = against(state.old, values) + against(state.new, values + difference)
        return bool(evidence.min() >= needed)

    verdict: Verdict = "not yet known"
    if excluded(test.margin) and excluded(-test.margin) and abs(new - old) < test.margin:
        verdict = "same"
    elif excluded(0.0):
        verdict = "better" if (new > old) == test.higher_is_better else "worse"
    return Comparison(verdict, old, new, observations)


def _against_rate(sums: list[float], rates: Floats) -> Floats:
    count, hits = sums[0], sums[1]
    misses = max(count - hits, 0.0)
    mixture = betaln(0.5 + hits, 0.5 + misses) - betaln(0.5, 0.5)
    return np.asarray(mixture - xlogy(hits, rates) - xlog1py(misses, -rates))


def _against_mean(sums: list[float], means: Floats, min_sd: float) -> Floats:
    count, total, squares = sums
    if count < 2:
        return np.zeros_like(means)
    within = max(squares - total**2 / count, 0.0) + count * min_sd**2
    part = count * (total / count - means) ** 2 / within
    wide = 1.0 + count * BREADTH
    return np.asarray(-0.5 * log(wide) + count / 2.0 * (np.log1p(part) - np.log1p(part / wide)))
