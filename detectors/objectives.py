"""Behavioural objectives, as detectors see them: which share of what an agent does must be good, how much was
bad, and what so many observations can say about it.

>>> from detectors.activity import Activity
>>> from detectors.testing import Goal
>>> observed(Goal("answers", "completion_rate", 0.95), Activity(outcomes={"completed": 8, "failed": 2}))
Observed(observations=10, bad_micro=2000000)
>>> round(log_evidence(10, 0.2, 0.05), 2), log_evidence(10, 0.05, 0.2) < 0
(1.4, True)
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Final, NamedTuple, Protocol

from detectors.activity import Activity
from detectors.bins import log_bin
from detectors.indicators import EVALUATION, indicator

UNIT: Final = 1_000_000
CHANCE: Final = log(20.0)
"""Evidence that is rarer by chance than one in twenty."""


class Objective(Protocol):
    """As `config.objectives.Objective`; a limit is given for the indicators that need it."""

    @property
    def name(self) -> str: ...
    @property
    def indicator(self) -> str: ...
    @property
    def objective(self) -> float: ...
    @property
    def window_days(self) -> int: ...
    @property
    def latency_over_ms(self) -> float | None: ...
    @property
    def cost_over_usd(self) -> float | None: ...
    def applies(self, tenant: str, agent: str, /) -> bool: ...


class Observed(NamedTuple):
    """How much there was, and how much of it was bad, in millionths: a score of 0.7 is 0.3 bad."""

    observations: int
    bad_micro: int


def observed(objective: Objective, activity: Activity) -> Observed:
    """What an activity says of an objective."""
    name = objective.indicator
    if name == "latency":
        return _over(activity.llm_duration_bins, objective.latency_over_ms or 0.0)
    if name == "cost_per_session":
        return _over(activity.session_cost_bins, (objective.cost_over_usd or 0.0) * UNIT)
    if name.startswith(EVALUATION):
        moments = activity.evaluations.get(name.removeprefix(EVALUATION))
        if moments is None:
            return Observed(0, 0)
        return Observed(
            moments.count, min(max(moments.count * UNIT - moments.sum_micro, 0), moments.count * UNIT)
        )
    which = indicator(name)
    count, hits, _ = which.read(activity)
    return Observed(int(count), int(count - hits if which.bad == "fall" else hits) * UNIT)


def described(objective: Objective) -> str:
    """What must be good."""
    if objective.latency_over_ms is not None:
        return f"{objective.indicator} within {objective.latency_over_ms:,.0f} ms"
    if objective.cost_over_usd is not None:
        return f"{objective.indicator} within ${objective.cost_over_usd:,.2f}"
    return objective.indicator


def _over(bins: Mapping[int, int], limit: float) -> Observed:
    """By log bin: what is over the limit, within the 4% that a bin is wide."""
    place = log_bin(limit)
    over = sum(count for at, count in bins.items() if at > place)
    return Observed(sum(bins.values()), over * UNIT)


def log_evidence(count: float, bad: float, limit: float) -> float:
    """How surely the share of what is bad lies on that side of `limit` on which it was seen: the logarithm of
    Chernoff's bound for `count` values between 0 and 1, of a share on the limit to come out as far off as
    `bad`. Above 0 where more is bad than the limit, below where less is.
    """
    if count == 0 or bad == limit:
        return 0.0
    far = sum(part * log(part / whole) for part, whole in ((bad, limit), (1 - bad, 1 - limit)) if part > 0)
    return count * far if bad > limit else -count * far
