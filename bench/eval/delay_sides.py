"""The sides of the comparison: each turns a stream into alarm scores, one an observation; high alarms.

What an alarm costs is then a matter of the level, which is set for all by the same rule. ADWIN and HDDM have
no score: they run at several settings beside each other, and the score is the strictest setting that fired.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from river import drift
from river.drift import binary
from scipy import stats
from scipy.stats import contingency

from bench.eval.delay_changes import EDGES, Change, Floats
from detectors.sequential.distribution import DistributionChange
from detectors.sequential.mean import MeanChange
from detectors.sequential.rate import RateChange

BATCH = 10
FINE = tuple(np.round(np.arange(0.0, 12.5, 0.5), 1).tolist())
COARSE = (0.3, 1.0, 3.0, 6.0)
"""Minus the decimal logarithm of the confidence parameters tried."""
SMALLEST_P = 1e-300
BEYOND, BEYOND_P = 1e7, 12.0
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
        """It is so slow that its level is set on one in so many of the healthy runs."""

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


@dataclass(frozen=True, slots=True)
class Settings:
    """A river detector at several settings."""

    name: str
    make: Callable[[float], Any]
    default: float | None
    settings: tuple[float, ...]
    thrift: int = 1

    def scores(self, change: Change, stream: Floats, reference: int) -> Floats:
        values = stream if change.kind != "rate" or change.rises else 1.0 - stream
        result = np.zeros(len(stream))
        for strictness in self.settings:
            detector = self.make(10.0**-strictness)
            for at, value in enumerate(values.tolist()):
                detector.update(value)
                if detector.drift_detected:
                    result[at] = strictness
        return result[reference:]


@dataclass(frozen=True, slots=True)
class PageHinkley:
    """river's, with its allowance set to half the change that is looked for (0.5 sd or 1 %)."""

    name: str = "Page-Hinkley (river)"
    default: float | None = 50.0
    thrift: int = 1

    def scores(self, change: Change, stream: Floats, reference: int) -> Floats:
        mode = "both" if change.kind != "rate" else "up" if change.rises else "down"
        allowance = 0.25 if change.kind != "rate" else 0.01
        detector: Any = drift.PageHinkley(threshold=np.inf, delta=allowance, mode=mode, alpha=1.0)
        result = np.zeros(len(stream))
        for at, value in enumerate(stream.tolist()):
            detector.update(value)
            up = detector._sum_increase - detector._min_increase
            down = detector._max_decrease - detector._sum_decrease
            result[at] = {"up": up, "down": down, "both": max(up, down)}[mode]
        return result[reference:]


@dataclass(frozen=True, slots=True)
class Ddm:
    """river's: how many standard deviations the error rate is above its least."""

    name: str = "DDM (river)"
    default: float | None = 3.0
    thrift: int = 1

    def scores(self, change: Change, stream: Floats, reference: int) -> Floats:
        values = stream if change.rises else 1.0 - stream
        detector: Any = binary.DDM(warning_threshold=np.inf, drift_threshold=np.inf)
        result = np.zeros(len(stream))
        for at, value in enumerate(values.tolist()):
            detector.update(value)
            if detector._p.n > detector.warm_start and detector._s_min > 0:
                rate = detector._p.get()
                spread = np.sqrt(rate * (1.0 - rate) / detector._p.n)
                result[at] = (rate + spread - detector._p_min) / detector._s_min
        return result[reference:]


@dataclass(frozen=True, slots=True)
class Kswin:
    """river's windowed Kolmogorov-Smirnov test; the score is minus the decimal logarithm of its p value."""

    name: str = "KSWIN (river)"
    default: float | None = 2.3
    thrift: int = 4

    def scores(self, change: Change, stream: Floats, reference: int) -> Floats:
        first = max(0, reference - 100)
        detector: Any = drift.KSWIN(alpha=1e-300, seed=1)
        result = np.zeros(len(stream))
        for at in range(first, len(stream)):
            detector.update(float(stream[at]))
            if at - first + 1 >= detector.window_size:
                result[at] = -np.log10(max(detector.p_value, SMALLEST_P))
            if result[at] > BEYOND_P:
                break
        return result[reference:]


@dataclass(frozen=True, slots=True)
class Windows:
    """The newest window against the whole reference, whenever a window is full, as Evidently's reports do:
    Kolmogorov-Smirnov for values, chi-square for rates.
    """

    size: int = 100
    default: float | None = 1.3
    thrift: int = 1

    @property
    def name(self) -> str:
        return f"windows of {self.size} (scipy)"

    def scores(self, change: Change, stream: Floats, reference: int) -> Floats:
        old, result = stream[:reference], np.zeros(len(stream) - reference)
        for end in range(self.size, len(result) + 1, self.size):
            new = stream[reference + end - self.size : reference + end]
            result[end - 1] = -np.log10(max(self._p_value(change, old, new), SMALLEST_P))
        return result

    def _p_value(self, change: Change, old: Floats, new: Floats) -> float:
        if change.kind != "rate":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", category=RuntimeWarning)
                return float(stats.ks_2samp(old, new, method="asymp").pvalue)
        table = [[each.sum(), len(each) - each.sum()] for each in (old, new)]
        if not np.sum(table, axis=0).all():
            return 1.0
        return float(contingency.chi2_contingency(table).pvalue)


def cusum(gains: Floats) -> Floats:
    """Page's optimal test, which knows both laws: scores, shape (runs, observations) as the gains."""
    result, total = np.empty_like(gains), np.zeros(len(gains))
    for at in range(gains.shape[1]):
        total = np.maximum(total, 0.0) + gains[:, at]
        result[:, at] = total
    return result


def _hddm(kind: type[Any]) -> Callable[[float], Any]:
    return lambda confidence: kind(drift_confidence=confidence, warning_confidence=confidence)


ADWIN = Settings("ADWIN (river)", lambda confidence: drift.ADWIN(delta=confidence), 2.5, FINE)
HDDM_A = Settings("HDDM_A (river)", _hddm(binary.HDDMA), 3.0, COARSE, thrift=4)
HDDM_W = Settings("HDDM_W (river)", _hddm(binary.HDDMW), 3.0, COARSE, thrift=4)
OURS = Ours()
SIDES: dict[str, tuple[Side, ...]] = {
    "rate": (OURS, ADWIN, PageHinkley(), Ddm(), HDDM_A, HDDM_W, Windows()),
    "mean": (OURS, ADWIN, PageHinkley(), Kswin(), Windows()),
    "distribution": (OURS, ADWIN, PageHinkley(), Kswin(), Windows()),
}
