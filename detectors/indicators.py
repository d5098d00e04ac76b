"""The behavioural indicators: what an agent's activity says of it, by the names that detectors, objectives,
health and comparisons of versions and slices share.

A rate is read as (count, hits, hits), a mean as (count, sum, sum of squares). Durations and costs are read as
natural logarithms of milliseconds and micro-dollars: their spread is multiplicative.

>>> from detectors.activity import Activity
>>> read("completion_rate", Activity(outcomes={"completed": 8, "failed": 2}))
(10.0, 8.0, 8.0)
>>> sorted(present(Activity(llm_calls=3, refusals_known=2, refusals=1)))
['error_rate', 'refusal_rate']
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import exp
from typing import Final, Literal

from detectors.activity import Activity, Moments
from detectors.bins import length_tokens, log_moments

Sums = tuple[float, float, float]
NONE: Final[Sums] = (0.0, 0.0, 0.0)
EVALUATION: Final = "evaluation:"
"""What the names of indicators begin with that are the mean score of an evaluation."""


@dataclass(frozen=True, slots=True)
class Indicator:
    """`bad` is which way is worse. `shown` makes what people read of a mean, `unit` says of what."""

    name: str
    kind: Literal["rate", "mean"]
    bad: Literal["rise", "fall", "both"]
    read: Callable[[Activity], Sums]
    unit: str = "share"
    shown: Callable[[float], float] = float


def _rate(count: float, hits: float) -> Sums:
    return float(count), float(hits), float(hits)


def _lengths(activity: Activity) -> Sums:
    count, total, squares = 0, 0.0, 0.0
    for place, here in activity.output_tokens_bins.items():
        tokens = length_tokens(place + 0.5)
        count += here
        total += here * tokens
        squares += here * tokens * tokens
    return float(count), total, squares


def _logs(bins: dict[int, int]) -> Sums:
    count, total, squares = log_moments(bins)
    return float(count), total, squares


def _canaries(activity: Activity) -> Sums:
    runs = activity.canaries.values()
    return _rate(sum(run.calls for run in runs), sum(run.errors for run in runs))


def _refusals(activity: Activity) -> Sums:
    """What is asked again after a refusal is refused again: a session's calls soon after one count not."""
    return _rate(activity.refusals_known - activity.echo_calls, activity.refusals - activity.echo_refusals)


def _errors(activity: Activity) -> Sums:
    """What has failed is tried again, and fails again: a run of failures of one session counts once."""
    calls = activity.llm_calls + activity.tool_calls - activity.repeat_errors
    return _rate(calls, activity.llm_errors + activity.tool_errors - activity.repeat_errors)


def _completions(activity: Activity) -> Sums:
    return _rate(activity.sessions_ended, activity.outcomes.get("completed", 0))


def _dollars(log_micro_usd: float) -> float:
    return exp(log_micro_usd) / 1e6


ALL: Final = (
    Indicator("refusal_rate", "rate", "rise", _refusals),
    Indicator("error_rate", "rate", "rise", _errors),
    Indicator("escalation_rate", "rate", "rise", lambda a: _rate(a.sessions_ended, a.sessions_escalated)),
    Indicator("clarification_rate", "rate", "both", lambda a: _rate(a.sessions_ended, a.sessions_clarified)),
    Indicator("completion_rate", "rate", "fall", _completions),
    Indicator("canary_failure_rate", "rate", "rise", _canaries),
    Indicator("latency", "mean", "rise", lambda a: _logs(a.llm_duration_bins), "ms", exp),
    Indicator(
        "cost_per_session",
        "mean",
        "rise",
        lambda a: _logs(a.session_cost_bins),
        "USD",
        _dollars,
    ),
    Indicator("output_length", "mean", "both", _lengths, "tokens"),
)
BY_NAME: Final = {indicator.name: indicator for indicator in ALL}


def indicator(name: str) -> Indicator:
    """The indicator of this name; `evaluation:<name>` is the mean score of an evaluation.

    Raises:
        KeyError: there is none.
    """
    if name.startswith(EVALUATION):
        label = name.removeprefix(EVALUATION)
        return Indicator(name, "mean", "fall", lambda a: of_moments(a.evaluations.get(label)), "score")
    return BY_NAME[name]


def read(name: str, activity: Activity) -> Sums:
    """What an activity says of an indicator. Raises KeyError for an unknown name."""
    return indicator(name).read(activity)


def of_moments(moments: Moments | None) -> Sums:
    """Count, sum and sum of squares, in units."""
    if moments is None:
        return NONE
    return float(moments.count), moments.sum_micro / 1e6, moments.sum_squares_micro / 1e6


def present(activity: Activity) -> dict[str, Sums]:
    """Every indicator of which the activity says anything."""
    return dict(_present(activity))


def _present(activity: Activity) -> Iterator[tuple[str, Sums]]:
    for each in ALL:
        sums = each.read(activity)
        if sums[0]:
            yield each.name, sums
    for name, moments in activity.evaluations.items():
        yield f"{EVALUATION}{name}", of_moments(moments)
