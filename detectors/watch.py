"""What detectors of behaviour have in common: a sequential test of one series, held against the budget of
false alarms, that speaks on transitions only and does not learn while it alarms.

A series warns once its evidence is worth the warning level, and goes critical once it is worth the critical
one and the change is severe. Then, or when a warning has stayed for `SETTLED` observations, the series is
known to be bad: its reference is left as it was before the onset, and nothing more is learned until it has
recovered, though a warning may still become critical. So what is under alarm never becomes normal, and a
failure that goes on is told once.

Recovery is a test of its own: the CUSUM of the log likelihood ratio of the rate or mean before over one
halfway to what it surely became (Page, "Continuous inspection schemes", 1954), which reaches `RECOVERED` by
chance less than once in a thousand observations as bad as halfway, and hardly ever in worse ones. An alarm is
withdrawn when all that came since it began lies within `SURE` standard errors of before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import copysign, log, sqrt
from typing import Final, Generic, Literal, NamedTuple, TypeVar

import msgspec

from detectors.base import Detection, Detector, Standing, WindowContext
from detectors.false_alarms import level
from detectors.seasonal import Season
from detectors.sequential.mean import MeanChange
from detectors.sequential.onsets import Reading
from detectors.sequential.rate import RateChange
from schemas.control import ControlState

SETTLED: Final = 4_000
RECOVERY: Final = 200
RECOVERED: Final = log(1_000.0)
FORGET: Final = -1
"""Begins before everything."""
FADED_HITS: Final = 16
FADED: Final = 0.1
"""A warning is over when its evidence has stayed below this share of the level."""
MOST_MILD: Final = 0.99
"""What evidence is worth at most while it is no warning."""
LEAST_RATE: Final = 1e-4
"""Rates are taken to be at least this far from 0 and 1."""

SURE: Final = 2.0
"""Standard errors."""

Severity = Literal["warning", "critical"]
Gain = Callable[[float, float], float]
Error = Callable[[float, float], float]


class Watching(msgspec.Struct, array_like=True):
    """What a series remembers beside its test: when it was first seen, how many observations it has had, its
    season, and the alarm it is in: its severity, when it began, the level before and after. Once `settled`,
    the series is known to be bad; `recovered` is the evidence that it no longer is. `count` and `total` are
    of the observations since the last one that spoke for the alarm, `bad_count` and `bad_total` of those
    before, since it began; `sure` is what it has surely changed to. `evidence` is that of the last reading,
    in levels of a warning.
    """

    first_ms: float = -1.0
    observations: float = 0.0
    season: Season = msgspec.field(default_factory=Season)
    severity: Literal["", "warning", "critical"] = ""
    began: int = 0
    before: float = 0.0
    after: float = 0.0
    settled: bool = False
    recovered: float = 0.0
    count: float = 0.0
    total: float = 0.0
    bad_count: float = 0.0
    bad_total: float = 0.0
    sure: float = 0.0
    evidence: float = 0.0


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
        How many observations it takes at least until an alarm is over.
    seasonal
        Whether hours differ, which takes some days and some room to learn.
    """

    detector: str
    severe: Callable[[Reading], bool]
    recovery: int = RECOVERY
    seasonal: bool = True

    def observe(  # noqa: PLR0913 - what a kind of series knows of itself, by keyword
        self,
        series: Series,
        *,
        count: float,
        total: float,
        at_ms: float,
        reading: Callable[[], Reading | None],
        restart: Callable[[int], None],
        gain: Gain,
        error: Error | None = None,
        among: int = 1,
        mild: bool = False,
    ) -> Raised | None:
        """Take observations in, unless the series is known to be bad, and say what that raises.

        Args:
            count, total: how many, and their sum or hits.
            reading: shows them to the test; called at most once.
            restart: has the test forget what came since.
            gain: their log likelihood ratio of one level (rate or mean) over another.
            error: the standard error of the difference between the level before and one known from so many
                observations.
            among: how many series of the agent the detector watches.
            mild: a change is a warning at most.
        """
        if count <= 0:
            return None
        if series.first_ms < 0:
            series.first_ms = at_ms
        series.observations += count
        if self.seasonal:
            series.season.note(at_ms, count, total, alarmed=bool(series.severity))
        if series.settled:
            if self._recovers(series, count, total, gain, error):
                restart(FORGET)
                return None
            if series.severity == "critical":
                return None
        now = reading()
        warning = self._level(series, "warning", at_ms, among)
        # A frame that is not worth a reading says that there is less evidence, not that there is none.
        series.evidence = now.run_length / warning if now is not None else series.evidence / 2
        if now is None or now.run_length < warning:
            if series.severity and not series.settled:
                self._fade(series, count, now is None or now.run_length < FADED * warning)
            return None
        critical = self._level(series, "critical", at_ms, among)
        severe = now.run_length >= critical and not mild and self.severe(now)
        return self._raise(series, now, critical if severe else warning, severe, restart)

    def _raise(
        self, series: Watching, now: Reading, level: float, severe: bool, restart: Callable[[int], None]
    ) -> Raised | None:
        severity: Severity = "critical" if severe else "warning"
        # An onset that was told of is not told of again when evidence that had faded comes back.
        news = severity != series.severity and (severity == "critical" or now.began != series.began)
        series.severity = severity
        if news:
            series.began, series.before, series.after = now.began, now.before, now.after
        if not series.settled:
            series.count = 0.0
        if severity == "critical" or now.observations > SETTLED:
            # What came since it settled is all bad.
            restart(FORGET if series.settled else now.began)
            series.settled = True
            series.bad_count, series.bad_total = now.observations, now.after * now.observations
            series.count = series.total = series.recovered = 0.0
            series.sure = now.before
        return Raised(severity, now, level) if news else None

    def _level(self, series: Watching, severity: Severity, at_ms: float, among: int) -> float:
        return level(
            self.detector,
            severity,
            observations=series.observations,
            span_ms=at_ms - series.first_ms,
            among=among,
        )

    def _fade(self, series: Watching, count: float, faded: bool) -> None:
        """A warning is over when nothing has spoken for it for long enough."""
        series.count = series.count + count if faded else 0.0
        rarer = min(series.after, 1 - series.after) if 0 < series.after < 1 else 1.0
        # What is rare speaks rarely.
        if series.count >= max(self.recovery, FADED_HITS / rarer):
            series.severity = ""
            series.count = 0.0

    def _recovers(
        self, series: Watching, count: float, total: float, gain: Gain, error: Error | None
    ) -> bool:
        bad, withdrawn = series.after, False
        if error is not None:
            # When an alarm is raised the change looks larger than it is; what follows tells how large it is.
            series.after = series.bad_total / series.bad_count
            way, doubt = series.after - series.before, SURE * error(series.after, series.bad_count)
            withdrawn = abs(way) < doubt and series.bad_count >= self.recovery
            sure = series.before + copysign(max(abs(way) - doubt, abs(way) / 5), way)
            # What once was sure stays so, whatever a recovery has mixed in since.
            bad = series.sure = max(series.sure, sure, key=lambda each: abs(each - series.before))
        series.recovered += gain(series.before, (series.before + bad) / 2)
        series.count += count
        series.total += total
        if series.recovered <= 0:
            series.bad_count += series.count
            series.bad_total += series.total
            series.recovered = series.count = series.total = 0.0
        if not withdrawn and (series.recovered < RECOVERED or series.count < self.recovery):
            return False
        series.settled = False
        series.severity = ""
        series.recovered = series.count = series.total = series.evidence = 0.0
        return True


@dataclass(frozen=True, slots=True)
class RateWatch:
    """A rate: hits among observations, more or fewer of them at some hours."""

    watch: Watch[RateSeries]
    test: RateChange

    def observe(
        self,
        series: RateSeries,
        count: float,
        hits: float,
        at_ms: float,
        *,
        among: int = 1,
        mild: bool = False,
        believed: Callable[[Reading], bool] = lambda _: True,
    ) -> Raised | None:
        """Take `count` observations in, of which `hits` were hits; `among` and `mild` as for a `Watch`. What
        is not `believed` is no reading.
        """

        def exposure() -> float:
            return count * series.season.factor(at_ms)

        def reading() -> Reading | None:
            found = self.test.update(series.test, exposure(), hits, int(at_ms))
            return None if found is None or not believed(found) else found

        def error(after: float, known: float) -> float:
            reference = self.test.reference(series.test)
            of_before = _rate_variance(reference.rate, reference.observations + 1)
            return sqrt(of_before + _rate_variance(min(after, 1.0), known))

        return self.watch.observe(
            series,
            count=count,
            total=hits,
            at_ms=at_ms,
            reading=reading,
            restart=lambda began: self.test.restart(series.test, began),
            gain=lambda one, other: _rate_gain(exposure(), hits, one, other),
            error=error,
            among=among,
            mild=mild,
        )

    def standing(self, series: RateSeries, metric: str) -> Standing:
        """How the series stands: not told before the test's own minimum of evidence."""
        known = self.test.reference(series.test)
        return standing_of(series, metric, known.observations >= self.test.min_reference, known.rate)


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

        def gain(one: float, other: float) -> float:
            variance = self.test.reference(series.test).sd ** 2
            above = total - count * (series.season.offset(at_ms) + (one + other) / 2)
            return above * (one - other) / variance if variance else 0.0

        def error(_after: float, known: float) -> float:
            reference = self.test.reference(series.test)
            return reference.sd * sqrt(1 / known + 1 / (reference.observations + 1))

        return self.watch.observe(
            series,
            count=count,
            total=total,
            at_ms=at_ms,
            reading=reading,
            restart=lambda began: self.test.restart(series.test, began),
            gain=gain,
            error=error,
            among=among,
        )

    def standing(self, series: MeanSeries, metric: str) -> Standing:
        """How the series stands: not told before the test's own minimum of evidence."""
        known = self.test.reference(series.test)
        return standing_of(series, metric, known.observations >= self.test.min_reference, known.mean)


def _rate_gain(count: float, hits: float, one: float, other: float) -> float:
    one, other = (min(max(rate, LEAST_RATE), 1 - LEAST_RATE) for rate in (one, other))
    return hits * log(one / other) + max(count - hits, 0.0) * log((1 - one) / (1 - other))


def _rate_variance(rate: float, known: float) -> float:
    return (rate * (1 - rate) + 1 / known) / known


def detection_of(
    raised: Raised,
    detector: Detector,
    context: WindowContext,
    *,
    metric: str,
    summary: str,
    shown: Callable[[float], float] = float,
    event_ids: Sequence[str] = (),
    suggested: ControlState | None = None,
) -> Detection:
    """The detection of an alarm; `shown` makes what people read of the test's unit, `suggested` is for a
    critical one.
    """
    reading = raised.reading
    return context.detection(
        detector,
        trigger=f"{metric}/{reading.began}",
        severity=raised.severity,
        metric=metric,
        observed=shown(reading.after),
        expected=shown(reading.before),
        threshold=raised.level,
        score=reading.run_length,
        sample_size=reading.observations,
        since=context.since(reading.began),
        event_ids=event_ids,
        summary=summary,
        suggested=suggested if raised.severity == "critical" else None,
    )


_RANKS: Final = {"cannot tell": 0, "healthy": 1, "warning": 2, "critical": 3}


def worst(standings: Iterable[Standing]) -> Standing:
    """Of several, of which there must be one, the first of the worst; what cannot be told is passed over."""
    return max(standings, key=lambda each: _RANKS[each.verdict])


def standing_of(series: Watching, metric: str, enough: bool, expected: float) -> Standing:
    """How a series stands that has, or has not, shown enough to tell."""
    if series.severity:
        deviation = 2.0 if series.severity == "critical" else 1.0
        return Standing(series.severity, metric, series.after, series.before, deviation)
    if not enough:
        return Standing("cannot tell", metric)
    return Standing("healthy", metric, expected, expected, min(series.evidence, MOST_MILD))
