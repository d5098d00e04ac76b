"""slice_regression: the median looks fine, and one language, segment or index fails.

Statistic: of every single value and pair of values of the dimensions the agent's events are told apart by
(`detectors.slice_table`), whether it has got worse than its own past against the rest, and whether it is far
worse than the rest all along (`detectors.slice_search`): in calls that fail or refuse, sessions that end
badly, evaluation scores. Unit: share of calls or sessions; standard deviations of a score. Source: R 32.
Corrected for everything looked at: the level is divided among all slices followed, measures and questions.

The simplest slice that explains it is named, and set apart until it recovers (`detectors.slice_watch`).
Critical is a slice in which three times as much fails as ought to, and 15 points more.

>>> from detectors.activity import Activity
>>> from detectors.testing import run_windows, window
>>> def calls(number, failed):
...     return window(number, parts={
...         "language=en": Activity(llm_calls=30, llm_errors=1),
...         "language=ja": Activity(llm_calls=10, llm_errors=failed if number % 2 else 0)})
>>> fine = [calls(number, 1) for number in range(80)]
>>> failing = [calls(number, 7) for number in range(80, 120)]
>>> for found in run_windows(SliceRegression(), fine + failing):
...     print(found.severity, found.summary.split(',')[0])
warning language=ja of agent: 35.0% of calls fail or are refused
critical language=ja of agent: 35.0% of calls fail or are refused
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

from detectors.base import Detection, Standing, Window, WindowContext
from detectors.slice_search import KINDS
from detectors.slice_watch import MINUTE_MS, SliceWatch, Told
from detectors.slices import dimensions

WORDS: Final = {
    "calls": "{:.1%} of calls fail or are refused",
    "sessions": "{:.1%} of sessions end badly",
    "scores": "scores are {:.1f} standard deviations below the mean",
}
VALUES: Final = {"calls": "{:.1%}", "sessions": "{:.1%}", "scores": "{:.1f}"}


@dataclass(frozen=True, slots=True)
class SliceRegression:
    """No parameters: they are those of the search."""

    name: ClassVar[str] = "slice_regression"
    version: ClassVar[int] = 1

    State: ClassVar[type[SliceWatch]] = SliceWatch

    def update(self, state: SliceWatch, window: Window, context: WindowContext) -> Iterable[Detection]:
        told = state.take(window, context.activity)
        if state.slices.rows:
            context.standings[self.name] = standing(state)
        return [self._detection(each, state, context) for each in told]

    def _detection(self, told: Told, state: SliceWatch, context: WindowContext) -> Detection:
        alarm, finding = told.alarm, told.finding
        began_ms = state.first_ms + alarm.began * MINUTE_MS
        value = VALUES[told.kind.name].format
        past = "ever since it was seen" if alarm.all_along else f"{value(alarm.before)} before"
        return context.detection(
            self,
            trigger=f"{alarm.slice_name}/{told.kind.name}/{alarm.raised}",
            severity=alarm.severity,
            metric=f"{told.kind.name}:{alarm.slice_name}",
            observed=alarm.after,
            expected=alarm.before,
            threshold=told.level,
            score=told.evidence,
            sample_size=int(finding.observations),
            since=context.since(began_ms),
            event_ids=(),
            summary=f"{shown(alarm.slice_name)} of {context.agent}: "
            f"{WORDS[told.kind.name].format(alarm.after)}, {past}; of the rest {value(finding.rest)} "
            f"({told.searched} slices searched).",
        )


def shown(slice_name: str) -> str:
    """A slice as people read it."""
    return " and ".join(f"{name}={value}" for name, value in dimensions(slice_name).items())


def standing(state: SliceWatch) -> Standing:
    """The worst slice; not told before slices have a reference."""
    if state.alarms:
        alarm = max(state.alarms, key=lambda one: (one.severity == "critical", one.after))
        deviation = 2.0 if alarm.severity == "critical" else 1.0
        metric = f"{KINDS[alarm.kind].name}:{alarm.slice_name}"
        return Standing(alarm.severity, metric, alarm.after, alarm.before, deviation)
    known = any(measure.known >= kind.block for measure, kind in zip(state.measures, KINDS, strict=True))
    return Standing("healthy" if known else "cannot tell", "slices")
