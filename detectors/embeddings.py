"""Sums over embeddings from which centroids, spreads and tests of drift can be had, and that merge exactly.

Kept are the sum of each component, the sum of squared norms, and sums and squares of 16 seeded projections on
random signs (Achlioptas, "Database-friendly random projections", 2003): a shift of the centroid shows in
them, and their variances are known without a covariance matrix. All in whole micro-units, components cut at
100, so that sums are exact whatever the order.

>>> sums = EmbeddingSums()
>>> sums.add([1.0, 0.0]); sums.add([0.0, 1.0])
>>> sums.centroid().tolist(), sums.count
([0.5, 0.5], 2)
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

PROJECTIONS: Final = 16
MAX_COMPONENT: Final = 100.0
MICRO: Final = 1e6
_SEED: Final = 20_261_121


class EmbeddingSums(msgspec.Struct, omit_defaults=True):
    """Fields as in `schemas.window.EmbeddingSums`; all embeddings in it have the same length."""

    count: int = 0
    sums_micro: list[int] = []
    squared_norms_micro: int = 0
    projections_micro: list[int] = []
    squared_projections_micro: list[int] = []

    def add(self, embedding: list[float]) -> None:
        """Count one embedding."""
        vector = np.clip(np.asarray(embedding), -MAX_COMPONENT, MAX_COMPONENT)
        projected = project(vector)
        self.merge(
            EmbeddingSums(
                1,
                _micro(vector),
                int(float(vector @ vector) * MICRO + 0.5),
                _micro(projected),
                _micro(projected * projected),
            )
        )

    def merge(self, other: EmbeddingSums) -> None:
        """Add `other`, whose embeddings must have the same length."""
        self.count += other.count
        self.squared_norms_micro += other.squared_norms_micro
        self.sums_micro = _added(self.sums_micro, other.sums_micro)
        self.projections_micro = _added(self.projections_micro, other.projections_micro)
        self.squared_projections_micro = _added(
            self.squared_projections_micro, other.squared_projections_micro
        )

    def centroid(self) -> NDArray[np.float64]:
        """The mean embedding; there must be one."""
        return np.asarray(self.sums_micro, dtype=float) / (MICRO * self.count)

    def spread(self) -> float:
        """The mean squared distance from the centroid."""
        centre = self.centroid()
        return max(0.0, self.squared_norms_micro / (MICRO * self.count) - float(centre @ centre))


def project(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """The projections of a vector, shape (PROJECTIONS,)."""
    projected: NDArray[np.float64] = _signs(len(vector)) @ vector
    return projected


@lru_cache(maxsize=64)
def _signs(length: int) -> NDArray[np.float64]:
    random = np.random.default_rng((_SEED, length))
    signs: Any = random.choice((-1.0, 1.0), size=(PROJECTIONS, length))
    return np.asarray(signs / np.sqrt(length))


def _micro(values: NDArray[np.float64]) -> list[int]:
    whole: list[int] = np.rint(values * MICRO).astype(np.int64).tolist()
    return whole


def _added(mine: list[int], others: list[int]) -> list[int]:
    if not mine:
        return list(others)
    return [left + right for left, right in zip(mine, others, strict=True)] if others else mine
