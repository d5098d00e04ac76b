"""By how much values that come one after another are alike, so that many are worth fewer.

Calls of one session are alike, and so are requests of one hour. As how many values one is worth (the design
effect: Kish, "Survey Sampling", 1965) is measured: by how much the means of successive blocks of 16 to 1,024
values lie further apart than those of independent ones would (von Neumann, 1941), in the median, which a
change does not move.

>>> import numpy as np
>>> random, alone, together = np.random.default_rng(7), [], []
>>> for _ in range(250):
...     note(alone, 4, random.normal(size=4).sum(), 1.0)
...     note(together, 4, 4 * random.normal(), 1.0)
>>> round(design_effect(alone), 1), round(design_effect(together), 1)
(1.3, 4.3)
"""

from __future__ import annotations

from typing import Final

import msgspec

BLOCKS: Final = (16, 64, 256, 1_024)
LATEST: Final = 16
ENOUGH: Final = 5
MEDIAN: Final = 0.455
"""Of chi-square with one degree of freedom."""
LENIENCE: Final = 0.9
"""Since the largest of several medians is taken."""
PRESUMED: Final = 4.0
MOST_ALIKE: Final = 100.0


class Block(msgspec.Struct, array_like=True):
    """Of blocks of a size: the one that is not full, count and mean of the last full one, and how far apart
    the latest were, squared, in thousandths of the variance of such a difference.
    """

    count: float = 0.0
    total: float = 0.0
    last: tuple[float, float] | None = None
    off: list[int] = msgspec.field(default_factory=list)


def note(blocks: list[Block], count: float, total: float, variance: float) -> None:
    """Take `count` values with that sum in; `variance` is that of one value."""
    if not blocks:
        blocks.extend(Block() for _ in BLOCKS)
    for size, block in zip(BLOCKS, blocks, strict=True):
        block.count += count
        block.total += total
        if block.count >= size:
            mean = block.total / block.count
            if block.last is not None and variance > 0:
                apart = (mean - block.last[1]) ** 2 / (1 / block.count + 1 / block.last[0])
                block.off = [*block.off[1 - LATEST :], round(1_000 * apart / variance)]
            block.last = (block.count, mean)
            block.count = block.total = 0.0


def design_effect(blocks: list[Block], presumed: float = PRESUMED) -> float:
    """As many alike values are worth one; at least so many as `presumed` while little is known."""
    found = [
        LENIENCE * sorted(block.off)[len(block.off) // 2] / 1_000 / MEDIAN
        for block in blocks
        if len(block.off) >= ENOUGH
    ]
    if len(blocks[1].off) < ENOUGH:
        found.append(presumed)
    return min(max(found, default=1.0), MOST_ALIKE) if max(found, default=1.0) > 1.0 else 1.0
