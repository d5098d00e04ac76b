"""A quick look that spares weighing hopeless evidence, since every agent's every indicator is looked at.

Shiryaev-Roberts sums in their recursive form, one for each of a few changes, with the state before taken as
known exactly: a few multiplications an update. They exceed the weighed sum, which pays for what is not known,
by a factor that changes slowly; so once the evidence was weighed and found short by a factor, it is weighed
again when a quick sum has grown by a quarter of that. A look can only leave an alarm out, never raise one:
the false-alarm run length stays valid whatever the look does.

>>> state = Screened()
>>> renew(state, floor=1_000.0)
>>> [promising(state, 10.0, [1.0, -1.0]) for _ in range(4)]
[False, False, True, True]
>>> postpone(state, floor=1_000.0, length=100.0)
>>> promising(state, 10.0, [0.5, -1.0])
False
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import exp

import msgspec

from detectors.sequential.evidence import Floats, Weighed, weigh
from detectors.sequential.onsets import History

CALIBRATION = 2 / 3
"""The Shiryaev-Roberts sum at which a run length of 1 is told: it overshoots, and the measured run length at
fixed rates and normal values is some 1.5 times the sum (`tests/detectors/sequential` hold it to that).
"""
MARGIN = 4.0
LARGEST = 1e12
LARGEST_GAIN = 50.0


class Screened(History):
    """`screens` are the quick sums; the evidence is weighed when one is `due`."""

    screens: list[float] = msgspec.field(default_factory=list)
    due: float = 0.0


def promising(state: Screened, count: float, gains: Iterable[float]) -> bool:
    """Takes `count` observations into the quick sums, of which each gains so much log likelihood ratio."""
    if state.screens:
        sums = zip(state.screens, gains, strict=True)
        state.screens = [min(LARGEST, (each + count) * exp(min(gain, LARGEST_GAIN))) for each, gain in sums]
    else:
        state.screens = [count * exp(min(gain, LARGEST_GAIN)) for gain in gains]
    return max(state.screens) >= state.due


def renew(state: Screened, floor: float) -> None:
    """What was taken as known is known anew."""
    state.due = floor / MARGIN


def weighed(
    state: Screened, min_reference: float, floor: float, log_e: Callable[[Floats, Floats], Floats]
) -> tuple[Weighed, float] | None:
    """What `weigh` finds and the run length it is worth; None if that is below the floor."""
    found = weigh(state, min_reference, log_e)
    if found is None:
        return None
    length = found.run_length(CALIBRATION)
    if length >= floor:
        return found, length
    postpone(state, floor, length)
    return None


def postpone(state: Screened, floor: float, length: float) -> None:
    """The evidence was weighed, and found to be worth this run length, less than the floor."""
    if state.screens:
        state.due = max(floor, max(state.screens) * min(floor / max(length, 1.0 / LARGEST), LARGEST)) / MARGIN
