"""refusal_rate: an agent refuses more often than it used to.

Statistic: the mixture e-detector of `detectors.sequential.e_detector` on (calls that said whether they
refused, calls that refused) of each window. Unit: share of LLM calls. Source: R 1, an agent began refusing
and every trace stayed clean; Shin, Ramdas and Rinaldo (2022) for the test. Calls that do not say whether they
refused are unknown and count as nothing, not as answers. One alarm is raised at a rise; the agent's reference
does not learn from then on, until `recovery_calls` in a row show a rate nearer to the old one than to the
new.

>>> from detectors.testing import run_windows, window
>>> healthy = [window(number, llm_calls=20, refusals_known=20, refusals=number % 2) for number in range(60)]
>>> refusing = [window(number, llm_calls=20, refusals_known=20, refusals=4) for number in range(60, 80)]
>>> [found] = run_windows(RefusalRate(), healthy + refusing)
>>> found.severity, round(found.expected, 3), found.observed
('critical', 0.025, 0.2)
>>> run_windows(RefusalRate(), healthy)
[]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar

import msgspec

from detectors.activity import Activity
from detectors.base import NOTHING, Beginning, WindowContext
from detectors.sequential.e_detector import Alarm, RateRise
from detectors.windows import Window
from schemas.control import ControlState
from schemas.detection import Detection

STATIC_ANSWERS = ControlState(mode="degrade", ladder="static")


@dataclass(frozen=True, slots=True)
class RefusalRate:
    """`test` has the false-alarm run length; `recovery_calls` ends an alarm."""

    test: RateRise = field(default_factory=RateRise)
    recovery_calls: int = 200

    name: ClassVar[str] = "refusal_rate"
    version: ClassVar[int] = 1

    class State(msgspec.Struct):
        """`halfway` is the rate below which an alarm has recovered; `calls` and `refusals` are those since
        then.
        """

        test: RateRise.State = msgspec.field(default_factory=RateRise.State)
        halfway: float | None = None
        calls: int = 0
        refusals: int = 0

    def update(self, state: State, window: Window, context: WindowContext) -> Iterable[Detection]:
        activity = context.activity
        known = activity.refusals_known
        if state.halfway is not None:
            self._await_recovery(state, activity)
            return NOTHING
        alarm = self.test.update(state.test, known, activity.refusals, window.start_ms)
        if alarm is None:
            return NOTHING
        self.test.restart(state.test, alarm.began)
        state.halfway = (alarm.before + alarm.after) / 2
        state.calls = state.refusals = 0
        return (self._detection(alarm, window, context),)

    def _await_recovery(self, state: State, activity: Activity) -> None:
        """Nothing is learned meanwhile: what is under alarm must not become normal."""
        state.calls += activity.refusals_known
        state.refusals += activity.refusals
        if state.calls < self.recovery_calls:
            return
        if state.refusals <= (state.halfway or 0.0) * state.calls:
            state.halfway = None
        state.calls = state.refusals = 0

    def _detection(self, alarm: Alarm, window: Window, context: WindowContext) -> Detection:
        return context.detection(
            self,
            trigger=str(alarm.began),
            severity="critical",
            metric="refusal_rate",
            observed=alarm.after,
            expected=alarm.before,
            threshold=self.test.run_length,
            score=alarm.evidence,
            sample_size=alarm.observations,
            since=Beginning("", alarm.began, context.from_offset),
            event_ids=window.samples.get("refusal", ()),
            summary=f"{window.agent} refuses {alarm.after:.1%} of its calls, up from {alarm.before:.1%}, "
            f"over the last {alarm.observations:,} calls.",
            suggested=STATIC_ANSWERS,
        )
