"""The alarm that a series of a detector of behaviour is in: what is remembered of it, how the series stands,
and the detection that tells of it.

>>> series = Watching(severity="warning", before=0.02, after=0.05)
>>> standing_of(series, "error_rate", enough=True, expected=0.02).deviation
1.0
>>> untold = standing_of(Watching(), "latency", enough=False, expected=0.0)
>>> worst([untold, Standing("healthy", "cost")]).metric
'cost'
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from detectors.base import Detection, Detector, Standing, WindowContext
from detectors.seasonal import Season
from detectors.sequential.onsets import Reading
from schemas.control import ControlState

MOST_MILD: Final = 0.99
"""What evidence is worth at most while it is no warning."""

Severity = Literal["warning", "critical"]


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


class Raised(NamedTuple):
    """An alarm that has just been raised, and the level it has passed."""

    severity: Severity
    reading: Reading
    level: float


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
