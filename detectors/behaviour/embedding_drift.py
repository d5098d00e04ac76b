"""embedding_drift: the centroid of what an agent says moves away from where it was.

Statistic: the average over 16 projections of t-test e-values, of means of blocks of 32 embeddings
(`detectors.centroids`), at the levels of `detectors.false_alarms`; told is the cosine of the recent centroid
to the one before, beside what chance makes of it at that sample size; it has to have lasted for hours, since
an hour in which all ask about one thing moves it, too. Unit: cosine. Source: R 37, of which
0.82 is what critical means here; whether there is a change at all is for the test to say, since where every
embedding shares most of its direction a large drift has a cosine of 0.95. Embeddings are compared within one
model and length: with another model a reference begins anew, and nothing is said of the change.

>>> import numpy as np
>>> from detectors.embeddings import EmbeddingSums
>>> from detectors.testing import run_windows, window
>>> random = np.random.default_rng(7)
>>> def said(number, label="m/8"):
...     sums = EmbeddingSums()
...     for each in random.normal([0.3] * 8 if number < 100 else [0.3] * 4 + [-0.3] * 4, 0.3, (16, 8)):
...         sums.add(each.tolist())
...     return window(360 * number, embeddings={label: sums})
>>> found = run_windows(EmbeddingDrift(), [said(number) for number in range(140)])
>>> [(one.severity, round(one.observed, 2)) for one in found]
[('warning', 0.5), ('critical', 0.1)]
>>> run_windows(EmbeddingDrift(), [said(at, "m/8" if at < 100 else "new/8") for at in range(120)])
[]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Final

import msgspec

from detectors.alarm import detection_of, worst
from detectors.base import NOTHING, Detection, Window, WindowContext
from detectors.centroid_series import CentroidSeries
from detectors.centroids import CentroidWatch

MAX_LABELS: Final = 2


@dataclass(frozen=True, slots=True)
class EmbeddingDrift:
    """`watch` has the test and when a drift is critical."""

    watch: CentroidWatch = field(default_factory=lambda: CentroidWatch("embedding_drift"))

    name: ClassVar[str] = "embedding_drift"
    version: ClassVar[int] = 1

    class State(msgspec.Struct):
        """By model and length, those that were seen latest, the latest last."""

        models: dict[str, CentroidSeries] = {}

    def update(self, state: State, window: Window, context: WindowContext) -> Iterable[Detection]:
        found: list[Detection] = []
        for label, sums in sorted(context.activity.embeddings.items()):
            series = state.models.pop(label, None) or CentroidSeries()
            while len(state.models) >= MAX_LABELS:
                del state.models[next(iter(state.models))]
            state.models[label] = series
            raised = self.watch.observe(series, sums, window.start_ms, among=len(state.models))
            if raised is not None:
                reading = raised.reading
                summary = (
                    f"What {window.agent} says with {label.rpartition('/')[0]} has drifted: the recent "
                    f"centroid's cosine to the one before is {reading.after:.2f}, where chance lets expect "
                    f"{reading.before:.3f}; it began about {reading.observations:,} answers ago."
                )
                found.append(detection_of(raised, self, context, metric="cosine", summary=summary))
        if state.models:
            context.standings[self.name] = worst(
                self.watch.standing(series, "cosine") for _, series in sorted(state.models.items())
            )
        return found or NOTHING
