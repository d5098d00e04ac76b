"""Healthy windows of one agent: days and nights, lumps, bursts and gaps; and a change at the end of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from detectors.testing import window
from detectors.windows import Window

FRAMES_A_DAY = 144
FRAME_GAP = 60
"""A frame every ten minutes, in windows of ten seconds."""

Fields = Callable[[int, float, np.random.Generator], dict[str, Any]]
"""From the number of sessions in a frame and the time of day (0 to 1), what is counted of them."""


def days(first: int, last: int, seed: int, fields: Fields, *, sessions: float = 6.0) -> list[Window]:
    """The frames of days `first` to `last`, with some `sessions` a frame at noon."""
    random = np.random.default_rng((seed, first))
    made: list[Window] = []
    gap_until = -1
    for number in range(first * FRAMES_A_DAY, last * FRAMES_A_DAY):
        time_of_day = number % FRAMES_A_DAY / FRAMES_A_DAY
        expected = sessions * (0.05 + 0.95 * np.sin(np.pi * time_of_day) ** 2) * random.gamma(3.0, 1 / 3)
        if random.random() < 0.002:
            expected *= 8
        if random.random() < 0.002:
            gap_until = number + int(random.integers(3, 30))
        count = int(random.poisson(expected))
        if count and number > gap_until:
            made.append(window(number * FRAME_GAP, **fields(count, time_of_day, random)))
    return made
