"""escalation_rate: an agent hands more of its sessions on than it used to.

Statistic: the mixture e-detector of `detectors.sequential.rate` on (sessions that ended, those in which
something was escalated) of each frame, at the levels of `detectors.false_alarms`. Unit: share of sessions.
Source: R 23, every complaint forwarded to people without triage. A shift in escalations leads the complaints
about them (R 35). Critical is a rise to twice the rate that concerns one session in ten.

>>> from detectors.testing import run_windows, window
>>> def frames(first, last, escalated):
...     return [
...         window(number, outcomes={"completed": 10}, sessions_escalated=escalated(number))
...         for number in range(first, last)
...     ]
>>> healthy = frames(0, 60, lambda number: number % 2)
>>> found = run_windows(EscalationRate(), healthy + frames(60, 64, lambda number: 9))
>>> [(one.severity, round(one.expected, 2), round(one.observed, 2)) for one in found]
[('critical', 0.05, 0.9)]
>>> run_windows(EscalationRate(), healthy)
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

LEAST_RISE: Final = 0.1


def severe(reading: Reading) -> bool:
    """Whether those who take over notice."""
    return reading.after >= 2 * reading.before and reading.after - reading.before >= LEAST_RISE


@dataclass(frozen=True, slots=True)
class EscalationRate(RateDetector):
    """`watch` has the test and when a rise is critical."""

    watch: RateWatch = field(
        default_factory=lambda: RateWatch(Watch("escalation_rate", severe), RateChange("rise"))
    )

    name: ClassVar[str] = "escalation_rate"
    shown_by: ClassVar[str] = "escalation"

    def sentence(self, state: RateState, raised: Raised, agent: str) -> str:
        reading = raised.reading
        return (
            f"{agent} escalates {reading.after:.0%} of its sessions, up from {reading.before:.0%}, over the "
            f"last {reading.observations:,}: it hands its work on."
        )
