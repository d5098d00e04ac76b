"""clarification_rate: an agent asks back about everything, or has stopped asking.

Statistic: the mixture e-detector of `detectors.sequential.rate`, for either direction, on (sessions that
ended, those in which a clarification was asked) of each frame, at the levels of `detectors.false_alarms`.
Unit: share of sessions. Source: R 24, too shy: asks about everything; or never asks. The band is what the
agent's own history allows. Critical is a rise to twice the rate that concerns three sessions in twenty more,
or a fall to less than a fifth of a rate of one in twenty and more.

>>> from detectors.testing import run_windows, window
>>> def frames(first, last, clarified):
...     return [
...         window(number, outcomes={"completed": 10}, sessions_clarified=clarified(number))
...         for number in range(first, last)
...     ]
>>> healthy = frames(0, 80, lambda number: number % 3)
>>> shy = run_windows(ClarificationRate(), healthy + frames(80, 84, lambda number: 9))
>>> rash = run_windows(ClarificationRate(), healthy + frames(80, 120, lambda number: 0))
>>> [(one.severity, round(one.expected, 2), round(one.observed, 2)) for one in (shy[-1], rash[-1])]
[('critical', 0.1, 0.9), ('critical', 0.1, 0.0)]
>>> run_windows(ClarificationRate(), healthy)
[]
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final

from detectors.alarm import Raised
from detectors.rate_watch import RateWatch
from detectors.rates import RateDetector, RateState
from detectors.sequential.onsets import Reading
from detectors.sequential.rate import RateChange
from detectors.watch import Watch

LEAST_RISE: Final = 0.15
LEAST_BEFORE: Final = 0.05


def severe(reading: Reading) -> bool:
    """Whether users notice: either that they are asked all the time, or what comes of not being asked."""
    before, after = reading.before, reading.after
    if after > before:
        return after >= 2 * before and after - before >= LEAST_RISE
    return before >= LEAST_BEFORE and after < before / 5


@dataclass(frozen=True, slots=True)
class ClarificationRate(RateDetector):
    """`watch` has the test and when a change is critical."""

    watch: RateWatch = field(
        default_factory=lambda: RateWatch(Watch("clarification_rate", severe), RateChange("both"))
    )

    name: ClassVar[str] = "clarification_rate"
    shown_by: ClassVar[str] = "clarification"

    def sentence(self, state: RateState, raised: Raised, agent: str) -> str:
        reading = raised.reading
        if reading.after > reading.before:
            meaning, way = "it asks instead of working", "up"
        else:
            meaning, way = "it guesses instead of asking", "down"
        return (
            f"{agent} asks back in {reading.after:.0%} of its sessions, {way} from {reading.before:.0%}, "
            f"over the last {reading.observations:,}: {meaning}."
        )
