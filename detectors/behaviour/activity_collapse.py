"""activity_collapse: an agent does nothing any more, in its sessions or at all.

Statistic: two. Of sessions that end, the mean of ln(1 + tool calls) + ln(1 + effects), by the sequential
t-test of `detectors.sequential.mean`: an agent that goes on answering and does nothing is "too good", quick
and cheap. Of hours, the gamma-Poisson evidence of `detectors.volume` that less is done than is usual at such
hours, looked at by timers: an agent that has quietly stopped sends nothing that could be looked at. Units:
log actions a session, hours. Source: R 10, the agent met its cost goal by doing nothing, for a quarter. Both
at the levels of `detectors.false_alarms`.

Heartbeats tell an agent that is idle from one that is gone. Sessions are critical when work has fallen to
half of that scale, hours when they are more than a weekday's.

>>> from detectors.activity import Moments
>>> from detectors.testing import run_windows, window
>>> def sessions(first, last, actions):
...     work = Moments(4, int(4e6 * actions), int(4e6 * actions**2))
...     return [window(at, outcomes={"completed": 4}, session_work=work) for at in range(first, last)]
>>> working = [each for at in range(60) for each in sessions(at, at + 1, 2.0 + at % 3 / 10)]
>>> found = run_windows(ActivityCollapse(), working + sessions(60, 66, 0.0))
>>> [(one.severity, one.sample_size, round(one.expected, 1), one.observed) for one in found]
[('critical', 8, 2.1, 0.0)]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import expm1
from typing import ClassVar, Final

import msgspec

from detectors import volume
from detectors.alarm import Raised, detection_of, worst
from detectors.base import NOTHING, Detection, Standing, Window, WindowContext
from detectors.indicators import of_moments
from detectors.mean_watch import MeanSeries, MeanWatch
from detectors.seasonal import DAY_MS, HOUR_MS
from detectors.sequential.mean import MeanChange
from detectors.sequential.onsets import Reading
from detectors.watch import Watch

SERIES: Final = 2
FORGOTTEN_MS: Final = 14 * DAY_MS


def halved(reading: Reading) -> bool:
    """Whether the sessions do next to nothing."""
    return reading.after <= reading.before / 2


@dataclass(frozen=True, slots=True)
class ActivityCollapse:
    """`watch` has the test of sessions."""

    watch: MeanWatch = field(
        default_factory=lambda: MeanWatch(
            Watch("activity_collapse", halved), MeanChange("fall", min_change=0.25, min_sd=1.0)
        )
    )

    name: ClassVar[str] = "activity_collapse"
    version: ClassVar[int] = 1

    class State(msgspec.Struct):
        """Work in sessions and by the hour; when work, and anything, was last heard of."""

        series: MeanSeries = msgspec.field(default_factory=MeanSeries)
        volume: volume.Volume = msgspec.field(default_factory=volume.Volume)
        worked_ms: int = 0
        heard_ms: int = 0

    def update(self, state: State, window: Window, context: WindowContext) -> Iterable[Detection]:
        activity = context.activity
        hour = window.start_ms // HOUR_MS
        worked = bool(activity.llm_calls or activity.tool_calls or activity.sessions_started)
        state.heard_ms = window.end_ms
        if worked:
            state.worked_ms = window.end_ms
        volume.note(state.volume, hour, began=activity.sessions_started, at_ms=window.start_ms, worked=worked)
        sums = of_moments(activity.session_work)
        raised = self.watch.observe(state.series, *sums, window.start_ms, among=SERIES)
        context.standings[self.name] = self._standing(state)
        return NOTHING if raised is None else (self._of_sessions(raised, window, context),)

    def due_ms(self, state: State) -> float | None:
        """At the end of every hour, until the agent is forgotten."""
        if state.volume.hour < 0 or state.volume.hour * HOUR_MS > state.heard_ms + FORGOTTEN_MS:
            return None
        return float((state.volume.hour + 1) * HOUR_MS)

    def on_timer(self, state: State, context: WindowContext) -> Iterable[Detection]:
        alarm = volume.close(state.volume, self.name, among=SERIES)
        context.standings[self.name] = self._standing(state)
        return NOTHING if alarm is None else (self._of_hours(state, alarm, context),)

    def _standing(self, state: State) -> Standing:
        of_sessions = self.watch.standing(state.series, self.name)
        severity = state.volume.severity
        if not severity:
            return of_sessions
        deviation = 2.0 if severity == "critical" else 1.0
        return worst((of_sessions, Standing(severity, self.name, deviation=deviation)))

    def _of_sessions(self, raised: Raised, window: Window, context: WindowContext) -> Detection:
        reading = raised.reading
        return detection_of(
            raised,
            self,
            context,
            metric="work_a_session",
            summary=f"{window.agent} goes on with its sessions and does less in them: about "
            f"{_acts(reading.after):.1f} tool calls and effects over the last {reading.observations:,}, "
            f"before {_acts(reading.before):.1f}.",
        )

    def _of_hours(self, state: State, alarm: volume.Alarm, context: WindowContext) -> Detection:
        quiet = alarm.quiet
        hours = (context.time_ms - max(state.worked_ms, quiet.began * HOUR_MS)) / HOUR_MS
        alive = state.heard_ms > max(state.worked_ms, quiet.began * HOUR_MS) and quiet.silent
        if quiet.silent:
            did = "is alive and has done nothing" if alive else "has not been heard of"
        else:
            did = "has done little"
            hours = (context.time_ms - quiet.began * HOUR_MS) / HOUR_MS
        return context.detection(
            self,
            trigger=f"hours/{quiet.began}",
            severity=alarm.severity,
            metric="work_an_hour",
            observed=quiet.done / hours,
            expected=quiet.expected / hours,
            threshold=alarm.level,
            score=quiet.run_length,
            sample_size=round(quiet.expected),
            since=context.since(quiet.began * HOUR_MS),
            event_ids=(),
            summary=f"{context.agent} {did} for {hours:.1f} hours, in which it usually works "
            f"{quiet.expected / volume.CLUMP:.0f} times; {quiet.done / volume.CLUMP:.0f} were seen.",
        )


def _acts(work: float) -> float:
    """How many tool calls and effects together a typical session of so much work has."""
    return max(0.0, 2 * expm1(work / 2))
