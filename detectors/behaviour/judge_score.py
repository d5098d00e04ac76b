"""judge_score: a judge scores the agent's answers lower than it used to. The judge is watched too.

Statistic: the e-detector of `detectors.sequential.distribution` on how the scores of each evaluation are
distributed (a t-test takes the few bad answers of a good agent for a change), and that of
`detectors.sequential.rate` on how often thumbs contradict them, at the levels of `detectors.false_alarms`.
Unit: points of score, 0 to 1. Source: R 2, wrong answers with HTTP 200 for three days; R 38, a drop of 0.3 on
any dimension: critical is one of half of that or more. A judge is an instrument as well: where
`detectors.judge` doubts it, there is no more than a warning.

>>> from detectors.activity import Scores
>>> from detectors.testing import run_windows, window
>>> def scored(number, *values):
...     scores = Scores()
...     for each in values:
...         scores.add(each)
...     return window(number, evaluations={"groundedness": scores})
>>> healthy = [scored(number, 0.9, 0.8, 0.7 + number % 3 / 10) for number in range(60)]
>>> found = run_windows(JudgeScore(), healthy + [scored(number, 0.6, 0.5) for number in range(60, 70)])
>>> [(one.severity, round(one.expected, 2), round(one.observed, 2), one.sample_size) for one in found]
[('critical', 0.84, 0.59, 16)]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Final

import msgspec

from detectors.activity import score_boundary
from detectors.alarm import detection_of, worst
from detectors.base import NOTHING, Detection, Window, WindowContext
from detectors.distributions import DistributionWatch
from detectors.indicators import EVALUATION
from detectors.judge import Witnesses, doubts, witness
from detectors.metric_watch import MetricSeries, MetricWatch
from detectors.rate_watch import RateSeries, RateWatch
from detectors.sequential.distribution import DistributionChange
from detectors.sequential.onsets import Spans
from detectors.sequential.rate import RateChange
from detectors.slices import OTHER
from detectors.value_series import Change, ValueSeries
from detectors.watch import Watch
from schemas.control import ControlState

STATIC_ANSWERS: Final = ControlState(mode="degrade", ladder="static")
MAX_NAMES: Final = 4
SEVERE_DROP: Final = 0.15
SMALLEST_DROP: Final = 0.04
SMALLEST_BURST: Final = 0.1
EDGES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
SPANS: Final = Spans(2_000, finest=2, resolution=5)
SCORES: Final = DistributionChange(len(EDGES) + 1, min_reference=50, spans=SPANS)
AGREEMENT: Final[Watch[RateSeries]] = Watch("judge_score", lambda _: False, seasonal=False)
CONTRADICTIONS: Final = RateChange("rise", min_reference=40, min_change=0.1, spans=Spans(1_000))


def severe(change: Change) -> bool:
    """Whether the drop is half of what R 38 has."""
    return change.before - change.after >= SEVERE_DROP


@dataclass(frozen=True, slots=True)
class JudgeScore:
    """`scores` is the test of scores, `agreement` watches the thumbs that contradict them."""

    scores: DistributionChange = SCORES
    agreement: RateWatch = field(default_factory=lambda: RateWatch(AGREEMENT, CONTRADICTIONS))

    name: ClassVar[str] = "judge_score"
    version: ClassVar[int] = 1

    class State(msgspec.Struct):
        """Series by evaluation; `bursts` are of the names that there was no room for in `scores`."""

        scores: dict[str, ValueSeries] = {}
        contradicted: RateSeries = msgspec.field(default_factory=RateSeries)
        witnesses: Witnesses = msgspec.field(default_factory=Witnesses)
        bursts: dict[str, MetricSeries] = {}

    def update(self, state: State, window: Window, context: WindowContext) -> Iterable[Detection]:
        activity = context.activity
        witness(state.witnesses, activity, window.start_ms)
        names = sorted(activity.evaluations.keys() - {OTHER})
        found = [self._score(state, name, window, context) for name in names]
        if activity.judged:
            found.append(self._contradiction(state, window, context))
        if state.scores:
            watch = self._watch(severe)
            context.standings[self.name] = worst(
                watch.standing(series, name) for name, series in sorted(state.scores.items())
            )
        return [each for each in found if each is not None] if found else NOTHING

    def _watch(self, severe: Callable[[Change], bool]) -> DistributionWatch:
        test, drop = self.scores, SMALLEST_DROP
        return DistributionWatch(
            self.name, severe, score_boundary, "fall", drop, EDGES, seasonal=False, alike=1.0, test=test
        )

    def _score(self, state: State, name: str, window: Window, context: WindowContext) -> Detection | None:
        def certain(change: Change) -> bool:
            return severe(change) and not doubts(state.witnesses, change.began)

        series = state.scores.get(name)
        if series is None:
            if len(state.scores) == MAX_NAMES:
                return self._burst(state, name, context)
            series = state.scores[name] = ValueSeries()
        raised = self._watch(certain).observe(
            series, context.activity.evaluations[name].bins, window.start_ms, among=len(state.scores) + 1
        )
        if raised is None:
            return None
        reading = raised.reading
        doubt = doubts(state.witnesses, reading.began)
        return detection_of(
            raised,
            self,
            context,
            metric=name,
            summary=f"{window.agent}'s {name} fell from {reading.before:.2f} to {reading.after:.2f} over the "
            f"last {reading.observations:,} scored answers{f'; {doubt}' if doubt else ''}.",
            event_ids=window.samples.get("low_score", ()),
            suggested=STATIC_ANSWERS,
        )

    def _burst(self, state: State, name: str, context: WindowContext) -> Detection | None:
        if name not in state.bursts and len(state.bursts) == MAX_NAMES:
            return None
        watch = MetricWatch(f"{EVALUATION}{name}", every=20, smallest=SMALLEST_BURST)
        return watch.found(state.bursts.setdefault(name, MetricSeries()), self, context)

    def _contradiction(self, state: State, window: Window, context: WindowContext) -> Detection | None:
        thumbs = context.activity.judged.values()
        calls, wrong = sum(each.calls for each in thumbs), sum(each.errors for each in thumbs)
        among = len(state.scores) + 1
        raised = self.agreement.observe(state.contradicted, calls, wrong, window.start_ms, among=among)
        if raised is None:
            return None
        reading = raised.reading
        return detection_of(
            raised,
            self,
            context,
            metric="judge_agreement",
            summary=f"Thumbs contradict the judge of {window.agent} in {reading.after:.0%} of the last "
            f"{reading.observations:,} cases, up from {reading.before:.0%}: check it first.",
        )
