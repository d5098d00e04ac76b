"""One number for an agent's health, from how it stands in every respect.

Strain is the weighted sum of deviations (0: normal, 1: what a detector warns of, 2: critical); the score is
100 halved for each unit of it, so it is 100 in health, 50 or less once a respect that counts fully is warned
of, and no respect that is fine makes up for one that is not. A deviation below 1 is evidence, in warnings.

Derivation of the composite's own warning at a strain of 1: a sequential test's evidence is a sum of
e-processes over onsets, whose mean grows by at most one an observation while nothing is wrong. In units of a
detector's warning level it grows in a month by no more than the warnings that the detector is allowed
(`detectors.false_alarms`). Sums of such processes, however dependent, grow by no more than their sum (Vovk
and Wang, "E-values: calibration, combination and applications", 2021: e-values may be averaged). So a
warning at a sum of 1 costs no more false alarms than the whole catalogue is allowed anyway.

>>> mild = Standing("healthy", "refusal_rate", 0.05, 0.02, deviation=0.5)
>>> standings = {"refusal_rate": mild, "judge_score": mild, "canary": Standing("cannot tell", "canary")}
>>> strain(standings), score(strain(standings)), state_of(standings, strain(standings))
(1.0, 50.0, 'degraded')
>>> state_of({"canary": Standing("cannot tell", "canary")}, 0.0)
'cannot tell'
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp2
from typing import Final

from detectors.base import Standing
from detectors.trailing import DAY_MS, HOUR_MS, Ring, Trailing, total
from schemas.health import HealthPart, HealthState

WEIGHTS: Final[dict[str, float]] = {
    "refusal_rate": 1.0,
    "completion_rate": 1.0,
    "judge_score": 1.0,
    "canary": 1.0,
    "error_rate": 1.0,
    "activity_collapse": 1.0,
    "slo_burn": 1.0,
    "escalation_rate": 0.75,
    "embedding_drift": 0.75,
    "confidence_calibration": 0.75,
    "version_regression": 0.75,
    "slice_regression": 0.75,
    "clarification_rate": 0.5,
    "latency": 0.5,
    "cost_per_session": 0.5,
    "output_length": 0.5,
    "session_outlier": 0.25,
}
"""What each respect counts: 1 for what users suffer from, less for what only hints at it, never more: the
composite's false alarms are bounded by that.
"""
LEAST_KNOWN: Final = 1.0
"""Of all weight, what must be known of an agent that is called healthy."""
DEGRADED: Final = 1.0
UNHEALTHY: Final = 2.0
FEWEST_SESSIONS: Final = 20
LAST_DAY: Final = (Ring(HOUR_MS, 24),)


def strain(standings: Mapping[str, Standing]) -> float:
    """The weighted sum of deviations."""
    return sum(WEIGHTS.get(name, 0.0) * each.deviation for name, each in standings.items())


def score(strained: float) -> float:
    """100 is normal; halved for each unit of strain."""
    return 100.0 * exp2(-strained)


def state_of(
    standings: Mapping[str, Standing], strained: float, *, was_strained: bool = False
) -> HealthState:
    """In one word. What was degraded by strain alone stays so until half of it has gone."""
    verdicts = {each.verdict for name, each in standings.items() if name in WEIGHTS}
    if "critical" in verdicts or strained >= UNHEALTHY:
        return "unhealthy"
    if "warning" in verdicts or strained >= (DEGRADED / 2 if was_strained else DEGRADED):
        return "degraded"
    known = sum(WEIGHTS.get(name, 0.0) for name, each in standings.items() if each.verdict != "cannot tell")
    return "healthy" if known >= LEAST_KNOWN else "cannot tell"


def parts_of(standings: Mapping[str, Standing]) -> dict[str, HealthPart]:
    """Every respect that counts, the heaviest first."""
    return {
        name: HealthPart(
            state=each.verdict,
            score=None if each.verdict == "cannot tell" else score(each.deviation),
            weight=WEIGHTS[name],
            metric=each.metric,
            observed=each.observed,
            expected=each.expected,
        )
        for name in WEIGHTS
        if (each := standings.get(name)) is not None
    }


def end_to_end(steps: Trailing, sessions: Trailing, now_ms: int) -> dict[str, HealthPart]:
    """How many steps of the last day succeeded, and how many sessions were completed, beside how many would
    be if each step's success were all it took (R 43: 0.85 over 10 steps is 0.197).

    Args:
        steps: model and tool calls, and those that failed.
        sessions: those ended, and those completed.
    """
    calls, errors = total(steps, DAY_MS, LAST_DAY, now_ms=now_ms)
    ended, completed = total(sessions, DAY_MS, LAST_DAY, now_ms=now_ms)
    success = 1.0 - errors / calls if calls else None
    known = ended >= FEWEST_SESSIONS
    compounded = None if success is None or not known else success ** (calls / ended)
    return {
        "step_success": _shown("error_rate", success, None, known and success is not None),
        "end_to_end": _shown("completion_rate", completed / ended if ended else None, compounded, known),
    }


def _shown(metric: str, share: float | None, expected: float | None, known: bool) -> HealthPart:
    return HealthPart(
        state="shown" if known else "cannot tell",
        score=100.0 * share if known and share is not None else None,
        weight=0.0,
        metric=metric,
        observed=share,
        expected=expected,
    )
