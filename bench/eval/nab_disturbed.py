"""The benchmark's series, disturbed so that their labels stay right: a score that hangs on chance falls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.eval.nab import Floats, Series
from bench.eval.nab_rivals import Detector, Metric

NOISE = 0.02
Disturbance = Callable[[Series], Series]


@dataclass(frozen=True, slots=True)
class Noise:
    """Normal noise of 2 % of the interquartile range."""

    seed: int

    def __call__(self, series: Series) -> Series:
        """The series with noise."""
        values = np.array(series.values)
        low, high = np.percentile(values, (25, 75))
        random = np.random.default_rng([self.seed, len(values)])
        noisy = values + NOISE * (high - low) * random.normal(size=len(values))
        return Series(series.name, series.times_ms, tuple(noisy.tolist()), series.windows)


@dataclass(frozen=True, slots=True)
class Late:
    """The first rows were missed."""

    rows: int

    def __call__(self, series: Series) -> Series:
        """The series from a later row on."""
        windows = tuple((first - self.rows, last - self.rows) for first, last in series.windows)
        return Series(series.name, series.times_ms[self.rows :], series.values[self.rows :], windows)


def upside_down(series: Series) -> Series:
    """The series with every value negated."""
    return Series(series.name, series.times_ms, tuple(-value for value in series.values), series.windows)


def every_second(series: Series) -> Series:
    """Half as many rows, twice as far apart."""
    windows = tuple((first // 2, last // 2) for first, last in series.windows)
    return Series(series.name, series.times_ms[::2], series.values[::2], windows)


def square_root(series: Series) -> Series:
    """Values on another scale: the root of how far each is over the least."""
    values = np.array(series.values)
    return Series(
        series.name, series.times_ms, tuple(np.sqrt(values - values.min()).tolist()), series.windows
    )


DISTURBANCES: dict[str, Disturbance] = {
    **{f"noise of 2 % of the interquartile range, seed {seed}": Noise(seed) for seed in range(3)},
    **{f"the first {rows} rows missing": Late(rows) for rows in (20, 40, 60)},
    "values negated": upside_down,
    "every second row": every_second,
    "square root of the values": square_root,
}


@dataclass(frozen=True, slots=True)
class Disturbed:
    """The engine's detector on a series disturbed first."""

    name: str

    def __call__(self, series: Series) -> Floats:
        """Scores of the disturbed series, shape (its rows,)."""
        return Metric()(DISTURBANCES[self.name](series))


def disturbed() -> dict[str, Detector]:
    """A detector for every disturbance, by its name."""
    return {name: Disturbed(name) for name in DISTURBANCES}


def disturb(corpus: Sequence[Series], name: str) -> list[Series]:
    """The whole corpus, disturbed."""
    return [DISTURBANCES[name](series) for series in corpus]
