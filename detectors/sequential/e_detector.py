"""A mixture Shiryaev-Roberts e-detector for the rise of a rate, with the rate before it estimated.

Method: Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential change detection"
(2022, arXiv:2203.03532): a sum, over all possible onsets, of e-processes started there. Each e-process here
is a ratio of predictive probabilities of the observations since the onset: a mixture over raised rates, over
the beta-binomial of "nothing changed", whose posterior is learned from the observations before the onset. So
neither rate is needed, and uncertainty about the old one lowers the evidence by what it should.

False alarms: under no change every term has mean 1, so the sum over t onsets has mean t, and by optional
stopping the mean number of observations before it reaches A is at least A, averaged over the posterior of the
rate. What is measured at fixed rates is 1.6 A and more, because the sum overshoots and looks only at events;
so A is two thirds of the run length asked for (`tests/detectors/test_e_detector.py` measures it). There is no
minimum sample for validity, and any time of looking is valid. Onsets are kept at a resolution of an eighth of
their age: some fifty of them, whatever has come.

>>> import numpy as np
>>> random = np.random.default_rng(7)
>>> state, seen = RateRise.State(), 0
>>> test = RateRise(run_length=15_000)
>>> for rate in [0.02] * 200 + [0.08] * 50:
...     refused = int(random.binomial(10, rate))
...     alarm = test.update(state, 10, refused, seen)
...     seen += 10
...     if alarm is not None:
...         break
>>> seen, alarm.began, round(alarm.before, 3), round(alarm.after, 3)
(2080, 1980, 0.02, 0.09)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

Floats = NDArray[np.float64]

PRIOR_EVENTS = 0.5
PRIOR_OTHERS = 12.0
CALIBRATION = 2 / 3
FINEST = 8
RESOLUTION = 8


class Alarm(NamedTuple):
    """A rise. `began` is what `update` was given with the observations it is estimated to have begun at."""

    began: int
    before: float
    after: float
    observations: int
    evidence: float


class Stretch(msgspec.Struct, array_like=True):
    """Consecutive observations: where they began, how many, and how many of them were events."""

    began: int
    count: int
    events: int


@dataclass(frozen=True, slots=True)
class RateRise:
    """Parameters
    ----------
    run_length
        The mean number of observations between false alarms is at least this.
    odds_ratios
        The raised rates that are mixed, as multiples of the old odds.
    min_reference, min_events
        No alarm before so many observations before the onset, and so many events since.
    min_rise
        A smaller rise is of no practical meaning.
    horizon, memory
        How many observations an onset may lie back; how many the reference remembers.
    """

    run_length: float = 15_000.0
    odds_ratios: tuple[float, ...] = (1.5, 2.0, 3.0, 4.5, 7.0, 12.0, 25.0)
    min_reference: int = 100
    min_events: int = 4
    min_rise: float = 0.01
    horizon: int = 2_000
    memory: int = 20_000

    class State(msgspec.Struct):
        """The reference (everything before the oldest onset in question) and the stretches since."""

        count: float = 0.0
        events: float = 0.0
        recent: list[Stretch] = []

    def update(self, state: State, count: int, events: int, at: int) -> Alarm | None:
        """Take `count` observations in, of which `events` were events; `at` names them. Return a rise or
        None.
        """
        if count == 0:
            return None
        recent = state.recent
        if recent and recent[-1].count + count <= FINEST:
            recent[-1].count += count
            recent[-1].events += events
        else:
            recent.append(Stretch(at, count, events))
        self._coarsen(state)
        # Without an event there is less evidence than before, not more.
        return self._alarm(state) if events else None

    def restart(self, state: State, alarm_began: int) -> None:
        """Forget what came from the onset on: the reference does not learn from it."""
        for stretch in state.recent:
            if stretch.began < alarm_began:
                self._learn(state, stretch)
        state.recent = []

    def _learn(self, state: State, stretch: Stretch) -> None:
        state.count += stretch.count
        state.events += stretch.events
        if state.count > self.memory:
            state.events *= self.memory / state.count
            state.count = float(self.memory)

    def _coarsen(self, state: State) -> None:
        """Join neighbours small for their age; let the reference have what is past the horizon."""
        kept: list[Stretch] = []
        age = 0
        for stretch in reversed(state.recent):
            if kept and kept[-1].count + stretch.count <= (age - kept[-1].count) // RESOLUTION:
                kept[-1] = Stretch(
                    stretch.began, kept[-1].count + stretch.count, kept[-1].events + stretch.events
                )
            else:
                kept.append(stretch)
            age += stretch.count
        kept.reverse()
        while len(kept) > 1 and age - kept[0].count >= self.horizon:
            age -= kept[0].count
            self._learn(state, kept.pop(0))
        state.recent = kept

    def _alarm(self, state: State) -> Alarm | None:
        counts = np.array([stretch.count for stretch in state.recent], dtype=float)
        events = np.array([stretch.events for stretch in state.recent], dtype=float)
        since = np.cumsum(counts[::-1])[::-1]
        since_events = np.cumsum(events[::-1])[::-1]
        before = state.count + np.concatenate(([0.0], np.cumsum(counts[:-1])))
        before_events = state.events + np.concatenate(([0.0], np.cumsum(events[:-1])))
        able = before >= self.min_reference
        if not able.any() or since_events[able].max() < self.min_events:
            return None
        log_e = _log_e_values(since, since_events, before, before_events, np.log(self.odds_ratios))
        log_terms = np.where(able, log_e + np.log(counts), -np.inf)
        total = float(_log_sum_exp(log_terms))
        if total < np.log(self.run_length * CALIBRATION):
            return None
        best = int(np.argmax(np.where(able, log_e, -np.inf)))
        old = float((PRIOR_EVENTS + before_events[best]) / (PRIOR_EVENTS + PRIOR_OTHERS + before[best]))
        new = float(since_events[best] / since[best])
        if since_events[best] < self.min_events or new - old < self.min_rise:
            return None
        return Alarm(state.recent[best].began, old, new, int(since[best]), float(np.exp(min(total, 700.0))))


def _log_e_values(
    since: Floats, since_events: Floats, before: Floats, before_events: Floats, log_odds: Floats
) -> Floats:
    """Of each onset, shape (onsets,): log predictive probability of a mixed rise over that of no change."""
    successes = PRIOR_EVENTS + before_events
    failures = PRIOR_OTHERS + before - before_events
    others = since - since_events
    unchanged = betaln(successes + since_events, failures + others) - betaln(successes, failures)
    logit = np.log(successes / failures)[:, None] + log_odds[None, :]
    log_rate, log_other = -np.logaddexp(0.0, -logit), -np.logaddexp(0.0, logit)
    raised = since_events[:, None] * log_rate + others[:, None] * log_other
    mixed = _log_sum_exp(raised) - np.log(len(log_odds))
    return np.asarray(mixed - unchanged)


def _log_sum_exp(values: Floats) -> Floats:
    """Over the last axis, which has a finite value; scipy's, without its checks, at a tenth of the cost."""
    top = values.max(axis=-1, keepdims=True)
    return np.asarray(np.log(np.exp(values - top).sum(axis=-1)) + top[..., 0])
