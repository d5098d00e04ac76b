"""canary: questions with known answers fail: the model has been changed without a word.

Statistic: the mixture e-detector of `detectors.sequential.rate`, with large changes among those mixed, on
(runs, failures) of each canary and of all together, at the levels of `detectors.false_alarms`: from a few
dozen passes, three failures in a row are a warning and a fourth is critical. Unit: share of runs. Source:
R 39, a silent model update seen in canaries before any metric of users. A canary counts among all if at most
one of its first eight runs failed: that a new one fails is no change. What several series show is told once.
Critical is a rise by two tenths of the runs that is no matter of one moment: the round before failed, too.
Five canaries are followed one by one, the others together.

>>> from detectors.activity import CallCounts
>>> from detectors.testing import run_windows, window
>>> def runs(first, last, failed=0):
...     return [window(at, canaries={"sum": CallCounts(1, failed)}) for at in range(first, last)]
>>> found = run_windows(Canary(), runs(0, 40) + runs(40, 44, failed=1))
>>> [(one.severity, one.sample_size, round(one.observed)) for one in found]
[('warning', 3, 1), ('critical', 4, 1)]
>>> run_windows(Canary(), runs(0, 40) + runs(40, 41, failed=1) + runs(41, 80))
[]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal

import msgspec

from detectors.activity import CallCounts
from detectors.alarm import Raised
from detectors.base import NOTHING, Detection, Standing, Window, WindowContext
from detectors.rate_watch import RateSeries, RateWatch
from detectors.sequential.onsets import Reading, Spans
from detectors.sequential.rate import RateChange
from detectors.watch import Watch

MAX_CANARIES: Final = 5
KNOWN_RUNS: Final = 8
MOST_FAILING: Final = 0.2
LEAST_RISE: Final = 0.2
ALL: Final = ""
OTHERS: Final = "*"
"""No canary has these names."""
RANK: Final = {"": 0, "warning": 1, "critical": 2}


def severe(reading: Reading) -> bool:
    """Whether it is more than one run of many."""
    return reading.after - reading.before >= LEAST_RISE


def canary_watch() -> RateWatch:
    """Few runs: a finer view of them, and a shorter one; hours do not differ."""
    test = RateChange(
        "rise",
        odds_ratios=(3.0, 10.0, 60.0, 500.0),
        min_reference=24.0,
        min_hits=3.0,
        spans=Spans(horizon=200, memory=2_000, freeze=200, finest=1, resolution=4),
    )
    return RateWatch(Watch("canary", severe, recovery=10, seasonal=False), test)


@dataclass(frozen=True, slots=True)
class Canary:
    """`watch` has the test and when a rise is critical."""

    watch: RateWatch = field(default_factory=canary_watch)

    name: ClassVar[str] = "canary"
    version: ClassVar[int] = 1

    class State(msgspec.Struct):
        """The series of all canaries, and of each of the first ones seen; whether it counts among all, once
        that is known; whether the last frame with canaries had one that failed; what has been told while a
        series is in alarm.
        """

        whole: RateSeries = msgspec.field(default_factory=RateSeries)
        others: RateSeries = msgspec.field(default_factory=RateSeries)
        series: dict[str, RateSeries] = {}
        steady: dict[str, bool] = {}
        failing: bool = False
        told: Literal["", "warning", "critical"] = ""

    def update(self, state: State, window: Window, context: WindowContext) -> Iterable[Detection]:
        canaries = context.activity.canaries
        raised: list[tuple[str, Raised]] = []
        whole, others = CallCounts(), CallCounts()
        mild = not state.failing
        if canaries:
            state.failing = any(runs.errors for runs in canaries.values())
        for name, runs in sorted(canaries.items()):
            series = state.series.get(name)
            if series is None:
                if len(state.series) == MAX_CANARIES:
                    others.merge(runs)
                    continue
                series = state.series[name] = RateSeries()
            if state.steady.get(name):
                whole.merge(runs)
            raised += self._observe(series, name, runs, window.start_ms, mild)
            if name not in state.steady and series.observations >= KNOWN_RUNS:
                state.steady[name] = self.watch.test.reference(series.test).rate < MOST_FAILING
        raised += self._observe(state.whole, ALL, whole, window.start_ms, mild)
        raised += self._observe(state.others, OTHERS, others, window.start_ms, mild)
        context.standings[self.name] = self._standing(state)
        if not any(series.severity for series in (state.whole, state.others, *state.series.values())):
            state.told = ""
        raised.sort(key=lambda each: (-RANK[each[1].severity], -each[1].reading.run_length, each[0]))
        if not raised or RANK[raised[0][1].severity] <= RANK[state.told]:
            return NOTHING
        state.told = raised[0][1].severity
        return (self._detection(*raised[0], window, context),)

    def _observe(
        self, series: RateSeries, name: str, runs: CallCounts, at_ms: int, mild: bool
    ) -> list[tuple[str, Raised]]:
        found = self.watch.observe(series, runs.calls, runs.errors, at_ms, among=MAX_CANARIES + 2, mild=mild)
        return [] if found is None else [(name, found)]

    def _standing(self, state: State) -> Standing:
        series = (state.whole, state.others, *state.series.values())
        return self.watch.standing(max(series, key=lambda each: RANK[each.severity]), self.name)

    def _detection(self, name: str, raised: Raised, window: Window, context: WindowContext) -> Detection:
        reading = raised.reading
        which = {ALL: "canaries", OTHERS: "other canaries"}.get(name, f"canary {name}")
        return context.detection(
            self,
            trigger=f"{name}/{reading.began}",
            severity=raised.severity,
            metric="canary_failure_rate",
            observed=reading.after,
            expected=reading.before,
            threshold=raised.level,
            score=reading.run_length,
            sample_size=reading.observations,
            since=context.since(reading.began),
            event_ids=window.samples.get("canary", ()),
            summary=f"{window.agent}: {reading.after:.0%} of the last {reading.observations:,} runs of its "
            f"{which} failed, {reading.before:.1%} before: its model may have been changed.",
        )
