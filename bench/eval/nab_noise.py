"""How often the metric detector alarms where nothing happens: made-up series, by level."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.eval.nab import Floats
from detectors.sequential.metric import MetricAnomaly

LEVELS = (7.8, 9.0, 10.0, 12.0, 15.0)
SERIES = 2
STEP_MS = 300_000
SEED = 4

Made = Callable[[np.random.Generator, int], Floats]


def _autoregressive(random: np.random.Generator, rows: int) -> Floats:
    found, last = np.empty(rows), 0.0
    for row, shock in enumerate(random.normal(size=rows)):
        last = 0.9 * last + float(shock)
        found[row] = last
    return found


def _daily(random: np.random.Generator, rows: int) -> Floats:
    return np.asarray(3.0 * np.sin(2.0 * np.pi * np.arange(rows) / 288.0) + random.normal(size=rows))


NOISE: dict[str, Made] = {
    "normal": lambda random, rows: random.normal(size=rows),
    "gamma, shape 9": lambda random, rows: random.gamma(9.0, size=rows),
    "Poisson, mean 3": lambda random, rows: random.poisson(3.0, size=rows).astype(float),
    "autoregressive, 0.9": _autoregressive,
    "daily wave with noise": _daily,
    "log-normal": lambda random, rows: random.lognormal(size=rows),
    "Student's t, 3 degrees": lambda random, rows: random.standard_t(3, size=rows),
}


def false_alarms(made: Made, rows: int) -> tuple[int, dict[float, int]]:
    """The rows that were judged, and the alarms at every level, in all series of a kind and so many rows."""
    judged, alarms = 0, dict.fromkeys(LEVELS, 0)
    for number in range(SERIES):
        values = made(np.random.default_rng([SEED, number]), rows).tolist()
        for level in LEVELS:
            test = MetricAnomaly(level=level)
            state = test.begin()
            scores = [test.update(state, STEP_MS * row, value) for row, value in enumerate(values)]
            alarms[level] += sum(score is not None and score.alarm for score in scores)
        judged += sum(score is not None for score in scores)
    return judged, alarms
