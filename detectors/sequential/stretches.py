"""Stretches of consecutive observations by their sums: joined as they age, and learned by the references.

>>> history = History(recent=[Stretch(at, [4, 1, 0.25, 1]) for at in range(40)])
>>> coarsen(history, Spans(horizon=100)).name, [stretch.sums[0] for stretch in history.recent][::6]
('LEARNED', [12, 4, 4, 4])
>>> history.reference[:2]
[52, 13]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import msgspec

BLOCK = 64
MOST_WHOLE = 2.0**32


class Stretch(msgspec.Struct, array_like=True):
    """Consecutive observations: where they began, and sums: count, total, a test's own, then the sum over
    blocks of total²/count and the number of blocks. They are `whole` where they can be.
    """

    began: int
    sums: list[int | float]


class History(msgspec.Struct, array_like=True):
    """Sums of the reference (everything before the oldest onset in question), of what entered it first, and
    the stretches since, of which the last `fresh` were not looked at for joining.
    """

    reference: list[float] = []
    frozen: list[float] = []
    recent: list[Stretch] = []
    fresh: int = 0


@dataclass(frozen=True, slots=True)
class Spans:
    """How many observations an onset may lie back, how many the reference remembers, how many stay as the
    frozen reference; the smallest stretch, and the share of its age that a stretch may have.
    """

    horizon: int = 8_000
    memory: int = 20_000
    freeze: int = 2_000
    finest: int = 4
    resolution: int = 8


class Taken(IntEnum):
    """What taking observations in did besides."""

    ADDED = 0
    JOINED = 1
    LEARNED = 2


def learn(history: History, spans: Spans, sums: Sequence[float]) -> None:
    if not history.frozen or history.frozen[0] < spans.freeze:
        history.frozen = _added(history.frozen, sums)
    reference = _added(history.reference, sums)
    if reference[0] > spans.memory:
        scale = spans.memory / reference[0]
        reference = [each * scale for each in reference]
    history.reference = reference


def _added(sums: Sequence[float], more: Sequence[float]) -> list[float]:
    return [one + other for one, other in zip(sums, more, strict=True)] if sums else list(more)


def whole(sums: Sequence[float]) -> list[int | float]:
    """Whole numbers as such, though they come as floats: of sums a state mostly consists, and encoded a
    whole one takes a byte or two, any other nine. Larger ones than take five stay as they are.
    """
    return [int(each) if each % 1 == 0 and abs(each) < MOST_WHOLE else each for each in sums]


def joined(sums: Sequence[float], more: Sequence[float]) -> list[int | float]:
    """The sums of both; what is small is one block."""
    both = _added(sums, more)
    if both[0] <= BLOCK:
        both[-2:] = [both[1] * both[1] / both[0], 1]
    return whole(both)


def coarsen(history: History, spans: Spans) -> Taken:
    """Joins neighbours small for their age; lets the reference have what is past the horizon."""
    kept: list[Stretch] = []
    age = 0.0
    for stretch in reversed(history.recent):
        if kept and kept[-1].sums[0] + stretch.sums[0] <= (age - kept[-1].sums[0]) / spans.resolution:
            kept[-1] = Stretch(stretch.began, joined(stretch.sums, kept[-1].sums))
        else:
            kept.append(stretch)
        age += stretch.sums[0]
    kept.reverse()
    taken = Taken.JOINED
    while len(kept) > 1 and age - kept[0].sums[0] >= spans.horizon:
        age -= kept[0].sums[0]
        learn(history, spans, kept.pop(0).sums)
        taken = Taken.LEARNED
    history.recent, history.fresh = kept, 0
    return taken
