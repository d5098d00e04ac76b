"""Watches where embeddings lie: the centroid of the latest beside that of those before.

Embeddings are taken in blocks of `BLOCK`. What is tested is the mean of each of 16 seeded projections
(`detectors.embeddings`) over blocks: for every possible onset and projection a t-test whose e-value mixes
over shifts that are normal around none (Wang and Ramdas, "Anytime-valid t-tests", 2024); the average of
e-values is one whatever depends on what, so the average over projections stays valid, and so does its
Shiryaev-Roberts sum over onsets (`detectors.sequential.onsets`). The variance is that of successive blocks
(von Neumann, 1941), which a shift does not enlarge; topics come in runs of blocks, so that blocks count for
fewer by how much further apart longer runs lie than that (as in `detectors.alikeness`).

An hour in which all ask about one thing moves the centroid, too, and passes. So a drift is told of once it is
`LASTING_MS` old and the latest embeddings still lie at least halfway; critical is one of a day.

>>> import numpy as np
>>> from detectors.embeddings import EmbeddingSums
>>> random, series, watch = np.random.default_rng(7), CentroidSeries(), CentroidWatch("embedding_drift")
>>> for at in range(130):
...     sums = EmbeddingSums()
...     for each in random.normal(0.2 if at < 100 else [0.5] * 4 + [0.2] * 12, 0.3, (16, 16)):
...         sums.add(each.tolist())
...     raised = watch.observe(series, sums, 3_600_000 * at)
...     if raised is not None:
...         print(at, raised.severity, round(raised.reading.after, 2))
107 warning 0.96
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Final

import msgspec
import numpy as np

from detectors.alarm import Raised, Watching, standing_of
from detectors.base import Standing
from detectors.embeddings import MICRO, PROJECTIONS, EmbeddingSums, project
from detectors.sequential import onsets
from detectors.sequential.evidence import Floats, log_sum_exp, weigh
from detectors.sequential.onsets import History, Reading, Spans
from detectors.watch import Watch

BLOCK: Final = 32
SPANS: Final = Spans(horizon=256, memory=2_000, freeze=64, finest=1, resolution=4)
MIN_REFERENCE: Final = 12.0
"""Blocks before an onset, so many at least."""
SHIFTS: Final = np.array([0.5, 1.0, 2.0, 4.0])
"""Standard deviations of the shifts that are mixed, in those of a block."""
RUNS: Final = (4, 16)
LATEST: Final = 8
ENOUGH: Final = 3
PRESUMED: Final = 2.0
MEMORY: Final = 200.0
RECENT: Final = 4.0
"""Blocks in the centroid that is told of, fading."""
SMALLEST: Final = 0.4
"""Shifts of the centroid below this, in spreads of an embedding, are of no practical meaning."""
LASTING_MS: Final = 6 * 3_600_000
SEVERE_MS: Final = 24 * 3_600_000
SEVERE_COSINE: Final = 0.82
SCALE: Final = 10_000
"""Projections are kept in ten-thousandths, which take three bytes."""


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


@dataclass(frozen=True, slots=True)
class CentroidWatch:
    """`detector` is whose share of the false-alarm budget is spent. A reading's `after` is the cosine of the
    recent centroid to that of before, `before` what is expected of it when nothing has changed.
    """

    detector: str

    def observe(
        self, series: CentroidSeries, sums: EmbeddingSums, at_ms: float, *, among: int = 1
    ) -> Raised | None:
        """Take embeddings in; once there is a block, test it."""
        waiting = series.waiting
        if not waiting.count:
            series.waiting_ms = at_ms
        waiting.merge(sums)
        if waiting.count < BLOCK:
            return None
        series.waiting, at_ms = EmbeddingSums(), series.waiting_ms
        weight = waiting.count / BLOCK
        means = np.array(waiting.projections_micro) / (MICRO * waiting.count)
        _learn_variance(series, means, weight)
        _place(series, waiting, weight)

        def gain(_one: float, _other: float) -> float:
            shift = np.array(series.shift)
            known = np.array(onsets.known(series.history)[1 : 1 + PROJECTIONS])
            before = known / (SCALE * onsets.known(series.history)[0])
            along = float((means - before) @ shift / (shift @ shift))
            variance = float(np.mean(series.variances)) / float(shift @ shift)
            return weight * (0.25 - along) / (2.0 * variance)

        def severe(reading: Reading) -> bool:
            return reading.after < SEVERE_COSINE and at_ms - reading.began >= SEVERE_MS

        watch: Watch[CentroidSeries] = Watch(self.detector, severe, seasonal=False)
        return watch.observe(
            series,
            count=waiting.count,
            total=0.0,
            at_ms=at_ms,
            reading=lambda: _read(series, means, weight, int(at_ms)),
            restart=lambda began: onsets.restart(series.history, SPANS, began),
            gain=gain,
            among=among,
        )

    def standing(self, series: CentroidSeries, metric: str) -> Standing:
        """How the series stands: not told before the test's own minimum of evidence."""
        return standing_of(series, metric, series.observations >= 2 * MIN_REFERENCE * BLOCK, cosine(series))


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
    return 1.0 - min(1.0, series.spread * _alikeness(series) / (2 * embeddings * length)) if length else 1.0


def _learn_variance(series: CentroidSeries, means: Floats, weight: float) -> None:
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


def _alikeness(series: CentroidSeries) -> float:
    """As many blocks are worth one."""
    found = [sorted(run.apart)[len(run.apart) // 2] for run in series.runs if len(run.apart) >= ENOUGH]
    return max([1.0, *found] if found else [PRESUMED])


def _place(series: CentroidSeries, block: EmbeddingSums, weight: float) -> None:
    """Learn where the recent centroid lies and, unless under alarm, that of before."""
    centroid = block.centroid()
    recent = np.array(series.recent) if series.recent else centroid
    series.recent = (recent + (centroid - recent) * min(1.0, weight / RECENT)).round(5).tolist()
    if series.severity:
        return
    series.blocks += weight
    known = np.array(series.reference) if series.reference else centroid
    share = weight / min(series.blocks, SPANS.memory)
    series.reference = (known + (centroid - known) * share).round(6).tolist()
    series.spread += (block.spread() - series.spread) * share


def _read(series: CentroidSeries, means: Floats, weight: float, at: int) -> Reading | None:
    row = [weight, *np.rint(SCALE * weight * means).astype(int).tolist()]
    onsets.take(series.history, SPANS, at, row)
    if series.differences < MIN_REFERENCE:
        return None
    alike = _alikeness(series)
    variances = np.maximum(series.variances, 1e-12)

    def log_e(since: Floats, before: Floats) -> Floats:
        apart = (
            since[:, 1 : 1 + PROJECTIONS] / since[:, :1] - before[:, 1 : 1 + PROJECTIONS] / before[:, :1]
        ) / SCALE
        error = alike * (1.0 / since[:, :1] + 1.0 / before[:, :1])
        wide = error[..., None] / (error[..., None] + SHIFTS**2)
        squares = (apart**2 / variances / error)[..., None]
        degrees = 2.0 / 3.0 * series.differences
        each = 0.5 * np.log(wide) + (degrees + 1.0) / 2.0 * (
            np.log1p(squares / degrees) - np.log1p(squares * wide / degrees)
        )
        return log_sum_exp(each.reshape(len(since), -1)) - log(PROJECTIONS * len(SHIFTS))

    found = weigh(series.history, MIN_REFERENCE, log_e)
    if found is None:
        return None
    since, before = (sums[1 : 1 + PROJECTIONS] / (SCALE * sums[0]) for sums in (found.since, found.before))
    shift = since - before
    # Signs are scaled so that a projection has the variance of a component: its square sums to the whole's.
    size = float(shift @ shift) * len(series.reference) / PROJECTIONS
    still = float((project(np.array(series.recent)) - before) @ shift) / float(shift @ shift)
    if size < SMALLEST**2 * series.spread or still < 0.5 or at - found.began < LASTING_MS:
        return None
    series.shift = shift.round(6).tolist()
    length = found.run_length(1.0) * BLOCK
    count = round(float(found.since[0]) * BLOCK)
    return Reading(length, found.began, expected_cosine(series), cosine(series), count)
