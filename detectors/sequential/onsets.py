"""What the sequential tests share: additive statistics since every possible onset, and of before it.

Method: Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change detection"
(2022, arXiv:2203.03532): a sum, over all possible onsets, of e-processes that began there
(Shiryaev-Roberts). Under no change every term has mean 1, so the sum over t onsets has mean t, and by
optional stopping the mean number of observations before it reaches A is at least A: validity at any time of
looking and at any sample size. What a test adds is the e-process: a mixture over changes, over the
predictive probability of "nothing changed" given what was seen before the onset.

Onsets are kept at a resolution of an eighth of their age: some fifty, whatever has come. What is older than
the horizon becomes the reference, which forgets beyond its memory; what entered it first stays besides as a
frozen reference, so that a creep which the reference follows is still seen.

>>> history, spans = History(), Spans(horizon=1_000, freeze=200)
>>> for at in range(5_000):
...     taken = take(history, spans, at, [1.0, 0.5])
>>> counts = [stretch.sums[0] for stretch in history.recent]
>>> len(counts) < 80, sum(counts) + history.reference[0], history.frozen[0] < 400
(True, 5000, True)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from detectors.sequential.stretches import (
    BLOCK,
    History,
    Spans,
    Stretch,
    Taken,
    coarsen,
    joined,
    learn,
    whole,
)

__all__ = [
    "BLOCK",
    "Direction",
    "History",
    "Reading",
    "Spans",
    "Stretch",
    "Taken",
    "known",
    "restart",
    "settled",
    "take",
]

Direction = Literal["rise", "fall", "both"]


class Reading(NamedTuple):
    """The evidence for a change. `run_length` is the false-alarm run length, in observations, at which this
    evidence would just raise an alarm. `began` is the `at` of the likeliest onset, `before` and `after` the
    rate, mean or mean bin before and since, `observations` how many came since.
    """

    run_length: float
    began: int
    before: float
    after: float
    observations: int


def take(history: History, spans: Spans, at: int, sums: Sequence[float]) -> Taken:
    """Takes observations in: their count, their total, and a test's own sums."""
    row = whole([*sums, sums[1] * sums[1] / sums[0], 1])
    recent = history.recent
    if recent and recent[-1].sums[0] + row[0] <= spans.finest:
        recent[-1].sums = joined(recent[-1].sums, row)
        return Taken.ADDED
    recent.append(Stretch(at, row))
    history.fresh += 1
    # Joining costs; a few stretches too many do not.
    return coarsen(history, spans) if history.fresh >= spans.resolution else Taken.ADDED


def restart(history: History, spans: Spans, began: int) -> None:
    """Forgets what came from the onset on: the reference does not learn from it."""
    for stretch in history.recent:
        if stretch.began < began:
            learn(history, spans, stretch.sums)
    history.recent, history.fresh = [], 0


def known(history: History) -> list[float]:
    """The sums of the reference and of everything since; empty if there is nothing."""
    return _summed(history, len(history.recent))


def settled(history: History) -> list[float]:
    """The sums of the reference and of the older half of what came since: for a quick look at the rest.
    Without a reference it is at least the first stretch, however much of everything that is.
    """
    half = sum(stretch.sums[0] for stretch in history.recent) / 2
    number = 0
    for stretch in history.recent:
        half -= stretch.sums[0]
        if half < 0:
            break
        number += 1
    return _summed(history, number if history.reference else max(number, 1))


def _summed(history: History, number: int) -> list[float]:
    rows = [stretch.sums for stretch in history.recent[:number]]
    if history.reference:
        rows.append(history.reference)
    return [sum(column) for column in zip(*rows, strict=True)]
