"""What is usual at each hour of the day, or of the week: a mean for each, in six bytes.

An hour's first value is its mean; then a value weighs as much as the time since the last one does in the time
that is remembered, and at least as in a plain mean. Means are kept as distances, in single precision.

>>> hours = begin(OF_DAY)
>>> for day in range(3):
...     learn(hours, 24 * day + 9, 5.0 + day, passed=24.0, memory=24.0 * 8)
>>> usual(hours, 24 * 3 + 9), usual(hours, 10)
((6.0, 3), (0.0, 0))
"""

from __future__ import annotations

import struct
from typing import Final

OF_DAY: Final = 24
OF_WEEK: Final = 168
_SLOT: Final = struct.Struct("<fH")
_MOST: Final = 65_535
_LARGEST: Final = 3.4e38


def begin(hours: int) -> bytearray:
    """Nothing known of so many hours."""
    return bytearray(hours * _SLOT.size)


def usual(kept: bytearray, hour: int) -> tuple[float, int]:
    """The mean of an hour, counted on from any round of them, and how many values it is of."""
    mean, count = _SLOT.unpack_from(kept, _place(kept, hour))
    return mean, count


def learn(
    kept: bytearray, hour: int, value: float, *, passed: float, memory: float, origin: float = 0.0
) -> None:
    """Take a value of an hour in. `passed` is the time since the last value of any, in the unit of `memory`;
    the mean is kept as the distance from `origin`.
    """
    distance, count = usual(kept, hour)
    mean = distance + origin
    mean += (value - mean) * min(1.0, max(1.0 / (count + 1), passed / memory))
    _SLOT.pack_into(kept, _place(kept, hour), _single(mean - origin), min(count + 1, _MOST))


def _place(kept: bytearray, hour: int) -> int:
    return hour * _SLOT.size % len(kept)


def _single(value: float) -> float:
    """The nearest that single precision can hold."""
    return min(max(value, -_LARGEST), _LARGEST)
