"""latency: model calls or tools take longer than they used to, and why.

Statistic: the e-detector of `detectors.sequential.distribution` on log bins of durations, of model calls and
of tool calls, at the levels of `detectors.false_alarms`; each tool's durations are taken relative to its own
usual one, so that another mix of tools is no change. Unit: ms. Source: R 45, latency attributed to retrieval,
rate limits, context growth or the model: told is what else changed since then. Critical is twice as long.

>>> from detectors.bins import log_bin
>>> from detectors.testing import run_windows, window
>>> def called(number, duration_ms, tokens):
...     bins = {log_bin(duration_ms * more): 3 for more in (0.8, 1, 1.3 + number % 4 / 10)}
...     return window(number, llm_duration_bins=bins, llm_calls=9, input_tokens=9 * tokens)
>>> quick = [called(number, 800, 1_000) for number in range(60)]
>>> found = run_windows(Latency(), quick + [called(number, 2_400, 6_000) for number in range(60, 80)])
>>> found[-1].severity, found[-1].summary.partition(": ")[2]
('critical', 'the context grew, from 1,000 to 6,000 tokens a call.')
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import exp, log
from typing import ClassVar, Final

import msgspec

from detectors.activity import Activity
from detectors.alarm import Raised, detection_of, worst
from detectors.base import NOTHING, Detection, Window, WindowContext
from detectors.bins import log_boundary
from detectors.causes import CENTRE, Tools, slowest, slowness, why_slow
from detectors.distributions import DistributionWatch
from detectors.indicators import read
from detectors.ledger import Ledger, means, note, split
from detectors.metric_watch import MetricSeries, MetricWatch
from detectors.value_series import Change, ValueSeries

SMALLEST: Final = log(1.3)
SEVERE: Final = log(2.0)
BURSTS: Final = MetricWatch("latency", every=40, smallest=SMALLEST)


def severe(change: Change) -> bool:
    """Whether calls take twice as long."""
    return change.after - change.before >= SEVERE


@dataclass(frozen=True, slots=True)
class Latency:
    """`watch` has the test of model calls, `tools` that of tools, `bursts` that of what does not last."""

    watch: DistributionWatch = field(
        default_factory=lambda: DistributionWatch("latency", severe, log_boundary, "rise", SMALLEST)
    )
    tools: DistributionWatch = field(
        default_factory=lambda: DistributionWatch(
            "latency", severe, log_boundary, "rise", SMALLEST, seasonal=False
        )
    )
    bursts: MetricWatch = BURSTS

    name: ClassVar[str] = "latency"
    version: ClassVar[int] = 1

    class State(msgspec.Struct):
        """Model calls, tools, how long each tool takes, and what goes with model calls."""

        model: ValueSeries = msgspec.field(default_factory=ValueSeries)
        tools: ValueSeries = msgspec.field(default_factory=ValueSeries)
        each: Tools = msgspec.field(default_factory=dict)
        ledger: Ledger = msgspec.field(default_factory=Ledger)
        burst: MetricSeries = msgspec.field(default_factory=MetricSeries)

    def update(self, state: State, window: Window, context: WindowContext) -> Iterable[Detection]:
        activity, at_ms = context.activity, window.start_ms
        found: list[Detection] = []
        if activity.llm_calls:
            note(state.ledger, at_ms, _sums(activity))
            raised = self.watch.observe(
                state.model,
                activity.llm_duration_bins,
                at_ms,
                among=2,
                certain=lambda change: severe(_exactly(state.ledger, change)),
            )
            if raised is not None:
                found.append(self._model(state, raised, window, context))
            elif not state.model.severity and (burst := self.bursts.found(state.burst, self, context)):
                found.append(burst)
        if activity.tools:
            relative = slowness(state.each, activity.tools)
            raised = self.tools.observe(state.tools, relative, at_ms, among=2)
            if raised is not None:
                found.append(self._tools(state, raised, window, context))
        context.standings[self.name] = worst(
            (
                self.watch.standing(state.model, self.name, exp),
                self.tools.standing(state.tools, "tool_latency", _times),
            )
        )
        return found or NOTHING

    def _model(self, state: State, raised: Raised, window: Window, context: WindowContext) -> Detection:
        reading = raised.reading
        before, since = split(state.ledger, reading.began)
        was, became = map(exp, means(state.ledger, reading.began) or (reading.before, reading.after))
        return detection_of(
            raised._replace(reading=reading._replace(before=was, after=became)),
            self,
            context,
            metric=self.name,
            summary=f"Model calls of {window.agent} take {became / was:.1f} times as long, {became:,.0f} ms "
            f"instead of {was:,.0f} ms: {why_slow(before[2:], since[2:])}.",
        )

    def _tools(self, state: State, raised: Raised, window: Window, context: WindowContext) -> Detection:
        times = exp(raised.reading.after - raised.reading.before)
        return detection_of(
            raised,
            self,
            context,
            metric="tool_latency",
            shown=_times,
            summary=f"Tools of {window.agent} take {times:.1f} times as long: {slowest(state.each)}.",
        )


def _exactly(ledger: Ledger, change: Change) -> Change:
    before, after = means(ledger, change.began) or (change.before, change.after)
    return change._replace(before=before, after=after)


def _times(relative: float) -> float:
    """How many times as long as usual."""
    return exp(relative - log_boundary(CENTRE))


def _sums(activity: Activity) -> list[int | float]:
    count, total, _ = read("latency", activity)
    return [
        int(count),
        round(total, 3),
        activity.llm_calls,
        activity.throttled,
        activity.input_tokens,
        activity.output_tokens,
        activity.ttft_s.count,
        activity.ttft_s.sum_micro // 1_000,
    ]
