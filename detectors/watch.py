"""What detectors of behaviour have in common: a sequential test of one series, held against the budget of
false alarms, that speaks on transitions only and does not learn while it alarms.

A series warns once its evidence is worth the warning level, and goes critical once it is worth the critical
one and the change is severe. Then, or when a warning has stayed for `SETTLED` observations, the series is
known to be bad: its reference is left as it was before the onset, and nothing more is learned until it has
recovered (`detectors.recovery`), though a warning may still become critical. So what is under alarm never
becomes normal, and a failure that goes on is told once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from detectors import false_alarms
from detectors.alarm import Raised, Severity, Watching
from detectors.recovery import Error, Gain, recovers
from detectors.sequential.onsets import Reading

SETTLED: Final = 4_000
RECOVERY: Final = 200
FORGET: Final = -1
"""Begins before everything."""
FADED_HITS: Final = 16
FADED: Final = 0.1
"""A warning is over when its evidence has stayed below this share of the level."""

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
            gain, error: as for `detectors.recovery.recovers`.
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
            if recovers(series, count, total, gain=gain, enough=self.recovery, error=error):
                restart(FORGET)
                return None
            if series.severity == "critical":
                return None
        now = reading()
        warning = self.level(series, "warning", at_ms, among)
        # A frame that is not worth a reading says that there is less evidence, not that there is none.
        series.evidence = now.run_length / warning if now is not None else series.evidence / 2
        if now is None or now.run_length < warning:
            if series.severity and not series.settled:
                self._fade(series, count, now is None or now.run_length < FADED * warning)
            return None
        critical = self.level(series, "critical", at_ms, among)
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

    def level(self, series: Watching, severity: Severity, at_ms: float, among: int) -> float:
        """The run length that evidence must be worth for an alarm of that severity."""
        return false_alarms.level(
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
