"""Where embeddings lie, and by how much blocks of them vary: what is remembered of those of one model.

The variance of a block is that of successive ones (von Neumann, 1941), which a shift does not enlarge; topics
come in runs of blocks, so that blocks count for fewer by how much further apart longer runs lie than that (as
in `detectors.alikeness`).

>>> series, block = CentroidSeries(), EmbeddingSums()
>>> for _ in range(BLOCK):
...     block.add([1.0, 0.0])
>>> place(series, block, 1.0)
>>> place(series, block, 1.0)
>>> series.reference, cosine(series), alikeness(series)
([1.0, 0.0], 1.0, 2.0)
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from detectors.alarm import Watching
from detectors.embeddings import PROJECTIONS, EmbeddingSums
from detectors.sequential.evidence import Floats
from detectors.sequential.onsets import History

BLOCK: Final = 32
RUNS: Final = (4, 16)
LATEST: Final = 8
ENOUGH: Final = 3
PRESUMED: Final = 2.0
MEMORY: Final = 200.0
REFERENCE_MEMORY: Final = 2_000
RECENT: Final = 4.0
"""Blocks in the centroid that is told of, fading."""


class Run(msgspec.Struct, array_like=True):
    """Of runs of blocks: the sums of the one that is not full, the last one's means, and how far apart the
    latest were, in what independent blocks would be.
    """

    blocks: float = 0.0
    sums: list[float] = msgspec.field(default_factory=list)
    last: list[float] = msgspec.field(default_factory=list)
    apart: list[float] = msgspec.field(default_factory=list)


class CentroidSeries(Watching):
    """Embeddings of one model. `waiting` is not yet a block; `last` the means of the last block, `variances`
    those of a block, from `differences` so far; `reference`, `recent` and `spread` tell of the centroid;
    `shift` is what an alarm is about, by projection.
    """

    waiting: EmbeddingSums = msgspec.field(default_factory=EmbeddingSums)
    waiting_ms: float = 0.0
    history: History = msgspec.field(default_factory=History)
    last: list[float] = msgspec.field(default_factory=list)
    variances: list[float] = msgspec.field(default_factory=list)
    differences: float = 0.0
    runs: list[Run] = msgspec.field(default_factory=lambda: [Run() for _ in RUNS])
    blocks: float = 0.0
    reference: list[float] = msgspec.field(default_factory=list)
    recent: list[float] = msgspec.field(default_factory=list)
    spread: float = 0.0
    shift: list[float] = msgspec.field(default_factory=list)


def learn_variance(series: CentroidSeries, means: Floats, weight: float) -> None:
    """From how far successive blocks, and runs of them, lie apart."""
    if series.last:
        apart = (means - series.last) ** 2 * weight / (1.0 + weight)
        series.differences += 1
        old = np.array(series.variances) if series.variances else apart
        series.variances = (old + (apart - old) / min(series.differences, MEMORY)).tolist()
    series.last = means.tolist()
    for size, run in zip(RUNS, series.runs, strict=True):
        run.sums = (np.array(run.sums or [0.0] * PROJECTIONS) + weight * means).tolist()
        run.blocks += weight
        if run.blocks < size:
            continue
        now = np.array(run.sums) / run.blocks
        if run.last and series.differences >= RUNS[0]:
            apart = run.blocks / 2.0 * (now - run.last) ** 2 / np.maximum(series.variances, 1e-12)
            run.apart = [*run.apart[1 - LATEST :], round(float(apart.mean()), 3)]
        run.last, run.sums, run.blocks = now.tolist(), [], 0.0


def alikeness(series: CentroidSeries) -> float:
    """As many blocks are worth one."""
    found = [sorted(run.apart)[len(run.apart) // 2] for run in series.runs if len(run.apart) >= ENOUGH]
    return max([1.0, *found] if found else [PRESUMED])


def place(series: CentroidSeries, block: EmbeddingSums, weight: float) -> None:
    """Learn where the recent centroid lies and, unless under alarm, that of before."""
    centroid = block.centroid()
    recent = np.array(series.recent) if series.recent else centroid
    series.recent = (recent + (centroid - recent) * min(1.0, weight / RECENT)).round(5).tolist()
    if series.severity:
        return
    series.blocks += weight
    known = np.array(series.reference) if series.reference else centroid
    share = weight / min(series.blocks, REFERENCE_MEMORY)
    series.reference = (known + (centroid - known) * share).round(6).tolist()
    series.spread += (block.spread() - series.spread) * share


def cosine(series: CentroidSeries) -> float:
    """Of the recent centroid to that of before; 1 while there is none."""
    one, other = np.array(series.recent), np.array(series.reference)
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / length if length else 1.0


def expected_cosine(series: CentroidSeries) -> float:
    """What chance makes of the cosine at that sample size: each centroid lies off by its standard error, of
    which what is across lowers the cosine by half its square.
    """
    length = float(np.square(series.reference).sum())
    embeddings = BLOCK * min(2 * RECENT, max(series.blocks, 1.0))
    return 1.0 - min(1.0, series.spread * alikeness(series) / (2 * embeddings * length)) if length else 1.0
