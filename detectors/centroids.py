"""Watches where embeddings lie: the centroid of the latest beside that of those before.

Embeddings are taken in blocks of `BLOCK`. What is tested is the mean of each of 16 seeded projections
(`detectors.embeddings`) over blocks: for every possible onset and projection a t-test whose e-value mixes
over shifts that are normal around none (Wang and Ramdas, "Anytime-valid t-tests", 2024); the average of
e-values is one whatever depends on what, so the average over projections stays valid, and so does its
Shiryaev-Roberts sum over onsets (`detectors.sequential.onsets`).

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

import numpy as np

from detectors import centroid_series
from detectors.alarm import Raised, standing_of
from detectors.base import Standing
from detectors.centroid_series import BLOCK, REFERENCE_MEMORY, CentroidSeries
from detectors.embeddings import MICRO, PROJECTIONS, EmbeddingSums, project
from detectors.sequential import onsets
from detectors.sequential.evidence import Floats, log_sum_exp, weigh
from detectors.sequential.onsets import Reading, Spans
from detectors.watch import Watch

SPANS: Final = Spans(horizon=256, memory=REFERENCE_MEMORY, freeze=64, finest=1, resolution=4)
MIN_REFERENCE: Final = 12.0
"""Blocks before an onset, so many at least."""
SHIFTS: Final = np.array([0.5, 1.0, 2.0, 4.0])
"""Standard deviations of the shifts that are mixed, in those of a block."""
SMALLEST: Final = 0.4
"""Shifts of the centroid below this, in spreads of an embedding, are of no practical meaning."""
LASTING_MS: Final = 6 * 3_600_000
SEVERE_MS: Final = 24 * 3_600_000
SEVERE_COSINE: Final = 0.82
SCALE: Final = 10_000
"""Projections are kept in ten-thousandths, which take three bytes."""


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
        centroid_series.learn_variance(series, means, weight)
        centroid_series.place(series, waiting, weight)

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
        return standing_of(
            series, metric, series.observations >= 2 * MIN_REFERENCE * BLOCK, centroid_series.cosine(series)
        )


def _read(series: CentroidSeries, means: Floats, weight: float, at: int) -> Reading | None:
    row = [weight, *np.rint(SCALE * weight * means).astype(int).tolist()]
    onsets.take(series.history, SPANS, at, row)
    if series.differences < MIN_REFERENCE:
        return None
    alike = centroid_series.alikeness(series)
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
    return Reading(
        length, found.began, centroid_series.expected_cosine(series), centroid_series.cosine(series), count
    )
