"""version_regression: a new version of what the agent is made of does worse than the old one.

Statistic: of every indicator of `detectors.indicators`, a time-uniform comparison of new against old on live
traffic (`detectors.comparisons`): side by side within each hour where both run, else against what the agent
did before. Unit: that of the indicator. Source: R 8, R 44; `detectors.sequential.comparison` for the
test. A trial begins when a version is first seen, or a deployment is announced of what does not show.

The error allowed in a month is divided by the trials begun in a month and by the number of indicators (12):
that corrects for everything looked at. Worse is a warning, critical when severe (failures doubled, scores
lower by 0.15). "better" and "same" are told once, for information; "not yet known" is in the standing.

>>> from detectors.testing import run_windows, window
>>> def calls(number, prompt, refused):
...     return window(number, slices=f"prompt={prompt}", llm_calls=20, refusals_known=20, refusals=refused)
>>> v1 = [calls(number, "v1", number % 2) for number in range(40)]
>>> v2 = [calls(number, "v2", 5) for number in range(40, 60)]
>>> for found in run_windows(VersionRegression(), v1 + v2):
...     print(found.severity, found.summary)
warning prompt v2 of agent does worse than v1: refusal_rate 25.0%, was 2.5% (40 observed).
critical prompt v2 of agent does worse than v1: refusal_rate 25.0%, was 2.5% (60 observed).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from detectors.base import NOTHING, Detection, Standing, Window, WindowContext
from detectors.comparisons import MAX_LINES, SURROUNDINGS, Judged, describe, judge, margin_of
from detectors.false_alarms import ALLOWED, MONTH_MS, SHARES, SHORTEST_SPAN_MS
from detectors.indicators import EVALUATION, indicator
from detectors.versions import DAY_MS, Trial, Versions
from schemas.detection import Severity

LEAST_TRIALS: Final = 4.0
TOLD_ERROR: Final = 0.1
"""Of a trial: that nothing is worse may be told with less certainty than that something is."""
SEVERE_SCORE: Final = 0.15
RANK: Final = {"": 0, "warning": 1, "critical": 2}


def severe(name: str, judged: Judged) -> bool:
    """Whether a difference that is worse is worth a page."""
    old, new = judged.old, judged.new
    if name in SURROUNDINGS:
        return False
    if name.startswith(EVALUATION):
        return old - new >= SEVERE_SCORE
    if indicator(name).bad == "fall":
        old, new = 1.0 - old, 1.0 - new
    return new >= 2 * old and new - old >= 2 * margin_of(name, old)


@dataclass(frozen=True, slots=True)
class VersionRegression:
    """No parameters: margins are in `detectors.comparisons`."""

    name: ClassVar[str] = "version_regression"
    version: ClassVar[int] = 1

    State: ClassVar[type[Versions]] = Versions

    def update(self, state: Versions, window: Window, context: WindowContext) -> Iterable[Detection]:
        state.take(window, context.activity)
        found = list(self._judge(state, window, context)) if state.trials else NOTHING
        context.standings[self.name] = standing(state, window.start_ms)
        return found

    def _judge(self, state: Versions, window: Window, context: WindowContext) -> Iterator[Detection]:
        months = max(window.start_ms - state.first_ms, SHORTEST_SPAN_MS) / MONTH_MS
        looks = max(LEAST_TRIALS, state.begun / months) * MAX_LINES
        errors = {severity: ALLOWED[severity] * SHARES[self.name] / looks for severity in ALLOWED}
        for trial in state.trials:
            worse: dict[str, tuple[Severity, Judged]] = {}
            for name, pool in trial.pools.items():
                if not pool.due():
                    continue
                judged = judge(name, pool, errors["warning"])
                if judged.verdict != "worse":
                    likely = judge(name, pool, TOLD_ERROR / MAX_LINES).verdict
                    pool.verdict = "not yet known" if likely == "worse" else likely
                else:
                    pool.verdict = "worse"
                    sure = severe(name, judged) and judge(name, pool, errors["critical"]).verdict == "worse"
                    worse[name] = ("critical" if sure else "warning", judged)
            if worse:
                yield from self._tell_worse(trial, worse, errors, context)
            elif trial.verdict in ("better", "same") and not trial.told:
                trial.told = True
                yield self._tell_well(trial, context)

    def _tell_worse(
        self,
        trial: Trial,
        worse: dict[str, tuple[Severity, Judged]],
        errors: dict[str, float],
        context: WindowContext,
    ) -> Iterator[Detection]:
        name, (severity, judged) = max(worse.items(), key=lambda each: (RANK[each[1][0]], each[0]))
        if RANK[severity] <= RANK[trial.said]:
            return
        trial.said = severity
        shown = indicator(name).shown
        told = "; ".join(describe(each, found) for each, (_, found) in worse.items())
        yield context.detection(
            self,
            trigger=f"{trial.title}/{trial.since_ms}",
            severity=severity,
            metric=name,
            observed=shown(judged.new),
            expected=shown(judged.old),
            threshold=1.0 / errors[severity],
            score=abs(judged.new - judged.old) / margin_of(name, judged.old),
            sample_size=judged.observations,
            since=context.since(trial.since_ms),
            event_ids=[trial.event_id] if trial.event_id else [],
            summary=f"{trial.title} of {context.agent} does worse than {trial.old}: {told}.",
        )

    def _tell_well(self, trial: Trial, context: WindowContext) -> Detection:
        return context.detection(
            self,
            trigger=f"{trial.title}/{trial.since_ms}",
            severity="info",
            metric=trial.part,
            score=0.0,
            sample_size=int(max(pool.seen for pool in trial.pools.values())),
            since=context.since(trial.since_ms),
            event_ids=[trial.event_id] if trial.event_id else [],
            summary=f"{trial.title} of {context.agent} does {trial.verdict} compared with {trial.old}: "
            + ", ".join(f"{name} {pool.verdict}" for name, pool in trial.pools.items() if pool.verdict)
            + ".",
        )


def standing(state: Versions, at_ms: int) -> Standing:
    """The worst of the trials that go on."""
    running = [trial for trial in state.trials if trial.new_ms >= at_ms - DAY_MS]
    if not running:
        return Standing("healthy", "versions")
    trial = max(running, key=lambda one: (RANK[one.said], one.since_ms))
    metric = f"{trial.title}: {trial.verdict}"
    if trial.said and trial.verdict == "worse":
        return Standing(
            "critical" if trial.said == "critical" else "warning", metric, deviation=float(RANK[trial.said])
        )
    return Standing("cannot tell" if trial.verdict == "not yet known" else "healthy", metric)
