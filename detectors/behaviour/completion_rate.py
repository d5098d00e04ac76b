"""completion_rate: fewer of an agent's sessions end as completed than used to.

Statistic: the mixture e-detector of `detectors.sequential.rate` on (sessions that ended, those completed) of
each frame, at the levels of `detectors.false_alarms`. Unit: share of sessions. Source: R 35, the deviation of
the completion pattern is a leading indicator. The sentence names the outcome that has come most often
instead. Critical is when twice as many sessions as before, and one in ten more, are not completed, or when
completions have fallen by a quarter.

>>> from detectors.testing import run_windows, window
>>> healthy = [window(number, outcomes={"completed": 9 + number % 2, "failed": 1}) for number in range(60)]
>>> given_up = [window(number, outcomes={"completed": 6, "abandoned": 4}) for number in range(60, 75)]
>>> [found] = run_windows(CompletionRate(), healthy + given_up)
>>> found.severity, round(found.expected, 2), round(found.observed, 2)
('critical', 0.9, 0.6)
>>> "abandoned" in found.summary, run_windows(CompletionRate(), healthy)
(True, [])
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final

from detectors.alarm import Raised
from detectors.base import Window, WindowContext
from detectors.rate_watch import RateWatch
from detectors.rates import RateDetector, RateState
from detectors.sequential.onsets import Reading
from detectors.sequential.rate import RateChange
from detectors.watch import Watch
from schemas.control import ControlState

LEAST_FALL: Final = 0.1
COMPLETED: Final = "completed"


def severe(reading: Reading) -> bool:
    """Whether it concerns many sessions, beside those that did not complete anyhow."""
    before, after = reading.before, reading.after
    doubled = 1 - after >= 2 * (1 - before) and before - after >= LEAST_FALL
    return doubled or after <= 0.75 * before


@dataclass(frozen=True, slots=True)
class CompletionRate(RateDetector):
    """`watch` has the test and when a fall is critical."""

    watch: RateWatch = field(
        default_factory=lambda: RateWatch(Watch("completion_rate", severe), RateChange("fall"))
    )

    name: ClassVar[str] = "completion_rate"
    suggests: ClassVar[ControlState | None] = ControlState(mode="degrade", ladder="rag")

    def excused(self, state: RateState, window: Window, context: WindowContext) -> bool:
        outcomes = context.activity.outcomes
        if outcomes:
            others = {name: outcomes[name] for name in outcomes if name != COMPLETED}
            state.lately.note(context.activity.sessions_ended, others)
        return False

    def sentence(self, state: RateState, raised: Raised, agent: str) -> str:
        reading = raised.reading
        return (
            f"{agent} completes {reading.after:.0%} of its sessions, down from {reading.before:.0%}, over "
            f"the last {reading.observations:,}; most of the others end {state.lately.most() or 'unknown'}."
        )
