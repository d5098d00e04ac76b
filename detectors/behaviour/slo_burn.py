"""slo_burn: a behavioural objective is being missed, faster than its error budget allows.

Statistic: burn rate (`detectors.burn_rate`), the share of what is bad over the share that the objective
allows, in a long and a short stretch of event time: critical at 14.4 over an hour and 5 minutes or 6 over
6 hours and 30 minutes, warning at 1 over 3 days and 6 hours. Unit: multiples of the allowed share. Source:
R 42; Google, The Site Reliability Workbook, 2018, ch. 5.

An alarm needs evidence as well: by Chernoff's bound, what the long stretch has seen must be as unlikely of
an agent that meets its objective as `detectors.false_alarms` demands. Objectives come from the policy file;
without any nothing is found. An alarm is over once the long stretch burns at half its rate.

>>> from detectors.testing import Goal, run_windows, window
>>> turns = [{"completed": 20}] * 30 + [{"completed": 4, "failed": 16}] * 20
>>> goal = Goal("answers", "completion_rate", 0.95)
>>> found = run_windows(SloBurn((goal,)), [window(n, outcomes=turn) for n, turn in enumerate(turns)])
>>> [(one.severity, round(one.observed, 2), one.expected, one.sample_size) for one in found]
[('warning', 0.91, 0.95, 680), ('critical', 0.69, 0.95, 980)]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

import msgspec

from detectors.alarm import worst
from detectors.base import NOTHING, Standing, Window, WindowContext, name_hash
from detectors.burn_rate import Burning, judge, severity, share, take, worst_rule
from detectors.false_alarms import level
from detectors.objectives import CHANCE, Objective, described, log_evidence, observed
from detectors.trailing import DAY_MS
from schemas.detection import Detection

RANKS: Final = {None: 0, "warning": 1, "critical": 2}
SAMPLES: Final = {
    "refusal_rate": "refusal",
    "error_rate": "error",
    "escalation_rate": "escalation",
    "clarification_rate": "clarification",
    "canary_failure_rate": "canary",
}
LOW_SCORE: Final = "low_score"


@dataclass(frozen=True, slots=True)
class SloBurn:
    """`objectives` is what agents are held to."""

    objectives: tuple[Objective, ...] = ()

    name: ClassVar[str] = "slo_burn"
    version: ClassVar[int] = 1

    class State(msgspec.Struct):
        """By objective (a hash of what it says)."""

        burning: dict[bytes, Burning] = {}

    def update(self, state: State, window: Window, context: WindowContext) -> Iterable[Detection]:
        mine = {_key(one): one for one in self.objectives if one.applies(window.tenant, window.agent)}
        if not mine:
            return NOTHING
        if state.burning.keys() - mine.keys():
            state.burning = {key: burning for key, burning in state.burning.items() if key in mine}
        found: list[Detection] = []
        for key, objective in mine.items():
            burning = state.burning.setdefault(key, Burning(window.start_ms))
            seen = observed(objective, context.activity)
            if not seen.observations:
                continue
            take(burning, window.start_ms, seen)
            before = severity(burning)
            if seen.bad_micro or before:
                self._judge(burning, objective, len(mine))
            if RANKS[severity(burning)] > RANKS[before]:
                found.append(self._detection(key, objective, burning, window, context))
        context.standings[self.name] = worst(_standing(one, state.burning[key]) for key, one in mine.items())
        return found

    def _judge(self, burning: Burning, objective: Objective, among: int) -> None:
        span_ms = burning.recent.newest_ms - burning.since_ms
        judge(
            burning,
            1.0 - objective.objective,
            lambda severity: level(
                self.name, severity, observations=burning.observations, span_ms=span_ms, among=among
            ),
        )

    def _detection(
        self, key: bytes, objective: Objective, burning: Burning, window: Window, context: WindowContext
    ) -> Detection:
        rule = worst_rule(burning)
        assert rule is not None
        allowed = 1.0 - objective.objective
        count, bad = share(burning, rule.long_ms)
        left = 1.0 - share(burning, objective.window_days * DAY_MS).bad / allowed
        budget = f"{left:.0%} of the error budget is left" if left > 0 else "the error budget is used up"
        return context.detection(
            self,
            trigger=f"{key.hex()}/{rule.severity}/{window.start_ms}",
            severity=rule.severity,
            metric=objective.indicator,
            observed=1.0 - bad,
            expected=objective.objective,
            threshold=rule.burn,
            score=bad / allowed,
            sample_size=count,
            since=context.since(max(burning.since_ms, window.start_ms - rule.long_ms)),
            event_ids=window.samples.get(SAMPLES.get(objective.indicator, LOW_SCORE), ()),
            summary=f"{window.agent} misses its objective {objective.name}: of {described(objective)} "
            f"{1 - bad:.1%} was good over the last {rule.said}, {objective.objective:.1%} is promised. "
            f"That burns {bad / allowed:.1f} times too fast; {budget} for {objective.window_days} days.",
        )


def _standing(objective: Objective, burning: Burning) -> Standing:
    """Where nothing burns, that the objective is met must be sure: else it cannot be told."""
    count, bad = share(burning, objective.window_days * DAY_MS)
    seen = (objective.name, 1.0 - bad if count else None, objective.objective)
    alarm = severity(burning)
    if alarm is not None:
        return Standing(alarm, *seen, deviation=float(RANKS[alarm]))
    sure = log_evidence(count, bad, 1.0 - objective.objective) <= -CHANCE
    return Standing("healthy" if sure else "cannot tell", *seen)


def _key(objective: Objective) -> bytes:
    limits = (objective.latency_over_ms, objective.cost_over_usd)
    return name_hash(f"{objective.name}/{objective.indicator}/{objective.objective}/{limits}")
