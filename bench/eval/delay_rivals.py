"""The other sides of the comparison: river's detectors, as `delay_sides.Side`.

ADWIN and HDDM have no score: they run at several settings beside each other, and the score is the strictest
setting that fired.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from river import drift
from river.drift import binary

from bench.eval.delay_changes import Change, Floats

FINE = tuple(np.round(np.arange(0.0, 12.5, 0.5), 1).tolist())
COARSE = (0.3, 1.0, 3.0, 6.0)
"""Minus the decimal logarithm of the confidence parameters tried."""
SMALLEST_P = 1e-300
BEYOND_P = 12.0
"""No level is set so high: a stream need not be scored further."""


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

        def score() -> float:
            up = detector._sum_increase - detector._min_increase
            down = detector._max_decrease - detector._sum_decrease
            return float({"up": up, "down": down, "both": max(up, down)}[mode])

        return _followed(detector, stream, score)[reference:]


@dataclass(frozen=True, slots=True)
class Ddm:
    """river's: how many standard deviations the error rate is above its least."""

    name: str = "DDM (river)"
    default: float | None = 3.0
    thrift: int = 1

    def scores(self, change: Change, stream: Floats, reference: int) -> Floats:
        detector: Any = binary.DDM(warning_threshold=np.inf, drift_threshold=np.inf)

        def score() -> float:
            if detector._p.n <= detector.warm_start or detector._s_min <= 0:
                return 0.0
            rate = detector._p.get()
            spread = np.sqrt(rate * (1.0 - rate) / detector._p.n)
            return float((rate + spread - detector._p_min) / detector._s_min)

        return _followed(detector, stream if change.rises else 1.0 - stream, score)[reference:]


@dataclass(frozen=True, slots=True)
class Kswin:
    """river's windowed Kolmogorov-Smirnov test; the score is minus the decimal logarithm of its p value."""

    name: str = "KSWIN (river)"
    default: float | None = 2.3
    thrift: int = 8

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


def _followed(detector: Any, values: Floats, score: Callable[[], float]) -> Floats:
    """The score after each value."""
    result = np.zeros(len(values))
    for at, value in enumerate(values.tolist()):
        detector.update(value)
        result[at] = score()
    return result


def _hddm(kind: type[Any]) -> Callable[[float], Any]:
    return lambda confidence: kind(drift_confidence=confidence, warning_confidence=confidence)


ADWIN = Settings("ADWIN (river)", lambda confidence: drift.ADWIN(delta=confidence), 2.5, FINE, thrift=2)
HDDM_A = Settings("HDDM_A (river)", _hddm(binary.HDDMA), 3.0, COARSE, thrift=8)
HDDM_W = Settings("HDDM_W (river)", _hddm(binary.HDDMW), 3.0, COARSE, thrift=8)
