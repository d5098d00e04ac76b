"""One budget of false alarms for the whole catalogue, and what it demands of each detector's evidence.

At most one false critical a month may come of one agent, whatever watches it, and a few false warnings. The
budget is divided among detectors by `SHARES`, within one among the series it watches. A sequential test
states its evidence as a false-alarm run length in observations; how many observations an agent makes in a
month is learned from the agent itself, so what is demanded is

    level = observations a month / (alarms allowed a month x share)

An agent is taken to have been watched for a week at least: what is seen in its first hour is not
extrapolated to a month. Until its first week is over the demand is therefore too low for a busy agent, by at
most 0.6 of a month's budget in all (the sum of 1/d over seven days, times 7/30).

>>> week = 7 * 86_400_000
>>> round(level("refusal_rate", "critical", observations=7_000, span_ms=week))
200000
>>> round(level("refusal_rate", "critical", observations=3_000, span_ms=60_000))
85714
"""

from __future__ import annotations

from typing import Final, Literal

DAY_MS: Final = 86_400_000
MONTH_MS: Final = 30 * DAY_MS
SHORTEST_SPAN_MS: Final = 7 * DAY_MS
ALLOWED: Final = {"critical": 1.0, "warning": 4.0}
"""False alarms an agent and month."""
LEAST: Final = {"critical": 15_000.0, "warning": 5_000.0}
"""No evidence below this is an alarm, however rarely an agent does something."""

SHARES: Final[dict[str, float]] = {
    "refusal_rate": 0.15,
    "judge_score": 0.12,
    "completion_rate": 0.08,
    "error_rate": 0.08,
    "canary": 0.06,
    "escalation_rate": 0.06,
    "latency": 0.05,
    "cost_per_session": 0.05,
    "output_length": 0.05,
    "embedding_drift": 0.05,
    "activity_collapse": 0.05,
    "clarification_rate": 0.04,
    "confidence_calibration": 0.04,
    "version_regression": 0.04,
    "slice_regression": 0.04,
    "slo_burn": 0.02,
    "session_outlier": 0.01,
    "provider_outage": 0.01,
}
"""Of the whole: more to what finds the failures that hurt most. Invariants of a session need no share: what
they find is there. `health_score` repeats what others found.
"""


def level(
    detector: str,
    severity: Literal["warning", "critical"],
    *,
    observations: float,
    span_ms: float,
    among: int = 1,
) -> float:
    """The false-alarm run length, in observations, that evidence must be worth.

    Args:
        observations, span_ms: how many have been made, and in how long.
        among: how many series of the agent the detector watches.
    """
    a_month = observations * MONTH_MS / max(span_ms, SHORTEST_SPAN_MS)
    return max(LEAST[severity], a_month * among / (ALLOWED[severity] * SHARES[detector]))
