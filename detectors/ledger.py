"""What else was going on before and since: sums by stretch of time, kept so that an alarm whose onset is only
estimated later can say what changed with it.

Some two dozen stretches, the finer the more recent: where there is no room, the two neighbours that are
shortest for their age are joined. The oldest forgets half each time it grows beyond two weeks.

>>> ledger = Ledger()
>>> for hour in range(100):
...     note(ledger, 3_600_000 * hour, [10, 1 if hour < 96 else 5])
>>> before, since = split(ledger, 96 * 3_600_000)
>>> len(ledger.stretches) <= MOST, before[0] + since[0], [each / since[0] for each in since]
(True, 1000, [1.0, 0.5])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

MOST: Final = 24
OLDEST_MS: Final = 14 * 86_400_000


class Ledger(msgspec.Struct, array_like=True):
    """When each stretch began (epoch milliseconds) and its sums, oldest first."""

    stretches: list[tuple[int, list[int | float]]] = []


def note(ledger: Ledger, at_ms: float, sums: Sequence[int | float]) -> None:
    """Take the sums of some time in, which must not lie before what was taken in last."""
    stretches = ledger.stretches
    stretches.append((int(at_ms), list(sums)))
    if len(stretches) <= MOST:
        return
    begins = [began for began, _ in stretches]
    # By age of the middle; 1 keeps what is of the same moment from dividing by nothing.
    place = min(
        range(len(stretches) - 2),
        key=lambda at: (begins[at + 2] - begins[at]) / (begins[-1] - begins[at] + 1),
    )
    (began, older), (_, newer) = stretches[place], stretches[place + 1]
    if place == 0 and begins[2] - began > OLDEST_MS:
        began, older = begins[1] - OLDEST_MS // 2, [each / 2 for each in older]
    stretches[place : place + 2] = [(began, [one + other for one, other in zip(older, newer, strict=True)])]


def split(ledger: Ledger, began_ms: float) -> tuple[list[int | float], list[int | float]]:
    """The sums of what began before a time, and of what began at it or since; a stretch of both is before."""
    width = len(ledger.stretches[0][1]) if ledger.stretches else 0
    before: list[int | float] = [0] * width
    since: list[int | float] = [0] * width
    for began, sums in ledger.stretches:
        side = before if began < began_ms else since
        for place, each in enumerate(sums):
            side[place] += each
    return before, since


def means(ledger: Ledger, began_ms: float) -> tuple[float, float] | None:
    """The means before and since of a ledger whose first two sums are a count and a total; None where one is
    not known.
    """
    before, since = split(ledger, began_ms)
    if not before or not before[0] or not since[0]:
        return None
    return before[1] / before[0], since[1] / since[0]
