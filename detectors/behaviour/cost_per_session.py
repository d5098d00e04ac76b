"""cost_per_session: sessions cost more than they used to, and why.

Statistic: the e-detector of `detectors.sequential.distribution` on log bins of what ended sessions cost, at
the levels of `detectors.false_alarms`. Unit: US dollars. Derivation: costs spread over orders of magnitude
and a few sessions cost very much, so neither a mean nor a share above a limit would do. Sessions of unknown
cost are left out. Told is what the rise is made of: calls a session, tokens a call, dollars a token. Critical
is twice as much.

>>> from detectors.bins import log_bin
>>> from detectors.testing import run_windows, window
>>> def ended(number, usd, calls):
...     bins = {log_bin(1e6 * usd * more): 2 for more in (0.5, 1, 1.4 + number % 4 / 10)}
...     return window(number, session_cost_bins=bins, outcomes={"completed": 6}, llm_calls=6 * calls,
...                   cost_known_calls=6 * calls, input_tokens=6_000 * calls, cost_usd_micro=int(6e6 * usd))
>>> cheap = [ended(number, 0.02, 2) for number in range(119)]
>>> found = run_windows(CostPerSession(), cheap + [ended(at, 0.06, 6) for at in range(119, 150)])
>>> found[-1].severity, found[-1].summary.partition(": ")[2]
('critical', 'calls a session rose from 2.0 to 6.0.')
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import exp, log
from typing import ClassVar, Final

import msgspec

from detectors.activity import Activity
from detectors.alarm import Raised, detection_of
from detectors.base import NOTHING, Detection, Window, WindowContext
from detectors.bins import log_boundary
from detectors.causes import why_dear
from detectors.distributions import DistributionWatch
from detectors.indicators import read
from detectors.ledger import Ledger, means, note, split
from detectors.metric_watch import MetricSeries, MetricWatch
from detectors.value_series import Change, ValueSeries

SMALLEST: Final = log(1.3)
SEVERE: Final = log(2.0)
BURSTS: Final = MetricWatch("cost_per_session", every=20, smallest=SMALLEST)


def severe(change: Change) -> bool:
    """Whether sessions cost twice as much."""
    return change.after - change.before >= SEVERE


@dataclass(frozen=True, slots=True)
class CostPerSession:
    """`watch` has the test and when a rise is critical, `bursts` the one of what does not last."""

    watch: DistributionWatch = field(
        default_factory=lambda: DistributionWatch("cost_per_session", severe, log_boundary, "rise", SMALLEST)
    )
    bursts: MetricWatch = BURSTS

    name: ClassVar[str] = "cost_per_session"
    version: ClassVar[int] = 1

    class State(msgspec.Struct):
        """One series, and what costs are made of."""

        series: ValueSeries = msgspec.field(default_factory=ValueSeries)
        ledger: Ledger = msgspec.field(default_factory=Ledger)
        burst: MetricSeries = msgspec.field(default_factory=MetricSeries)

    def update(self, state: State, window: Window, context: WindowContext) -> Iterable[Detection]:
        activity = context.activity
        if activity.cost_known_calls or activity.session_cost_bins:
            note(state.ledger, window.start_ms, _sums(activity))
        raised = self.watch.observe(state.series, activity.session_cost_bins, window.start_ms)
        context.standings[self.name] = self.watch.standing(state.series, self.name, _dollars)
        if raised is not None:
            return (self._detection(state, raised, window, context),)
        burst = None if state.series.severity else self.bursts.found(state.burst, self, context)
        return NOTHING if burst is None else (burst,)

    def _detection(self, state: State, raised: Raised, window: Window, context: WindowContext) -> Detection:
        reading = raised.reading
        before, since = split(state.ledger, reading.began)
        was, became = map(_dollars, means(state.ledger, reading.began) or (reading.before, reading.after))
        return detection_of(
            raised._replace(reading=reading._replace(before=was, after=became)),
            self,
            context,
            metric=self.name,
            summary=f"A session of {window.agent} costs ${became:,.4f}, {became / was:.1f} times the "
            f"${was:,.4f} it did, over the last {reading.observations:,}: "
            f"{why_dear(before[2:], since[2:])}.",
        )


def _dollars(log_micro_usd: float) -> float:
    return exp(log_micro_usd) / 1e6


def _sums(activity: Activity) -> list[int | float]:
    count, total, _ = read("cost_per_session", activity)
    return [
        int(count),
        round(total, 3),
        activity.sessions_ended,
        activity.cost_known_calls,
        activity.input_tokens + activity.output_tokens,
        activity.cost_usd_micro,
    ]
