"""How fast an error budget burns: what an agent did, how much of it was bad, over stretches of event time.

Source: Google, The Site Reliability Workbook, 2018, ch. 5, "multiwindow, multi-burn-rate alerts". Burn rate
is the share of what is bad over the share that the objective allows. A rule needs it in a long and a short
stretch; where so many times the allowed share is more than nine in ten, nine in ten will do.

What the workbook leaves out: what the long stretch has seen must be surer than a false-alarm level that the
objective is not met. So a handful of observations is silent; and fewer than `LEAST_SEEN` always are, since
failures come in company.

>>> burning = Burning(0)
>>> for minute in range(60):
...     take(burning, minute * MINUTE_MS, Observed(10, 8_000_000 if minute >= 50 else 0))
>>> judge(burning, allowed=0.01, level=lambda severity: 15_000.0)
>>> severity(burning), [round(share(burning, rule.long_ms).bad, 2) for rule in RULES]
('critical', [0.13, 0.13, 0.13])
"""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import Final, Literal, NamedTuple

import msgspec

from detectors.objectives import UNIT, Observed, log_evidence
from detectors.trailing import DAY_MS, HOUR_MS, MINUTE_MS, Ring, Trailing, add, total

Severity = Literal["warning", "critical"]

RINGS: Final = (
    Ring(MINUTE_MS // 2, 10),
    Ring(5 * MINUTE_MS, 12),
    Ring(HOUR_MS // 2, 12),
    Ring(6 * HOUR_MS, 12),
    Ring(DAY_MS, 30),
)
MOST_BAD: Final = 0.9
LEAST_SEEN: Final = 10


class Rule(NamedTuple):
    """When an alarm is raised: so many times the allowed share in both stretches."""

    burn: float
    long_ms: int
    short_ms: int
    said: str
    severity: Severity

    def limit(self, allowed: float) -> float:
        """The share of what is bad from which on it burns so fast."""
        return min(self.burn * allowed, MOST_BAD)


RULES: Final = (
    Rule(1.0, 3 * DAY_MS, 6 * HOUR_MS, "3 days", "warning"),
    Rule(6.0, 6 * HOUR_MS, 30 * MINUTE_MS, "6 hours", "critical"),
    Rule(14.4, HOUR_MS, 5 * MINUTE_MS, "hour", "critical"),
)
"""The worst last."""


class Burning(msgspec.Struct, array_like=True):
    """One objective: since when it is watched, how much came, what came lately; `held` are the rules in
    alarm, a bit each.
    """

    since_ms: int
    observations: int = 0
    held: int = 0
    recent: Trailing = msgspec.field(default_factory=Trailing)


class Share(NamedTuple):
    """How much came in a stretch, and the share of it that was bad."""

    observations: int
    bad: float


def share(burning: Burning, span_ms: int) -> Share:
    """Of the last `span_ms`; nothing of none."""
    count, bad_micro = total(burning.recent, span_ms, RINGS)
    return Share(count, bad_micro / (UNIT * count) if count else 0.0)


def take(burning: Burning, at_ms: int, seen: Observed) -> None:
    """Take observations in."""
    burning.observations += seen.observations
    add(burning.recent, at_ms, seen.observations, seen.bad_micro, RINGS)


def judge(burning: Burning, allowed: float, level: Callable[[Severity], float]) -> None:
    """See which rules are in alarm. One stays so until the long stretch burns at half its rate; `level` is
    the false-alarm run length that a new one must be worth.
    """
    burning.held = sum(1 << at for at in range(len(RULES)) if _holds(burning, at, allowed, level))


def _holds(burning: Burning, at: int, allowed: float, level: Callable[[Severity], float]) -> bool:
    rule = RULES[at]
    limit = rule.limit(allowed)
    seen = share(burning, rule.long_ms)
    if burning.held >> at & 1:
        return seen.bad >= limit / 2
    if seen.observations < LEAST_SEEN or seen.bad < limit or share(burning, rule.short_ms).bad < limit:
        return False
    return log_evidence(seen.observations, seen.bad, allowed) >= log(level(rule.severity))


def worst_rule(burning: Burning) -> Rule | None:
    """Of those in alarm."""
    return RULES[burning.held.bit_length() - 1] if burning.held else None


def severity(burning: Burning) -> Severity | None:
    """That of the worst rule in alarm."""
    rule = worst_rule(burning)
    return None if rule is None else rule.severity
