"""What detectors of behaviour have in common: a sequential test of one series, held against the budget of
false alarms, that speaks on transitions only and does not learn while it alarms.

A series warns once its evidence is worth the warning level, and goes critical once it is worth the critical
one and the change is severe. Then, or when a warning has stayed for `SETTLED` observations, the series is
known to be bad: its reference is left as it was before the onset, and nothing is learned until
`RECOVERY` observations in a row lie nearer to before than to after. So what is under alarm never becomes
normal, and a failure that goes on is told once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, Literal, NamedTuple, TypeVar

import msgspec

from detectors.base import Standing
from detectors.false_alarms import level
from detectors.seasonal import Season
from detectors.sequential.mean import MeanChange
from detectors.sequential.onsets import Reading
from detectors.sequential.rate import RateChange

SETTLED: Final = 4_000
RECOVERY: Final = 200
RECOVERY_HITS: Final = 16
FADED: Final = 0.1
"""A warning is over when its evidence has fallen to this share of the level."""

Severity = Literal["warning", "critical"]


class Watching(msgspec.Struct):
    """What a series remembers beside its test: when it was first seen, how many observations it has had, its
    season, and the alarm it is in. `halfway` is set once it is known to be bad; `count` and `total` are what
    came since then, or since the last look at a recovery.
    """

    first_ms: float = -1.0
    observations: float = 0.0
    season: Season = msgspec.field(default_factory=Season)
    severity: Literal["", "warning", "critical"] = ""
    began: int = 0
    before: float = 0.0
    halfway: float | None = None
    count: float = 0.0
    total: float = 0.0


class RateSeries(Watching):
    """One rate."""

    test: RateChange.State = msgspec.field(default_factory=RateChange.State)


class MeanSeries(Watching):
    """One mean."""

    test: MeanChange.State = msgspec.field(default_factory=MeanChange.State)


class Raised(NamedTuple):
    """An alarm that has just been raised, and the level it has passed."""

    severity: Severity
    reading: Reading
    level: float


Series = TypeVar("Series", bound=Watching)


@dataclass(frozen=True, slots=True)
class Watch(Generic[Series]):
    """Parameters
    ----------
    detector
        Whose share of the false-alarm budget is spent.
    severe
        Whether a change is worth a critical alarm, were it certain.
    recovery
        How many observations must lie nearer to before.
    """

    detector: str
    severe: Callable[[Reading], bool]
    recovery: int = RECOVERY

    def observe(
        self,
        series: Series,
        *,
        count: float,
        total: float,
        at_ms: float,
        reading: Callable[[], Reading | None],
        restart: Callable[[int], None],
        among: int = 1,
    ) -> Raised | None:
        """Take observations in, unless the series is known to be bad, and say what that raises.

        Args:
            count, total: how many, and their sum or hits.
            reading: shows them to the test; called at most once.
            restart: has the test forget what came since.
            among: how many series of the agent the detector watches.
        """
        if count <= 0:
            return None
        if series.first_ms < 0:
            series.first_ms = at_ms
        series.observations += count
        series.season.note(at_ms, count, total, alarmed=bool(series.severity))
        if series.halfway is not None:
            self._await_recovery(series, count, total)
            return None
        now = reading()
        warning = self._level(series, "warning", at_ms, among)
        if now is None or now.run_length < warning:
            if series.severity and (now is None or now.run_length < FADED * warning):
                series.severity = ""
            return None
        critical = self._level(series, "critical", at_ms, among)
        severity: Severity = "critical" if now.run_length >= critical and self.severe(now) else "warning"
        news = severity != series.severity
        series.severity = severity
        if severity == "critical" or now.observations > SETTLED:
            restart(now.began)
            series.halfway = (now.before + now.after) / 2
            series.count = series.total = 0.0
        if not news:
            return None
        series.began, series.before = now.began, now.before
        return Raised(severity, now, critical if severity == "critical" else warning)

    def _level(self, series: Watching, severity: Severity, at_ms: float, among: int) -> float:
        return level(
            self.detector,
            severity,
            observations=series.observations,
            span_ms=at_ms - series.first_ms,
            among=among,
        )

    def _await_recovery(self, series: Watching, count: float, total: float) -> None:
        series.count += count
        series.total += total
        halfway = series.halfway
        if halfway is None:
            return
        # Of what is rare, more must be seen before it has become rarer.
        rarer = min(halfway, 1 - halfway) if 0 < halfway < 1 else 1.0
        if series.count < max(self.recovery, RECOVERY_HITS / rarer):
            return
        mean = series.total / series.count
        if (mean < halfway) == (series.before < halfway):
            series.halfway = None
            series.severity = ""
        series.count = series.total = 0.0


@dataclass(frozen=True, slots=True)
class RateWatch:
    """A rate: hits among observations, more or fewer of them at some hours."""

    watch: Watch[RateSeries]
    test: RateChange

    def observe(
        self, series: RateSeries, count: float, hits: float, at_ms: float, *, among: int = 1
    ) -> Raised | None:
        """Take `count` observations in, of which `hits` were hits."""
        return self.watch.observe(
            series,
            count=count,
            total=hits,
            at_ms=at_ms,
            reading=lambda: self.test.update(
                series.test, count * series.season.factor(at_ms), hits, int(at_ms)
            ),
            restart=lambda began: self.test.restart(series.test, began),
            among=among,
        )

    def standing(self, series: RateSeries, metric: str) -> Standing:
        """How the series stands: not told before the test's own minimum of evidence."""
        known = self.test.reference(series.test)
        return _standing(series, metric, known.observations >= self.test.min_reference, known.rate)


@dataclass(frozen=True, slots=True)
class MeanWatch:
    """A mean of values that lie higher or lower at some hours."""

    watch: Watch[MeanSeries]
    test: MeanChange

    def observe(
        self,
        series: MeanSeries,
        count: float,
        total: float,
        squares: float,
        at_ms: float,
        *,
        among: int = 1,
    ) -> Raised | None:
        """Take `count` values in, their sum and the sum of their squares."""

        def reading() -> Reading | None:
            offset = series.season.offset(at_ms)
            without = squares - 2 * offset * total + count * offset * offset
            return self.test.update(series.test, count, total - count * offset, without, int(at_ms))

        return self.watch.observe(
            series,
            count=count,
            total=total,
            at_ms=at_ms,
            reading=reading,
            restart=lambda began: self.test.restart(series.test, began),
            among=among,
        )

    def standing(self, series: MeanSeries, metric: str) -> Standing:
        """How the series stands: not told before the test's own minimum of evidence."""
        known = self.test.reference(series.test)
        return _standing(series, metric, known.observations >= self.test.min_reference, known.mean)


def _standing(series: Watching, metric: str, enough: bool, expected: float) -> Standing:
    if series.severity:
        observed = series.total / series.count if series.count else None
        deviation = 2.0 if series.severity == "critical" else 1.0
        return Standing(series.severity, metric, observed, series.before, deviation)
    if not enough:
        return Standing("cannot tell", metric)
    return Standing("healthy", metric, expected, expected)
