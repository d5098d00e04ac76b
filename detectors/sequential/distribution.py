"""The change of a distribution over bins, with the one before it estimated.

Statistic: of each onset, a mixture over changed histograms of the probability of the bins since, over the
Dirichlet-multinomial of "nothing changed" whose posterior is learned from before the onset: those of
`histograms`, and a Dirichlet-multinomial around the old one for what is none of them. Unit: bins, in their
order. Source: for the sum over onsets see `onsets`.

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
from math import log
from typing import NamedTuple

import numpy as np

from detectors.sequential import onsets, screens
from detectors.sequential.evidence import Floats, Weighed, effective, log_sum_exp
from detectors.sequential.histograms import FREE_WEIGHT, changes, log_dirichlet, log_ratios, with_prior
from detectors.sequential.onsets import Spans, Taken
from detectors.sequential.screens import Screened

SETTLED = 100.0
FREE = 20.0
"""How close to the old histogram one of no particular shape is expected, in observations."""


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
    spans: Spans = field(default_factory=lambda: Spans(horizon=4_000, finest=1, resolution=5))
    floor: float = 1_000.0

    class State(Screened):
        """`shares` are taken as known in the quick look; empty, they are not yet."""

        shares: tuple[float, ...] = ()

    def update(self, state: State, counts: Sequence[float], at: int) -> Divergence | None:
        """Takes the counts of each bin in; `at` names them."""
        count = sum(counts)
        if count <= 0:
            return None
        place = sum(number * each for number, each in enumerate(counts))
        taken = onsets.take(state, self.spans, at, (count, place, *counts))
        hopeless = bool(state.shares) and not screens.promising(
            state, count, (log_ratios(state.shares) @ np.array(counts)).tolist()
        )
        if taken:
            settled = onsets.settled(state)
            enough = bool(settled) and settled[0] >= SETTLED
            state.shares = tuple(_shares(np.array(settled[2:-2])).round(4).tolist()) if enough else ()
            screens.renew(state, self.floor)
        # A creep that the reference follows shows only against the frozen one, which need not be soon.
        if hopeless and taken is not Taken.LEARNED:
            return None
        told = screens.weighed(state, self.min_reference, self.floor, self._log_e)
        return None if told is None else self._reading(*told)

    def _reading(self, found: Weighed, length: float) -> Divergence | None:
        old, new = _shares(found.before[2:-2]), _shares(found.since[2:-2])
        divergence = float((new * np.log(new / old)).sum())
        if divergence < self.min_divergence:
            return None
        before, after = found.before[1] / found.before[0], found.since[1] / found.since[0]
        return Divergence(length, found.began, float(before), float(after), int(found.since[0]), divergence)

    def restart(self, state: State, began: int) -> None:
        """Forgets what came from the onset on: the reference does not learn from it."""
        onsets.restart(state, self.spans, began)
        state.screens, state.shares = [], ()

    def reference(self, state: State) -> Reference:
        """The shares as known from everything that was not forgotten."""
        counts = self.counts(state)
        return Reference(sum(counts), _shares(np.array(counts)).tolist())

    def counts(self, state: State) -> list[float]:
        """By bin, everything that was not forgotten."""
        return onsets.known(state)[2:-2] or [0.0] * self.bins

    def _log_e(self, since: Floats, before: Floats) -> Floats:
        """Of each onset, shape (onsets,): log probability of a mixed change over that of none."""
        places = np.arange(self.bins)
        known = with_prior(before[:, 2:-2])
        shares = known / known.sum(axis=1, keepdims=True)
        since, before = effective(since, before, shares @ (places**2) - (shares @ places) ** 2)
        prior, counts = with_prior(before[:, 2:-2]), since[:, 2:-2]
        shares = prior / prior.sum(axis=1, keepdims=True)
        as_before = (counts * np.log(shares)).sum(axis=1)
        unchanged = log_dirichlet(counts, prior) - as_before
        gains, log_weights = changes(counts, shares)
        free = log_dirichlet(counts, FREE * shares) - as_before
        changed = np.concatenate([gains, free[:, None]], axis=1) - unchanged[:, None]
        return log_sum_exp(changed + np.append(log_weights, log(FREE_WEIGHT)))


def _shares(counts: Floats) -> Floats:
    filled = with_prior(counts[None])[0]
    return np.asarray(filled / filled.sum())
