"""The change of a rate, with the rate before it estimated: a mixture Shiryaev-Roberts e-detector.

Statistic: of each onset, a mixture over changed odds of the predictive probability of the hits since, over
the beta-binomial of "nothing changed" whose posterior is learned from before the onset. Unit: hits an
observation. Source: Shin, Ramdas and Rinaldo (2022), see `onsets`. So neither rate is needed, and
uncertainty about the old one lowers the evidence by what it should.

False alarms: the mean number of observations before a reading of A is at least A, as measured at fixed rates
(`tests/detectors/sequential/test_rate.py`).

Exposure: `count` may be fractional (scaled by what the season lets expect); hits beyond it are kept, their
misses are nought.

>>> import numpy as np
>>> random = np.random.default_rng(7)
>>> test, state, seen = RateChange("rise"), RateChange.State(), 0
>>> for rate in [0.02] * 200 + [0.08] * 50:
...     reading = test.update(state, 10, int(random.binomial(10, rate)), seen)
...     seen += 10
...     if reading is not None and reading.run_length >= 15_000:
...         break
>>> seen, reading.began, round(reading.before, 3), round(reading.after, 3)
(2080, 1980, 0.02, 0.09)
>>> test.restart(state, reading.began)
>>> round(test.reference(state).rate, 3)
0.02
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log, log1p
from typing import NamedTuple

import numpy as np

from detectors.sequential import onsets, screens
from detectors.sequential.evidence import Floats, Weighed, effective, log_sum_exp
from detectors.sequential.odds import PRIOR_HITS, PRIOR_OTHERS, changed, ratios, share
from detectors.sequential.onsets import Direction, Reading, Spans, Taken
from detectors.sequential.screens import Screened

SETTLED = 500.0


class Reference(NamedTuple):
    """What is known of before."""

    observations: float
    rate: float


@dataclass(frozen=True, slots=True)
class RateChange:
    """Parameters
    ----------
    direction
        Which changes are looked for.
    odds_ratios
        The changed rates that are mixed, as multiples (or divisors) of the old odds.
    min_reference, min_hits
        No reading before so many observations before the onset, and so many independent ones since of what
        became more frequent.
    min_change
        A smaller change is of no practical meaning.
    spans
        How long onsets and references are kept.
    floor
        Evidence worth less than this run length is not told, and mostly not worked out.
    """

    direction: Direction = "rise"
    odds_ratios: tuple[float, ...] = (1.5, 2.0, 3.0, 4.5, 7.0, 12.0, 25.0)
    min_reference: float = 100.0
    min_hits: float = 4.0
    min_change: float = 0.01
    spans: Spans = field(default_factory=Spans)
    floor: float = 1_000.0

    class State(Screened):
        """`rate` is taken as known in the quick look; below 0 it is not yet."""

        rate: float = -1.0

    def update(self, state: State, count: float, hits: float, at: int) -> Reading | None:
        """Takes `count` observations in, of which `hits` were hits; `at` names them."""
        if count <= 0:
            return None
        taken = onsets.take(state, self.spans, at, (count, hits))
        hopeless = not self._look(state, max(count, hits), hits)
        if taken:
            count, hits = onsets.settled(state)[:2]
            state.rate = share(count, hits) if count >= SETTLED else -1.0
            screens.renew(state, self.floor)
        # A creep that the reference follows shows only against the frozen one, which need not be soon.
        if hopeless and taken is not Taken.LEARNED:
            return None
        told = screens.weighed(state, self.min_reference, self.floor, self._log_e)
        return None if told is None else self._reading(*told)

    def _reading(self, found: Weighed, length: float) -> Reading | None:
        before = share(float(found.before[0]), float(found.before[1]))
        after = min(float(found.since[1] / found.since[0]), 1.0)
        since, _ = effective(found.since[None], found.before[None], np.array([before * (1.0 - before)]))
        gained = since[0, 1] if after > before else since[0, 0] - since[0, 1]
        if gained < self.min_hits or abs(after - before) < self.min_change:
            return None
        return Reading(length, found.began, before, after, int(found.since[0]))

    def restart(self, state: State, began: int) -> None:
        """Forgets what came from the onset on: the reference does not learn from it."""
        onsets.restart(state, self.spans, began)
        state.screens, state.rate = [], -1.0

    def reference(self, state: State) -> Reference:
        """The rate as known from everything that was not forgotten."""
        sums = onsets.known(state)
        return Reference(sums[0], share(sums[0], sums[1])) if sums else Reference(0.0, 0.5)

    def _look(self, state: State, count: float, hits: float) -> bool:
        """The quick look. Without a hit there is less evidence of a rise than before, not more."""
        likelier = {"rise": hits > 0, "fall": hits < count, "both": True}[self.direction]
        if state.rate < 0:
            return likelier
        gains = [
            hits * log(ratio) - count * log1p(state.rate * (ratio - 1.0))
            for ratio in ratios(self.direction, self.odds_ratios)[::2]
        ]
        return screens.promising(state, count, gains) and likelier

    def _log_e(self, since: Floats, before: Floats) -> Floats:
        """Of each onset, shape (onsets,): log predictive probability of a mixed change over that of none."""
        rate = (PRIOR_HITS + before[:, 1]) / (PRIOR_HITS + PRIOR_OTHERS + before[:, 0])
        since, before = effective(since, before, rate * np.maximum(1.0 - rate, 1e-6))
        by = ratios(self.direction, self.odds_ratios)
        return log_sum_exp(changed(since, before, by)) - log(len(by))
