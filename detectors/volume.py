"""Whether an agent has gone quiet: the work of its last hours against what is usual at such hours.

Statistic: a Shiryaev-Roberts sum over the hours at which it may have begun (`detectors.sequential.onsets`),
of likelihood ratios: Poisson counts at a small share of the usual over "nothing is wrong". Nothing is wrong
in three ways: the day is slower than others, so that counts are gamma-Poisson (negative binomial) and not
Poisson; or all is silent for some hours since something is down for a while, an outage that mends itself
(Pareto's tail); or it is silent as it has been again and again, having days off, of which the last silences
tell by what was missing in each. Unit: hours; a run length is in hours, too. Counts are sessions begun and
ten-minute stretches with work in them, two of which usually come of one request and count as one.

What is usual is learned by hour of the day, at weekends apart, two days late and not under alarm. It is
underestimated where little is known, so a first quiet weekend is no evidence. Hours of silence are often
harmless, so they are a warning at first; critical once next to nothing was done for more than a day, and more
than a weekday's work is missing: holidays are no failures. An agent that is new may work once a week, for all
that is known: what it does in its first two weeks is a warning at most.

>>> volume, alarms = Volume(), []
>>> for hour in range(24 * 18):
...     worked = 8 <= hour % 24 < 18 and hour < 24 * 14
...     note(volume, hour, began=20 * worked, at_ms=hour * HOUR_MS, worked=worked)
...     alarm = close(volume, "activity_collapse", among=1)
...     if alarm is not None:
...         alarms.append((alarm.severity, hour - 24 * 14, round(alarm.quiet.expected)))
>>> alarms
[('warning', 9, 38), ('critical', 33, 225)]
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from detectors.alarm import Severity
from detectors.false_alarms import level
from detectors.seasonal import HOUR_MS
from detectors.watch import FADED

HORIZON_HOURS: Final = 336
"""How far back it may have begun: of what works once a night, a silence of five is no evidence yet."""
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
NEW_HOURS: Final = 360
MOST_SILENCES: Final = 16
SHORTEST_SILENCE: Final = 8
ALIKE: Final = 1.5
"""A silence is like one before in which this many times less was missing."""

Floats = NDArray[np.float64]


class Volume(msgspec.Struct, array_like=True):
    """`slots` holds, by hour of the day (plus 24 at weekends), hours and their counts; `recent` the counts of
    the last hours before `hour`; `count` is of `hour`, `stretch` the last one with work.
    `first` is the hour it is watched from, `severity` the alarm it is in, `worked` the last hour with
    a count. `silences` are the longest before that: how many hours, and the first.
    """

    first: int = -1
    severity: Literal["", "warning", "critical"] = ""
    hour: int = -1
    count: int = 0
    stretch: int = -1
    slots: dict[int, tuple[float, float]] = {}
    recent: list[int] = []
    worked: int = -1
    silences: list[tuple[int, int]] = []


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
    if volume.count:
        _note_silence(volume)
    volume.count = 0
    volume.hour += 1
    if not volume.severity and len(volume.recent) >= LEARN_HOURS:
        _learn(volume, volume.hour - LEARN_HOURS, volume.recent[-LEARN_HOURS])
    del volume.recent[:-HORIZON_HOURS]
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
    if quiet.run_length >= critical and watched >= NEW_HOURS and _severe(quiet, volume.hour):
        news, volume.severity = volume.severity != "critical", "critical"
        return Alarm("critical", quiet, critical) if news else None
    if volume.severity:
        return None
    volume.severity = "warning"
    return Alarm("warning", quiet, warning)


def _note_silence(volume: Volume) -> None:
    """There was work in the hour: what was before is over."""
    began = volume.worked + 1
    if began and volume.hour - began >= SHORTEST_SILENCE:
        silences = [*volume.silences, (volume.hour - began, began)]
        volume.silences = sorted(silences, reverse=True)[:MOST_SILENCES]
    volume.worked = volume.hour


def _severe(quiet: Quiet, hour: int) -> bool:
    return (
        quiet.done <= SEVERE_SHARE * quiet.expected
        and hour - quiet.began > HOURS_A_DAY
        and quiet.expected >= SEVERE_DAYS * quiet.a_day
    )


def usual(volume: Volume) -> Floats:
    """How many counts an hour lets expect, by slot; rather too few. 0 while that is not known."""
    found = np.zeros(2 * HOURS_A_DAY)
    for slot, (hours, count) in volume.slots.items():
        if hours >= KNOWN_HOURS:
            found[slot] = count / (hours + 1.0)
    return found


def a_day(volume: Volume) -> float:
    """How many counts a whole weekday lets expect."""
    return sum(count / (hours + 1.0) for slot, (hours, count) in volume.slots.items() if slot < HOURS_A_DAY)


def weigh(volume: Volume) -> Quiet | None:
    """The evidence that the agent has gone quiet; None while nothing is known, or nothing is missing."""
    first = volume.hour - len(volume.recent)
    by_slot = usual(volume)
    expected = by_slot[_slots(first, volume.hour)]
    counts = np.array(volume.recent, dtype=float)
    if not expected.any() or (counts.sum() >= expected.sum() and counts[-1] > 0):
        return None
    since = counts[::-1].cumsum()[::-1]
    missing = expected[::-1].cumsum()[::-1]
    hours = np.arange(len(counts), 0, -1.0)
    off = _days_off(volume, by_slot, counts, expected)
    log_e = _log_e(since / CLUMP, missing / CLUMP, hours, off)
    likeliest = int(log_e.argmax())
    run_length = float(np.exp(np.minimum(log_e, 500.0)).sum())
    return Quiet(
        run_length, first + likeliest, float(since[likeliest]), float(missing[likeliest]), a_day(volume)
    )


def _days_off(volume: Volume, by_slot: Floats, counts: Floats, expected: Floats) -> Floats:
    """Of each onset, shape (onsets,): the log likelihood of usual work but for silences like some before, and
    of those. That of one is the share of them among all that had come as far by then; where it began later
    than the onset, among days. Two make one: the first may have been a failure.
    """
    worked = np.concatenate([[-1], counts.nonzero()[0], [len(counts)]])
    upto = np.concatenate([[0.0], expected.cumsum()])
    sizes = np.array([by_slot[_slots(began, began + hours)].sum() for hours, began in volume.silences])
    days = (volume.hour - volume.first) / HOURS_A_DAY
    found, elsewhere = np.zeros(len(counts)), upto[-1] - upto[:-1]
    concerned = np.zeros(len(counts), dtype=bool)
    for first, end in zip(upto[worked[:-1] + 1], upto[worked[1:]], strict=True):
        if end - first < CLUMP:
            continue
        # One that is over is among them.
        alike = int((ALIKE * sizes >= end - first).sum()) - 1 - (end < upto[-1])
        if alike <= 0:
            continue
        by_then = np.minimum(upto[:-1], end) - first
        as_far = (sizes >= by_then[:, None]).sum(axis=1)
        chances = np.where(by_then < CLUMP, max(days, alike), np.maximum(as_far, alike))
        within = upto[:-1] < end
        concerned |= within
        found += np.where(within, np.log(alike / chances), 0.0)
        elsewhere -= end - first - np.maximum(by_then, 0.0)
    since = counts[::-1].cumsum()[::-1]
    return np.where(concerned, found + _slow(since / CLUMP, elsewhere / CLUMP), -np.inf)


def _log_e(counts: Floats, expected: Floats, hours: Floats, days_off: Floats) -> Floats:
    """Of each onset, shape (onsets,): the log likelihood of few over that of nothing wrong."""
    means = np.maximum(expected[:, None] * np.array(SHARES), 1e-9)
    few = np.logaddexp.reduce(counts[:, None] * np.log(means) - means, axis=1) - np.log(len(SHARES))
    slow = _slow(counts, expected)
    outage = np.log(OUTAGES_A_MONTH / MONTH_HOURS) - 2.0 * np.log1p(hours / OUTAGE_HOURS)
    usual_way = np.where(counts == 0, np.logaddexp(slow, outage), slow)
    return np.asarray(few - np.logaddexp(usual_way, days_off))


def _slow(counts: Floats, expected: Floats) -> Floats:
    """Of each onset, shape (onsets,): the log likelihood of so many on days that differ; the factorial of the
    counts is left out here and elsewhere.
    """
    rates = np.maximum(expected, 1e-9)
    return np.asarray(
        gammaln(EVENNESS + counts)
        - gammaln(EVENNESS)
        + counts * np.log(rates / (EVENNESS + rates))
        + EVENNESS * np.log(EVENNESS / (EVENNESS + rates))
    )


def _learn(volume: Volume, hour: int, count: float) -> None:
    slot = _slot(hour)
    hours, total = volume.slots.get(slot, (0.0, 0.0))
    hours, total = hours + 1.0, total + count
    if hours > MOST_HOURS:
        hours, total = hours / 2, total / 2
    volume.slots[slot] = (hours, total)


def _slot(hour: int) -> int:
    return int(_slots(hour, hour + 1)[0])


def _slots(first: int, end: int) -> NDArray[np.int64]:
    """Of the hours from `first` up to, not including, `end`."""
    days, in_day = np.divmod(np.arange(first, end), HOURS_A_DAY)
    # 1970 began on a Thursday.
    return np.asarray(in_day + HOURS_A_DAY * ((days + 3) % 7 >= 5))
