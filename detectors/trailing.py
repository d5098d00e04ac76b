"""Totals of the last minutes, hours and days of event time, without keeping what they are made of.

Rings of cells, each ring coarser and longer than the one before: what is asked for is read from the finest
ring that reaches back far enough. A total covers the whole span and at most one cell of that ring more: it is
never early to forget, and late by 10 s of 5 minutes, 5 minutes of an hour, an hour of a day, 6 hours of 14
days. What comes late is counted where it belongs as long as there is a cell for it. All sums are integers (in
a whole unit of the caller's choosing), and what is kept depends on nothing but what was added and the newest
time, so that merging is exact in any order and grouping.

>>> kept = Trailing()
>>> for minute in range(20 * 24 * 60):
...     add(kept, minute * MINUTE_MS, 10, 1)
>>> total(kept, 5 * MINUTE_MS), total(kept, HOUR_MS), total(kept, DAY_MS)
(Total(observations=60, sum=6), Total(observations=650, sum=65), Total(observations=15000, sum=1500))
>>> round(total(kept, 14 * DAY_MS).observations / (14 * 24 * 60 * 10), 2)
1.02
>>> sum(len(cells) for cells in kept.rings)
101
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS


class Ring(NamedTuple):
    """Cells of `width_ms`, `cells` of them besides the one that time is in."""

    width_ms: int
    cells: int

    @property
    def reach_ms(self) -> int:
        """The longest span that it can tell of."""
        return self.width_ms * self.cells


Rings = tuple[Ring, ...]
RINGS: Final[Rings] = (
    Ring(10 * SECOND_MS, 30),
    Ring(5 * MINUTE_MS, 12),
    Ring(HOUR_MS, 24),
    Ring(6 * HOUR_MS, 56),
)


class Total(NamedTuple):
    """How many observations there were, and their sum."""

    observations: int
    sum: int


NOTHING: Final = Total(0, 0)


class Trailing(msgspec.Struct, array_like=True):
    """By ring, the cells in use by number (time over width): count and sum. `newest_ms` is the latest time
    that was added.
    """

    newest_ms: int = 0
    rings: list[dict[int, tuple[int, int]]] = []


def add(trailing: Trailing, at_ms: int, count: int, summed: int, rings: Rings = RINGS) -> None:
    """Take observations in. What is older than a ring's memory is not counted there."""
    _advance(trailing, at_ms, rings)
    for ring, cells in zip(rings, trailing.rings, strict=True):
        number = at_ms // ring.width_ms
        if number < trailing.newest_ms // ring.width_ms - ring.cells:
            continue
        known = cells.get(number)
        cells[number] = (count, summed) if known is None else (known[0] + count, known[1] + summed)


def merge(trailing: Trailing, other: Trailing, rings: Rings = RINGS) -> None:
    """Add `other`, of the same rings, which is left as it was."""
    _advance(trailing, other.newest_ms, rings)
    for ring, cells, theirs in zip(rings, trailing.rings, other.rings, strict=False):
        oldest = trailing.newest_ms // ring.width_ms - ring.cells
        for number, (count, summed) in theirs.items():
            if number >= oldest:
                known = cells.get(number, (0, 0))
                cells[number] = (known[0] + count, known[1] + summed)


def total(trailing: Trailing, span_ms: int, rings: Rings = RINGS, *, now_ms: int | None = None) -> Total:
    """What was added in the last `span_ms` before `now_ms` (the newest time, unless it is later), and in at
    most one cell before that. Spans longer than any ring are cut to the longest.
    """
    now_ms = trailing.newest_ms if now_ms is None else max(now_ms, trailing.newest_ms)
    place, last = 0, len(rings) - 1
    while place < last and rings[place].reach_ms < span_ms:
        place += 1
    if place >= len(trailing.rings):
        return NOTHING
    ring = rings[place]
    oldest = (now_ms - min(span_ms, ring.reach_ms) + 1) // ring.width_ms
    observations = summed = 0
    for number, cell in trailing.rings[place].items():
        if number >= oldest:
            observations += cell[0]
            summed += cell[1]
    return Total(observations, summed)


def _advance(trailing: Trailing, at_ms: int, rings: Rings) -> None:
    """Let time come to `at_ms`: cells that no span reaches any more are dropped."""
    before_ms = trailing.newest_ms
    if not trailing.rings:
        trailing.rings = [{} for _ in rings]
    if at_ms <= before_ms:
        return
    trailing.newest_ms = at_ms
    for place, ring in enumerate(rings):
        newest = at_ms // ring.width_ms
        cells = trailing.rings[place]
        if newest != before_ms // ring.width_ms and cells:
            oldest = newest - ring.cells
            for number in [number for number in cells if number < oldest]:
                del cells[number]
