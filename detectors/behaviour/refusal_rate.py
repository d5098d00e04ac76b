"""refusal_rate: an agent refuses more often than it used to.

Statistic: the mixture e-detector of `detectors.sequential.rate` on (calls that said whether they refused,
calls that refused) of each frame, at the levels of `detectors.false_alarms`. Unit: share of LLM calls.
Source: R 1, an agent began refusing and every trace stayed clean; Shin, Ramdas and Rinaldo (2022) for the
test. Calls that do not say whether they refused are unknown and count as nothing, not as answers; nor do
those of a session soon after a refusal, which mostly ask the same again. Critical is a rise to at least twice
the rate.

>>> from detectors.testing import run_windows, window
>>> healthy = [window(number, llm_calls=20, refusals_known=20, refusals=number % 2) for number in range(60)]
>>> refusing = [window(number, llm_calls=20, refusals_known=20, refusals=4) for number in range(60, 80)]
>>> found = run_windows(RefusalRate(), healthy + refusing)
>>> [(one.severity, round(one.expected, 3), round(one.observed, 2)) for one in found]
[('critical', 0.025, 0.2)]
>>> run_windows(RefusalRate(), healthy)
[]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import msgspec

from detectors.alarm import Raised
from detectors.base import NOTHING, Detection, Window, WindowContext
from detectors.indicators import read
from detectors.rate_watch import RateSeries, RateWatch
from detectors.sequential.onsets import Reading
from detectors.sequential.rate import RateChange
from detectors.watch import Watch
from schemas.control import ControlState

STATIC_ANSWERS = ControlState(mode="degrade", ladder="static")


def doubled(reading: Reading) -> bool:
    """Whether hits come at least twice as often as before."""
    return reading.after >= 2 * reading.before


@dataclass(frozen=True, slots=True)
class RefusalRate:
    """`watch` has the test and when a rise is critical."""

    watch: RateWatch = field(
        default_factory=lambda: RateWatch(Watch("refusal_rate", doubled), RateChange("rise"))
    )

    name: ClassVar[str] = "refusal_rate"
    version: ClassVar[int] = 3

    class State(msgspec.Struct):
        """One series."""

        series: RateSeries = msgspec.field(default_factory=RateSeries)

    def update(self, state: State, window: Window, context: WindowContext) -> Iterable[Detection]:
        calls, refusals, _ = read(self.name, context.activity)
        raised = self.watch.observe(state.series, calls, refusals, window.start_ms)
        context.standings[self.name] = self.watch.standing(state.series, self.name)
        return NOTHING if raised is None else (self._detection(raised, window, context),)

    def _detection(self, raised: Raised, window: Window, context: WindowContext) -> Detection:
        reading = raised.reading
        return context.detection(
            self,
            trigger=str(reading.began),
            severity=raised.severity,
            metric=self.name,
            observed=reading.after,
            expected=reading.before,
            threshold=raised.level,
            score=reading.run_length,
            sample_size=reading.observations,
            since=context.since(reading.began),
            event_ids=window.samples.get("refusal", ()),
            summary=f"{window.agent} refuses {reading.after:.1%} of its calls, up from {reading.before:.1%}, "
            f"over the last {reading.observations:,} calls.",
            suggested=STATIC_ANSWERS if raised.severity == "critical" else None,
        )
