"""Anomalies of any numeric series, one value at a time, without tuning: surprise in nats, and when to speak.

The value is seen in eight ways (`views`), each with a tail on either side (`tails`); the surprise is that of
the most surprising. What is said of it is governed as an operator would want it: within an episode only what
is more surprising than all before is news; after an alarm only what is far more surprising is; an episode
is over when it has been calm for `hold` observations; and each alarm raises the level a little, so a series
that keeps surprising is not reported for ever for what has become its way. Nothing looks ahead, nothing is
drawn at random, and the state is some hundred numbers and the hours of a week.

What it finds and what it says falsely on the series of the Numenta Anomaly Benchmark, and on noise, is in
`docs/evaluation.md`. Its views overlap, so a level of 7.8 nats is not a run length of exp(7.8).

>>> import numpy as np
>>> random = np.random.default_rng(3)
>>> test = MetricAnomaly(level=9.0)
>>> state = test.begin()
>>> series = random.gamma(9.0, 0.1, size=2_000)
>>> series[1_500:] += 1.5
>>> for row, value in enumerate(series):
...     score = test.update(state, 60_000 * row, float(value))
...     if score is not None and score.alarm:
...         print(row, score.view, "high" if score.high else "low", round(score.nats, 1))
1501 trend high 14.4
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite, log1p
from typing import Final, NamedTuple

import msgspec

from detectors.sequential.tails import Tails, TailState
from detectors.sequential.views import NAMES, Views, ViewState

DECAY: Final = 0.97


class Score(NamedTuple):
    """`nats` is the surprise, `view` and `high` where it was seen. `news` is what is left of it after the
    alarms of late, 0 when there was as much in this episode already; an alarm is news over the level.
    """

    nats: float
    view: str
    high: bool
    news: float
    alarm: bool


class MetricState(msgspec.Struct):
    """What is known of a series, and of the episode it is in: its peak in nats, and its age since that."""

    views: ViewState
    tails: list[TailState]
    peak: float = 0.0
    since_peak: int = 0
    alarms: float = 0.0


@dataclass(frozen=True, slots=True)
class MetricAnomaly:
    """Parameters
    ----------
    level
        News of so many nats is an alarm.
    again
        After an alarm, news must be more surprising by so many nats.
    fatigue
        The level rises by so many nats times the log of one more than the alarms remembered.
    hold
        How many observations after its peak an episode begins to be forgotten.
    minimum
        Before so many observations the answer is that nothing can be told.
    memory
        How many observations an alarm is remembered for.
    """

    level: float = 7.8
    again: float = 4.6
    fatigue: float = 0.2
    hold: int = 50
    minimum: int = 150
    memory: float = 20_000.0
    views: Views = field(default_factory=Views)
    tails: Tails = field(default_factory=Tails)

    State = MetricState

    def begin(self) -> MetricState:
        """Nothing known."""
        return MetricState(self.views.begin(), [TailState() for _ in NAMES])

    def update(self, state: MetricState, time_ms: int, value: float) -> Score | None:
        """Take a value of epoch milliseconds in. None while nothing can be told.

        Raises:
            ValueError: the value is not a finite number.
        """
        if not isfinite(value):
            raise ValueError(f"{value} is no value of a metric: leave out what was not measured")
        nats, most, high = 0.0, 0, True
        tails = self.tails
        for number, quantity in enumerate(self.views.update(state.views, time_ms, value)):
            surprise, side = tails.update(state.tails[number], quantity)
            if surprise > nats:
                nats, most, high = surprise, number, side
        if state.views.count < self.minimum:
            return None
        news = self.news(state, nats)
        return Score(nats, NAMES[most], high, news, news >= self.level)

    def news(self, state: MetricState, nats: float) -> float:
        """What a surprise of so many nats is news of, which is then remembered."""
        state.alarms *= 1.0 - 1.0 / self.memory
        state.since_peak += 1
        left = nats - self.fatigue * log1p(state.alarms)
        wanted = state.peak + self.again if state.peak >= self.level else state.peak
        if left <= wanted:
            if state.since_peak > self.hold:
                state.peak *= DECAY
            return 0.0
        state.peak, state.since_peak = left, 0
        if left >= self.level:
            state.alarms += 1.0
        return left
