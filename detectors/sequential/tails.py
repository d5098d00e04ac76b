"""How rare an extreme of a stream of numbers is: peaks over a moving threshold, in constant space.

Pickands, "Statistical Inference Using Extreme Order Statistics", Annals of Statistics 3 (1975): what lies
over a high threshold follows a generalised Pareto distribution, whatever the numbers follow; Hosking and
Wallis, Technometrics 29 (1987): its shape and scale from the mean and the mean square of the excesses. As in
Siffer et al., "Anomaly Detection in Streams with Extreme Value Theory" (KDD 2017), but without a batch to
begin with: the threshold follows its quantile by stochastic approximation, and until there are excesses
enough, some of an exponential tail as wide as the numbers' own spread are taken as seen. The shape is kept
between that of an exponential and one with a barely finite variance: bounded numbers are judged with caution.

Of a normal distribution's 1, 3 and 5 deviations, for which the truth is 1.8, 6.6 and 15.1 nats:

>>> import numpy as np
>>> random = np.random.default_rng(7)
>>> tails, state = Tails(), TailState()
>>> for number in random.normal(size=5_000):
...     _ = tails.update(state, float(number))
>>> [round(tails.update(state, number)[0], 1) for number in (1.0, 3.0, 5.0)]
[0.0, 6.8, 12.3]
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log, log1p
from typing import Final

import msgspec

SPREAD_PER_DEVIATION: Final = 0.625
"""Of a normal distribution's mean absolute deviation: about its mean excess over a high quantile."""
CLIP: Final = 8.0
TINY: Final = 1e-12
FEWEST: Final = 0.002
MOST: Final = 0.2


class Tail(msgspec.Struct, array_like=True):
    """One side: the threshold, the share of numbers over it, and the excesses' weight, sum, squares' sum."""

    threshold: float = 0.0
    share: float = 0.0
    weight: float = 0.0
    excess: float = 0.0
    squares: float = 0.0


class TailState(msgspec.Struct, array_like=True):
    """Both sides of one stream; the low side is kept as the high side of the negated numbers."""

    count: int = 0
    center: float = 0.0
    deviation: float = 0.0
    high: Tail = msgspec.field(default_factory=Tail)
    low: Tail = msgspec.field(default_factory=Tail)


@dataclass(frozen=True, slots=True)
class Tails:
    """Parameters
    ----------
    quantile
        Where a tail begins.
    learning
        How many numbers only set the threshold.
    prior
        How many excesses of an exponential tail are taken as seen.
    shape
        The heaviest tail: the generalised Pareto's shape at most.
    step
        How fast the threshold follows its quantile at least, in deviations a number.
    clip
        An excess counts as at most so many mean ones, so that one outlier does not hide the next.
    memory, excesses
        How many numbers the deviation and the share remember; how many excesses a tail.
    """

    quantile: float = 0.985
    learning: int = 80
    prior: float = 6.0
    shape: float = 0.5
    step: float = 0.0018
    clip: float = 20.0
    memory: float = 20_000.0
    excesses: float = 300.0

    def update(self, state: TailState, number: float) -> tuple[float, bool]:
        """Take a number in. How surprising it is in nats (minus the log of the chance of one as extreme; 0
        inside the thresholds and while learning), and whether it is on the high side.
        """
        state.count += 1
        weight = max(1.0 / state.count, 1.0 / self.memory)
        deviation = state.deviation
        surprise, high = 0.0, True
        if state.count > self.learning:
            step = deviation * max(weight, self.step)
            for tail, excess in ((state.high, number), (state.low, -number)):
                excess -= tail.threshold  # noqa: PLW2901 (the hot path)
                if excess > 0.0:
                    of_tail = self._exceed(tail, excess, deviation)
                    if of_tail > surprise:
                        surprise, high = of_tail, tail is state.high
                    tail.threshold += step * self.quantile / (1.0 - self.quantile)
                    tail.share = min(tail.share + (1.0 - tail.share) * weight, MOST)
                else:
                    tail.threshold -= step
                    share = tail.share * (1.0 - weight)
                    tail.share = share if share > FEWEST else FEWEST
        state.center += (number - state.center) * weight
        off = abs(number - state.center)
        if state.count > self.learning and 0.0 < CLIP * deviation < off:
            off = CLIP * deviation
        state.deviation = deviation + (off - deviation) * weight
        if state.count <= self.learning:
            state.high = Tail(state.center + 2.0 * state.deviation, 1.0 - self.quantile)
            state.low = Tail(2.0 * state.deviation - state.center, 1.0 - self.quantile)
        return surprise, high

    def _exceed(self, tail: Tail, excess: float, deviation: float) -> float:
        """The surprise of an excess, which is then counted."""
        expected = SPREAD_PER_DEVIATION * deviation + TINY
        weight = tail.weight + self.prior
        mean = (tail.excess + self.prior * expected) / weight
        variance = (tail.squares + self.prior * 2.0 * expected * expected) / weight - mean * mean
        shape = min(0.5 * (1.0 - mean * mean / variance), self.shape) if variance > mean * mean else 0.0
        scaled = excess / (mean * (1.0 - shape))
        beyond = log1p(shape * scaled) / shape if shape > 0.001 else scaled
        surprise = beyond - log(tail.share)
        kept, counted = 1.0 - 1.0 / self.excesses, min(excess, self.clip * mean)
        tail.weight = tail.weight * kept + 1.0
        tail.excess = tail.excess * kept + counted
        tail.squares = tail.squares * kept + counted * counted
        return surprise
