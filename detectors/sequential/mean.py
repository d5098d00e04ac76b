"""The change of a mean, with the mean and the variance before it estimated: sequential t-tests.

Statistic: of each onset, a mixture over shifts (in standard deviations) of the normal-inverse-gamma
predictive probability of the values since, over that of "nothing changed"; both are Student's, learned from
before the onset. Unit: that of the values. Source: Lai and Xing, "Sequential change-point detection when the
pre- and post-change parameters are unknown" (Sequential Analysis 29, 2010).

Values that are not normal: for skewed or heavy-tailed ones the normal ratio is too sure; what it gains from
each value is lowered, and what a single value may say is bounded, by `cumulants`.

>>> import numpy as np
>>> random = np.random.default_rng(7)
>>> test, state, seen = MeanChange("fall"), MeanChange.State(), 0
>>> for mean in [0.8] * 200 + [0.6] * 20:
...     scores = random.normal(mean, 0.2, 5)
...     reading = test.update(state, 5, scores.sum(), (scores**2).sum(), seen)
...     seen += 5
...     if reading is not None and reading.run_length >= 15_000:
...         break
>>> seen, reading.began, round(reading.before, 2), round(reading.after, 2)
(1020, 1010, 0.78, 0.49)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from math import log, sqrt
from typing import NamedTuple

import numpy as np

from detectors.sequential import onsets, screens
from detectors.sequential.cumulants import Known, clipped, learn, penalties
from detectors.sequential.evidence import Floats, effective, log_sum_exp
from detectors.sequential.onsets import Direction, Reading, Spans, Taken
from detectors.sequential.student import shifted, signed

SETTLED = 50.0
"""So many observations make a standard deviation to bound others by."""


class Reference(NamedTuple):
    """What is known of before."""

    observations: float
    mean: float
    sd: float


@dataclass(frozen=True, slots=True)
class MeanChange:
    """Parameters
    ----------
    direction
        Which changes are looked for.
    shifts
        The changes that are mixed, in standard deviations; one twice the last costs the least (measured).
    min_reference
        No reading before so many observations before the onset.
    min_change
        A smaller change, in the values' unit, is of no practical meaning.
    min_sd
        The values are taken to vary by at least this, so that constant ones do not make any change certain.
    spans, floor
        As of `RateChange`; of a large shift four values are the whole delay, so they are kept apart.
    """

    direction: Direction = "both"
    shifts: tuple[float, ...] = (0.3, 0.6, 1.2, 2.4)
    min_reference: float = 100.0
    min_change: float = 0.0
    min_sd: float = 0.01
    spans: Spans = field(default_factory=lambda: Spans(finest=1))
    floor: float = 1_000.0

    class State(Known):
        """What is taken as known in the quick look; nothing besides."""

    def update(self, state: State, count: float, total: float, squares: float, at: int) -> Reading | None:
        """Takes `count` values in, their sum and their sum of squares; `at` names them."""
        if count <= 0:
            return None
        raw = total
        total, squares = clipped(state, count, total, squares)
        # What was clipped off is nought as a rule: one byte.
        taken = onsets.take(state, self.spans, at, (count, total, squares, raw - total or 0))
        hopeless = state.sd > 0 and not self._look(state, count, total, squares)
        if taken:
            observations, state.mean, sd = self._moments(onsets.settled(state))
            state.sd = sd if observations >= SETTLED else 0.0
            screens.renew(state, self.floor)
        # A creep that the reference follows shows only against the frozen one, which need not be soon.
        if hopeless and taken is not Taken.LEARNED:
            return None
        penalty = penalties(state, self._shifts)
        log_e = partial(self._log_e, penalty)
        told = screens.weighed(state, self.min_reference, self.floor, log_e)
        if told is None:
            return None
        found, length = told
        before, after = _mean(found.before), _mean(found.since)
        if abs(after - before) < self.min_change:
            return None
        return Reading(length, found.began, before, after, int(found.since[0]))

    def restart(self, state: State, began: int) -> None:
        """Forgets what came from the onset on: the reference does not learn from it."""
        onsets.restart(state, self.spans, began)
        state.screens, state.sd = [], 0.0

    def reference(self, state: State) -> Reference:
        """The mean and the standard deviation as known from everything that was not forgotten."""
        return self._moments(onsets.known(state))

    def _moments(self, sums: list[float]) -> Reference:
        if not sums:
            return Reference(0.0, 0.0, 0.0)
        count, total, squares, cut = sums[:4]
        variance = max(squares - total * total / count, 0.0) / count
        return Reference(count, (total + cut) / count, sqrt(variance + self.min_sd**2))

    @property
    def _shifts(self) -> tuple[float, ...]:
        return signed(self.direction, self.shifts)

    def _look(self, state: State, count: float, total: float, squares: float) -> bool:
        """The quick look; what is not promising is learned from."""
        apart = (total - count * state.mean) / state.sd
        gains = [each * (apart - count * each / 2.0) for each in self._shifts[::2]]
        if screens.promising(state, count, gains):
            return True
        learn(state, count, total, squares)
        return False

    def _log_e(self, penalty: Floats, since: Floats, before: Floats) -> Floats:
        """Of each onset, shape (onsets,): log predictive probability of a mixed shift over that of none."""
        mean = before[:, 1] / before[:, 0]
        variance = np.maximum(before[:, 2] / before[:, 0] - mean**2, 0.0) + self.min_sd**2
        since, before = effective(since, before, variance)
        gained = shifted(since, before[:, 0], mean, variance, self._shifts) - since[:, :1] * penalty
        return log_sum_exp(gained) - log(len(self._shifts))


def _mean(sums: Floats) -> float:
    return float((sums[1] + sums[3]) / sums[0])
