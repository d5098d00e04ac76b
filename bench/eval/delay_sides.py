"""The sides of the comparison: each turns a stream into alarm scores, one an observation; high alarms.

What an alarm costs is then a matter of the level, which is set for all by the same rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bench.eval.delay_changes import EDGES, Change, Floats
from bench.eval.delay_rivals import ADWIN, HDDM_A, HDDM_W, Ddm, Kswin, PageHinkley
from bench.eval.delay_windows import Windows
from detectors.sequential.distribution import DistributionChange
from detectors.sequential.mean import MeanChange
from detectors.sequential.rate import RateChange

BATCH = 10
BEYOND = 1e5
"""No level is set so high: a stream need not be scored further."""


class Side(Protocol):
    """One method."""

    @property
    def name(self) -> str:
        """As in the tables."""

    @property
    def default(self) -> float | None:
        """The score at which it alarms as it comes; None: it has no default."""

    @property
    def thrift(self) -> int:
        """It is so slow that only one in so many of the streams is run."""

    def scores(self, change: Change, stream: Floats, reference: int) -> Floats:
        """Of each observation after the first `reference`, which are known to be healthy."""


@dataclass(frozen=True, slots=True)
class Ours:
    """The engine's tests. What is learned from comes in batches; what is scored, one by one."""

    name: str = "Watchkeeper"
    default: float | None = None
    thrift: int = 1
    floor: float = 2_000.0

    def scores(self, change: Change, stream: Floats, reference: int) -> Floats:
        test = self._test(change)
        state, result = test.State(), np.zeros(len(stream) - reference)
        for at in range(0, reference, BATCH):
            test.update(state, *_sums(change, stream[at : min(at + BATCH, reference)]), at)
        for at in range(reference, len(stream)):
            reading = test.update(state, *_sums(change, stream[at : at + 1]), at)
            result[at - reference] = reading.run_length if reading is not None else 0.0
            if result[at - reference] > BEYOND:
                break
        return result

    def _test(self, change: Change) -> Any:
        if change.kind == "rate":
            return RateChange("rise" if change.rises else "fall", floor=self.floor)
        if change.kind == "mean":
            return MeanChange("both", floor=self.floor)
        return DistributionChange(len(EDGES) + 1, floor=self.floor)


def _sums(change: Change, values: Floats) -> tuple[Any, ...]:
    if change.kind == "rate":
        return len(values), float(values.sum())
    if change.kind == "mean":
        return len(values), float(values.sum()), float((values * values).sum())
    return (np.bincount(np.searchsorted(EDGES, values), minlength=len(EDGES) + 1).tolist(),)


def cusum(gains: Floats) -> Floats:
    """Page's optimal test, which knows both laws: scores, shape (runs, observations) as the gains."""
    result, total = np.empty_like(gains), np.zeros(len(gains))
    for at in range(gains.shape[1]):
        total = np.maximum(total, 0.0) + gains[:, at]
        result[:, at] = total
    return result


OURS = Ours()
SIDES: dict[str, tuple[Side, ...]] = {
    "rate": (OURS, ADWIN, PageHinkley(), Ddm(), HDDM_A, HDDM_W, Windows()),
    "mean": (OURS, ADWIN, PageHinkley(), Kswin(), Windows()),
    "distribution": (OURS, ADWIN, PageHinkley(), Kswin(), Windows()),
}
