"""The changes whose delay is measured: laws before and after, and the optimal log likelihood ratio."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, ndtr

Floats = NDArray[np.float64]
Kind = Literal["rate", "mean", "distribution"]

EDGES = np.array(
    [-2.5, -2, -1.6, -1.3, -1, -0.8, -0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6, 0.8, 1, 1.3, 1.6, 2, 2.5]
)
"""Of the 20 bins of a distribution; the optimal test sees the bins too."""
SHAPE = (8.0, 2.0)
"""Of the beta law that stands for skewed scores: skewness -0.8; a shift adds to it."""
_MEAN = SHAPE[0] / sum(SHAPE)
_SD = (_MEAN * (1 - _MEAN) / (sum(SHAPE) + 1)) ** 0.5


@dataclass(frozen=True, slots=True)
class Law:
    """`draw(random, shape)`; runs of one name have one false-alarm run length."""

    name: str
    draw: Callable[[np.random.Generator, tuple[int, ...]], Floats]


@dataclass(frozen=True, slots=True)
class Change:
    """`gain` is the log likelihood ratio of after to before, of each value; `size` is for the figure."""

    kind: Kind
    name: str
    size: float
    before: Law
    after: Law
    gain: Callable[[Floats], Floats]

    @property
    def rises(self) -> bool:
        """Whether the rate or mean rises."""
        return self.size > 0

    def information(self) -> float:
        """The expected gain of a value after the change, in nats (Kullback-Leibler), simulated."""
        return float(self.gain(self.after.draw(np.random.default_rng(1), (200_000,))).mean())


def _rate(before: float, after: float) -> Change:
    hit, miss = np.log(after / before), np.log((1 - after) / (1 - before))
    return Change(
        "rate",
        f"{before:.0%} to {after:.0%}",
        after - before,
        _bernoulli(before),
        _bernoulli(after),
        lambda values: np.asarray(np.where(values > 0, hit, miss)),
    )


def _bernoulli(rate: float) -> Law:
    return Law(f"rate {rate:.0%}", lambda random, shape: (random.random(shape) < rate).astype(float))


def _normal(mean: float = 0.0, sd: float = 1.0) -> Law:
    return Law(f"normal {mean:g} {sd:g}", lambda random, shape: random.normal(mean, sd, shape))


def _shift(size: float) -> Change:
    return Change(
        "mean",
        f"{size:g} sd",
        size,
        _normal(),
        _normal(size),
        lambda values: size * (values - size / 2),
    )


def _skewed(shape: tuple[float, float] = SHAPE) -> Law:
    return Law(f"beta{shape}", lambda random, size: (random.beta(*shape, size) - _MEAN) / _SD)


def _skewed_fall(size: float) -> Change:
    """Scores between 0 and 1 whose mean falls by so many standard deviations, their concentration kept."""
    mean = _MEAN - size * _SD
    shape = (sum(SHAPE) * mean, sum(SHAPE) * (1 - mean))

    def gain(values: Floats) -> Floats:
        scores = np.clip(values * _SD + _MEAN, 1e-12, 1 - 1e-12)
        return _log_beta(scores, shape) - _log_beta(scores, SHAPE)

    return Change("mean", f"skewed, -{size:g} sd", -size, _skewed(), _skewed(shape), gain)


def _log_beta(scores: Floats, shape: tuple[float, float]) -> Floats:
    one, other = shape
    return np.asarray((one - 1) * np.log(scores) + (other - 1) * np.log1p(-scores) - betaln(one, other))


def _binned(name: str, size: float, after: Law, cdf: Callable[[Floats], Floats]) -> Change:
    cells = np.concatenate([[-np.inf], EDGES, [np.inf]])
    ratios = np.log(np.diff(cdf(cells)) / np.diff(ndtr(cells)))
    return Change(
        "distribution", name, size, _normal(), after, lambda values: ratios[np.searchsorted(EDGES, values)]
    )


def _moved(mean: float = 0.0, sd: float = 1.0) -> Change:
    name = f"shift {mean:g} sd" if sd == 1 else f"spread times {sd:g}"
    return _binned(name, mean or np.log(sd), _normal(mean, sd), lambda cells: ndtr((cells - mean) / sd))


def _second_mode(share: float, place: float) -> Change:
    def draw(random: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        return np.where(
            random.random(shape) < share, random.normal(place, 0.3, shape), random.normal(size=shape)
        )

    return _binned(
        f"{share:.0%} at {place:g} sd",
        share,
        Law(f"second mode {share} {place}", draw),
        lambda cells: (1 - share) * ndtr(cells) + share * ndtr((cells - place) / 0.3),
    )


CHANGES: tuple[Change, ...] = (
    *(
        _rate(*each)
        for each in ((0.02, 0.03), (0.02, 0.04), (0.02, 0.08), (0.02, 0.2), (0.1, 0.2), (0.9, 0.8))
    ),
    *(_shift(size) for size in (0.25, 0.5, 1.0, 2.0)),
    *(_skewed_fall(size) for size in (0.5, 1.0)),
    *(_moved(mean) for mean in (0.5, 1.0)),
    *(_moved(sd=sd) for sd in (1.5, 2.0, 0.6)),
    *(_second_mode(*each) for each in ((0.1, 3.0), (0.2, 3.0), (0.2, 2.0))),
)
