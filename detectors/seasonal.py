"""What is normal at this hour of the day, on weekdays and at weekends, beside what is normal at all.

A sum a slot of an hour, learned a day at a time and only from days without an alarm, so that a change is not
explained by itself; but from the first days whatever comes, for a rhythm that is not known yet alarms every
day. Slots are shrunk towards the same hour of the other kind of day, and those towards the whole, by as much
as they are thinly known. Source of the shrinkage: the posterior mean of a normal or gamma prior worth so many
observations.

>>> season, hour = Season(), 3_600_000
>>> for number in range(24 * 8):
...     season.note(number * hour, 100, 4 if number % 24 == 9 else 2)
>>> round(season.factor(12 * 24 * hour + 9 * hour), 2), round(season.factor(12 * 24 * hour), 2)
(1.55, 0.98)
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
MIN_DAYS: Final = 2
PRIOR_HITS: Final = 12.0
PRIOR_VALUES: Final = 100.0
LARGEST_FACTOR: Final = 3.0
_PAIR: Final = struct.Struct("<ff")
EPOCH_WEEKDAY: Final = 3
"""1970 began on a Thursday."""


class Season(msgspec.Struct, array_like=True):
    """By slot (hour, plus 24 at the weekend) how many observations there were and their sum, in single
    precision; `today` holds those of the day that is not over, by hour, and is dropped if there was an alarm
    in it, once some days are known. Both are empty until something is in them.
    """

    day: int = -1
    days: int = 0
    tainted: bool = False
    count: float = 0.0
    total: float = 0.0
    slots: bytearray = msgspec.field(default_factory=bytearray)
    today: bytearray = msgspec.field(default_factory=bytearray)

    def note(self, at_ms: float, count: float, total: float, *, alarmed: bool = False) -> None:
        """Take observations in: how many, and their sum."""
        day = int(at_ms // DAY_MS)
        if day != self.day:
            self._close_day()
            self.day = day
        self.tainted |= alarmed
        _add(self.today, _slot(at_ms) % 24, 24, count, total)

    def factor(self, at_ms: float) -> float:
        """By how much more often than on the whole hits come at this hour; 1 while that is not known."""
        if self.days < MIN_DAYS or self.total <= 0:
            return 1.0
        found, slot = 1.0, _slot(at_ms)
        for each in (_other(slot), slot):
            count, hits = _read(self.slots, each)
            expected = count * self.total / self.count
            found = (hits + PRIOR_HITS * found) / (expected + PRIOR_HITS)
        return min(max(found, 1 / LARGEST_FACTOR), LARGEST_FACTOR)

    def offset(self, at_ms: float) -> float:
        """By how much values at this hour lie above the whole; 0 while that is not known."""
        if self.days < MIN_DAYS or self.count <= 0:
            return 0.0
        found, slot = 0.0, _slot(at_ms)
        for each in (_other(slot), slot):
            count, total = _read(self.slots, each)
            above = total - count * self.total / self.count
            found = (above + PRIOR_VALUES * found) / (count + PRIOR_VALUES)
        return found

    def _close_day(self) -> None:
        if self.today and (not self.tainted or self.days < MIN_DAYS):
            self.days += 1
            first = _slot(self.day * DAY_MS)
            for hour, (count, total) in enumerate(_PAIR.iter_unpack(self.today)):
                if count:
                    _add(self.slots, first + hour, 48, count, total)
                    self.count += count
                    self.total += total
        self.today = bytearray()
        self.tainted = False


def _read(pairs: bytearray, place: int) -> tuple[float, float]:
    if not pairs:
        return 0.0, 0.0
    count, total = _PAIR.unpack_from(pairs, place * _PAIR.size)
    return count, total


def _add(pairs: bytearray, place: int, places: int, count: float, total: float) -> None:
    if not pairs:
        pairs.extend(bytes(places * _PAIR.size))
    known_count, known_total = _PAIR.unpack_from(pairs, place * _PAIR.size)
    _PAIR.pack_into(pairs, place * _PAIR.size, known_count + count, known_total + total)


def _slot(at_ms: float) -> int:
    day, in_day = divmod(int(at_ms), DAY_MS)
    weekend = (day + EPOCH_WEEKDAY) % 7 >= 5
    return in_day // HOUR_MS + 24 * weekend


def _other(slot: int) -> int:
    """The same hour of the other kind of day."""
    return (slot + 24) % 48
