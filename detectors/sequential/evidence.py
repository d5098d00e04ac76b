"""What the sequential tests make of their histories: a Shiryaev-Roberts sum of e-processes, and a reading.

A test gives the log e-value of each onset from the sums since and before it. Two references are weighed: all
that came before the onset, and the frozen one, which a slow creep cannot move; their mixture is an e-process
because each is. Observations count for less by the dispersion of blocks of them as it was known before the
onset (`effective`), so bursts of alike requests are not taken for a change.

>>> from detectors.sequential.onsets import History, Spans, take
>>> history = History()
>>> for at in range(100):
...     taken = take(history, Spans(), at, [10.0, 1.0])
>>> def log_e(since, before):
...     return since[:, 1] / since[:, 0] - before[:, 1] / before[:, 0]
>>> weighed = weigh(history, 100, log_e)
>>> round(float(np.exp(weighed.log_total))), float(weighed.before[0])
(840, 160.0)
"""

from __future__ import annotations

from collections.abc import Callable
from math import log, log1p
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.sequential.onsets import History

Floats = NDArray[np.float64]

DISPERSION_PRIOR = 5.0
FROZEN_SHARE = 0.15
LARGEST_LOG = 700.0


class Weighed(NamedTuple):
    """Log of the Shiryaev-Roberts sum; of the likeliest onset: where it began, the sums since and before."""

    log_total: float
    began: int
    since: Floats
    before: Floats

    def run_length(self, calibration: float) -> float:
        """The false-alarm run length that the sum is worth."""
        return float(np.exp(min(self.log_total, LARGEST_LOG)) / calibration)


def weigh(
    history: History, min_reference: float, log_e: Callable[[Floats, Floats], Floats]
) -> Weighed | None:
    """Weighs every onset that has a reference of `min_reference` observations before it; None if none has.
    `log_e` takes the sums since and before, shape (onsets, sums) each.
    """
    since, before = since_and_before(history)
    first = int(np.searchsorted(before[:, 0], min_reference))
    if first == len(before):
        return None
    since, before = since[first:], before[first:]
    onsets = len(since)
    if history.frozen != history.reference and history.frozen[0] >= min_reference:
        # One call for both references: at these sizes the cost is in calls.
        before = np.concatenate((before, np.broadcast_to(history.frozen, since.shape)))
        of_each = log_e(np.concatenate((since, since)), before)
        of_each[:onsets] += log1p(-FROZEN_SHARE)
        of_each[onsets:] += log(FROZEN_SHARE)
        evidence = np.logaddexp(of_each[:onsets], of_each[onsets:])
    else:
        of_each = evidence = log_e(since, before)
    counts = since[:, 0].copy()
    counts[:-1] -= since[1:, 0]
    total = float(log_sum_exp(evidence + np.log(counts)))
    likeliest = int(of_each.argmax())
    onset = likeliest % onsets
    return Weighed(total, history.recent[first + onset].began, since[onset], before[likeliest])


def since_and_before(history: History) -> tuple[Floats, Floats]:
    """Of each possible onset, oldest first: the sums since it and before it, shape (onsets, sums) each."""
    rows = np.array([stretch.sums for stretch in history.recent], dtype=float)
    since = rows[::-1].cumsum(axis=0)[::-1]
    before = since[0] - since
    return since, before + history.reference if history.reference else before


def effective(since: Floats, before: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """The sums as if of independent observations: divided by how much more blocks of what was before vary
    than independent ones would. That is Pearson's chi-square over its degrees of freedom, shrunk towards 1
    and half a standard error lower, at least 1 (quasi-likelihood: McCullagh and Nelder, Generalized Linear
    Models, 1989, ch. 9). It lowers the evidence, and what is taken as known of before. `variance` is that of
    one observation.
    """
    count, total, squares, blocks = before[:, 0], before[:, 1], before[:, -2], before[:, -1]
    chi2 = (squares - total * total / count) / variance
    degrees = np.maximum(blocks - 1.0, 0.0)
    factor = (DISPERSION_PRIOR + chi2 - np.sqrt(degrees / 2.0)) / (DISPERSION_PRIOR + degrees)
    factor = np.maximum(1.0, factor)[:, None]
    return since / factor, before / factor


def log_sum_exp(values: Floats) -> Floats:
    """Over the last axis, which has a finite value; scipy's, without its checks, at a tenth of the cost."""
    top = values.max(axis=-1, keepdims=True)
    return np.asarray(np.log(np.exp(values - top).sum(axis=-1)) + top[..., 0])
