"""Whether an agent has gone quiet: the work of its last hours against what is usual at such hours.

Statistic: a Shiryaev-Roberts sum over the hours at which it may have begun (`detectors.sequential.onsets`),
of likelihood ratios: Poisson counts at a small share of the usual over "nothing is wrong". Nothing is wrong
in three ways: the day is slower than others, so that counts are gamma-Poisson (negative binomial) and not
Poisson; or all is silent for some hours since something is down for a while, an outage that mends itself
(Pareto's tail); or both. Unit: hours; a run length is in hours, too. Counts are sessions begun and
ten-minute stretches with work in them, two of which usually come of one request and count as one.

What is usual is learned by hour of the day, at weekends apart, two days late and not under alarm. It is
underestimated where little is known, so a first quiet weekend is no evidence. Hours of silence are often
harmless, so they are a warning at first; critical once next to nothing was done for more than a day, and more
than a weekday's work is missing: holidays are no failures.

>>> volume, alarms = Volume(), []
>>> for hour in range(24 * 14):
...     worked = 8 <= hour % 24 < 18 and hour < 24 * 11
...     note(volume, hour, began=20 * worked, at_ms=hour * HOUR_MS, worked=worked)
...     alarm = close(volume, "activity_collapse", among=1)
...     if alarm is not None:
...         alarms.append((alarm.severity, hour - 24 * 11, round(alarm.quiet.expected)))
>>> alarms
[('warning', 9, 37), ('critical', 33, 220)]
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from detectors.alarm import Severity
from detectors.false_alarms import level
from detectors.seasonal import DAY_MS, HOUR_MS
from detectors.watch import FADED

HORIZON_HOURS: Final = 120
ALARM_HOURS: Final = 336
"""How far back it may have begun; farther under alarm, so that a weekend does not end one."""
LEARN_HOURS: Final = 48
STRETCH_MS: Final = 600_000
MOST_HOURS: Final = 40.0
"""Of one slot; beyond, old ones are forgotten."""
KNOWN_HOURS: Final = 2.0
CLUMP: Final = 2.0
EVENNESS: Final = 5.0
"""Shape of the gamma distribution of days."""
OUTAGES_A_MONTH: Final = 1.5
OUTAGE_HOURS: Final = 2.0
MONTH_HOURS: Final = 720.0
SHARES: Final = (0.001, 0.02, 0.1, 0.25)
HOURS_A_DAY: Final = 24
SEVERE_SHARE: Final = 0.1
SEVERE_DAYS: Final = 1.2

Floats = NDArray[np.float64]


class Volume(msgspec.Struct, array_like=True):
    """`slots` holds, by hour of the day (plus 24 at weekends), hours and their counts; `recent` the counts of
    the last hours before `hour`; `count` is of `hour`, `stretch` the last one with work.
    `first` is the hour it is watched from, `severity` the alarm it is in.
    """

    first: int = -1
    severity: Literal["", "warning", "critical"] = ""
    hour: int = -1
    count: int = 0
    stretch: int = -1
    slots: dict[int, tuple[float, float]] = {}
    recent: list[int] = []


class Quiet(NamedTuple):
    """The evidence, in hours between false alarms; since which hour, how many counts came (`done`), how many
    are usual in that time, and on a whole weekday.
    """

    run_length: float
    began: int
    done: float
    expected: float
    a_day: float

    @property
    def silent(self) -> bool:
        """Whether nothing was done at all."""
        return self.done == 0


class Alarm(NamedTuple):
    """One that has just been raised, and the level it has passed."""

    severity: Severity
    quiet: Quiet
    level: float


def note(volume: Volume, hour: int, *, began: int, at_ms: float, worked: bool) -> None:
    """Take in so many sessions that began, or other work, in the hour (since 1970) that is not over."""
    if hour != volume.hour:
        # It was forgotten, or is new.
        volume.hour, volume.count, volume.recent = hour, 0, []
        volume.first = hour if volume.first < 0 else volume.first
    stretch = int(at_ms // STRETCH_MS)
    if worked and stretch != volume.stretch:
        volume.count += 1
        volume.stretch = stretch
    volume.count += began


def close(volume: Volume, detector: str, *, among: int) -> Alarm | None:
    """The hour is over: say what that raises. What is old enough is learned from, but under alarm.
    `detector` and `among` are as for `detectors.false_alarms.level`.
    """
    volume.recent.append(volume.count)
    volume.count = 0
    volume.hour += 1
    if not volume.severity and len(volume.recent) >= LEARN_HOURS:
        _learn(volume, volume.hour - LEARN_HOURS, volume.recent[-LEARN_HOURS])
    del volume.recent[: -(ALARM_HOURS if volume.severity else HORIZON_HOURS)]
    quiet = weigh(volume)
    watched = volume.hour - volume.first

    def demanded(severity: Severity) -> float:
        return level(detector, severity, observations=watched, span_ms=watched * HOUR_MS, among=among)

    warning = demanded("warning")
    if quiet is None or quiet.run_length < warning:
        if volume.severity and (quiet is None or quiet.run_length < FADED * warning):
            volume.severity, volume.recent = "", []
        return None
    critical = demanded("critical")
    if quiet.run_length >= critical and _severe(quiet, volume.hour):
        news, volume.severity = volume.severity != "critical", "critical"
        return Alarm("critical", quiet, critical) if news else None
    if volume.severity:
        return None
    volume.severity = "warning"
    return Alarm("warning", quiet, warning)


def _severe(quiet: Quiet, hour: int) -> bool:
    return (
        quiet.done <= SEVERE_SHARE * quiet.expected
        and hour - quiet.began > HOURS_A_DAY
        and quiet.expected >= SEVERE_DAYS * quiet.a_day
    )


def usual(volume: Volume, hour: int) -> float:
    """How many counts an hour lets expect; rather too few. 0 while that is not known."""
    hours, count = volume.slots.get(_slot(hour), (0.0, 0.0))
    return count / (hours + 1.0) if hours >= KNOWN_HOURS else 0.0


def a_day(volume: Volume) -> float:
    """How many counts a whole weekday lets expect."""
    return sum(count / (hours + 1.0) for slot, (hours, count) in volume.slots.items() if slot < HOURS_A_DAY)


def weigh(volume: Volume) -> Quiet | None:
    """The evidence that the agent has gone quiet; None while nothing is known, or nothing is missing."""
    first = volume.hour - len(volume.recent)
    expected = np.array([usual(volume, first + number) for number in range(len(volume.recent))])
    counts = np.array(volume.recent, dtype=float)
    if not expected.any() or (counts.sum() >= expected.sum() and counts[-1] > 0):
        return None
    since = counts[::-1].cumsum()[::-1]
    missing = expected[::-1].cumsum()[::-1]
    hours = np.arange(len(counts), 0, -1.0)
    log_e = _log_e(since / CLUMP, missing / CLUMP, hours)
    likeliest = int(log_e.argmax())
    run_length = float(np.exp(np.minimum(log_e, 500.0)).sum())
    return Quiet(
        run_length, first + likeliest, float(since[likeliest]), float(missing[likeliest]), a_day(volume)
    )


def _log_e(counts: Floats, expected: Floats, hours: Floats) -> Floats:
    """Of each onset, shape (onsets,): the log likelihood of few over that of nothing wrong."""
    means = np.maximum(expected[:, None] * np.array(SHARES), 1e-9)
    few = np.logaddexp.reduce(counts[:, None] * np.log(means) - means, axis=1) - np.log(len(SHARES))
    rates = np.maximum(expected, 1e-9)
    slow = (
        gammaln(EVENNESS + counts)
        - gammaln(EVENNESS)
        + counts * np.log(rates / (EVENNESS + rates))
        + EVENNESS * np.log(EVENNESS / (EVENNESS + rates))
    )
    # The factorial of the counts is left out on both sides.
    outage = np.log(OUTAGES_A_MONTH / MONTH_HOURS) - 2.0 * np.log1p(hours / OUTAGE_HOURS)
    usual_way = np.where(counts == 0, np.logaddexp(slow, outage), slow)
    return np.asarray(few - usual_way)


def _learn(volume: Volume, hour: int, count: float) -> None:
    slot = _slot(hour)
    hours, total = volume.slots.get(slot, (0.0, 0.0))
    hours, total = hours + 1.0, total + count
    if hours > MOST_HOURS:
        hours, total = hours / 2, total / 2
    volume.slots[slot] = (hours, total)


def _slot(hour: int) -> int:
    day, in_day = divmod(hour * HOUR_MS, DAY_MS)
    # 1970 began on a Thursday.
    return in_day // HOUR_MS + HOURS_A_DAY * ((day + 3) % 7 >= 5)
