"""The detectors that run on the Numenta Anomaly Benchmark: ours, river's and simple ones. Each sees a series
once, row by row, with one set of parameters for all, and gives each row a score from 0 up.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import erfc, log, sqrt
from typing import Protocol

import msgspec
import numpy as np
from river import anomaly, drift, preprocessing

from bench.eval.nab import Floats, Series
from detectors.sequential.metric import MetricAnomaly, MetricState

Detector = Callable[[Series], Floats]

GAUSSIAN_WINDOW = 6_400
GAUSSIAN_STEP = 100
LEARNING = 150
SMALLEST = 1e-300


@dataclass(frozen=True, slots=True)
class Metric:
    """The engine's detector: its news, or with `episodes` off the surprise of every row."""

    test: MetricAnomaly = field(default_factory=MetricAnomaly)
    episodes: bool = True

    def __call__(self, series: Series) -> Floats:
        """Scores in nats, shape (rows,); 0 where nothing can be told yet."""
        state = self.test.begin()
        found = np.zeros(len(series.values))
        for row, (time_ms, value) in enumerate(zip(series.times_ms, series.values, strict=True)):
            score = self.test.update(state, time_ms, value)
            if score is not None:
                found[row] = score.news if self.episodes else score.nats
        return found

    def state_bytes(self, series: Series) -> int:
        """The size of the encoded state after a series; its decoding is checked."""
        state = self.test.begin()
        for time_ms, value in zip(series.times_ms, series.values, strict=True):
            self.test.update(state, time_ms, value)
        encoded = msgspec.msgpack.encode(state)
        if msgspec.msgpack.decode(encoded, type=MetricState) != state:
            raise ValueError("the state does not survive being encoded")
        return len(encoded)


def chance(series: Series) -> Floats:
    """Uniform scores, as the benchmark's own detector of this name."""
    draw = random.Random(series.name)
    return np.array([draw.random() for _ in series.values])


def windowed_gaussian(series: Series) -> Floats:
    """The chance of a value less extreme under a normal distribution of the last 6,400 rows, fitted every
    100: the benchmark's own baseline.
    """
    return 1.0 - np.exp(-_gaussian_nats(series))


def gaussian_episodes(series: Series) -> Floats:
    """The same in nats, told of as the engine's detector tells: what of its score is due to that."""
    test = MetricAnomaly()
    state = test.begin()
    return np.array([test.news(state, nats) for nats in _gaussian_nats(series).tolist()])


def _gaussian_nats(series: Series) -> Floats:
    window: deque[float] = deque(maxlen=GAUSSIAN_WINDOW)
    found = np.zeros(len(series.values))
    mean, deviation = 0.0, 0.0
    for row, value in enumerate(series.values):
        if deviation > 0.0:
            found[row] = -log(erfc(abs(value - mean) / deviation / sqrt(2.0)) + SMALLEST)
        window.append(value)
        if row % GAUSSIAN_STEP == 0:
            recent = np.array(window)
            mean, deviation = float(recent.mean()), float(recent.std())
    return found


def half_space_trees(series: Series) -> Floats:
    """river's HalfSpaceTrees on the value and its change, scaled to what has been seen so far."""
    scale = preprocessing.MinMaxScaler()
    trees = anomaly.HalfSpaceTrees(n_trees=10, height=8, window_size=250, seed=7)
    found = np.zeros(len(series.values))
    before = series.values[0]
    for row, value in enumerate(series.values):
        features = {"value": value, "change": value - before}
        before = value
        scale.learn_one(features)
        scaled = scale.transform_one(features)
        found[row] = trees.score_one(scaled)
        trees.learn_one(scaled)
    return found


def adwin(series: Series) -> Floats:
    """river's ADWIN with its own parameters: 1 where it finds a change, else 0."""
    return _changes(drift.ADWIN(), series)


def page_hinkley(series: Series) -> Floats:
    """river's PageHinkley with its own parameters: 1 where it finds a change, else 0. Its threshold is in the
    value's unit, so values are taken in deviations of the first 150 rows.
    """
    return _changes(drift.PageHinkley(), series)


class _DriftTest(Protocol):
    @property
    def drift_detected(self) -> bool: ...

    def update(self, x: float) -> object: ...


def _changes(test: _DriftTest, series: Series) -> Floats:
    first = np.array(series.values[:LEARNING])
    mean, deviation = float(first.mean()), float(first.std()) or 1.0
    found = np.zeros(len(series.values))
    for row, value in enumerate(series.values):
        test.update((value - mean) / deviation)
        found[row] = float(test.drift_detected)
    return found


RIVALS: dict[str, Detector] = {
    "river HalfSpaceTrees": half_space_trees,
    "river PageHinkley": page_hinkley,
    "river ADWIN": adwin,
    "windowed Gaussian": windowed_gaussian,
    "windowed Gaussian, with our episodes": gaussian_episodes,
    "random": chance,
}
