"""Half-Space Trees: how much is usually going on where an observation lies (Tan, Ting and Liu, "Fast anomaly
detection for streaming data", IJCAI 2011).

The trees are river's, of one seed, laid out flat; only how many observations of the last window, and of the
one that is not over, came through each node is kept, a byte a node. Scores are those of river's
`HalfSpaceTrees` (a test holds them to it). Observations are to lie between 0 and 1.

>>> import numpy as np
>>> random, masses = np.random.default_rng(1), Masses()
>>> for value in random.normal(0.5, 0.05, (300, FEATURES)):
...     learn(masses, value)
>>> usual, odd = np.full(FEATURES, 0.5), np.full(FEATURES, 0.95)
>>> score(masses, usual) < 0.8 < 0.95 < score(masses, odd)
True
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from river.anomaly import HalfSpaceTrees

FEATURES: Final = 8
TREES: Final = 16
HEIGHT: Final = 5
WINDOW: Final = 128
SEED: Final = 20_261_121
NODES: Final = 2 ** (HEIGHT + 1) - 1
SMALL: Final = 0.1 * WINDOW
"""river looks no deeper below a node with so few."""
MOST: Final = TREES * WINDOW * NODES

Floats = NDArray[np.float64]
_TREES: Final = np.arange(TREES)


class Masses(msgspec.Struct, array_like=True):
    """By tree and node, in the order of a heap: what came through in the last window, and in this one."""

    reference: bytes = b""
    latest: bytes = b""
    learned: int = 0

    @property
    def is_ready(self) -> bool:
        """Whether there has been a whole window."""
        return bool(self.reference)


class Cuts(NamedTuple):
    """What inner nodes divide by: a feature and a value, shape (trees, inner nodes)."""

    features: NDArray[np.int64]
    values: Floats


def learn(masses: Masses, observation: Floats) -> None:
    """Count one observation."""
    latest = _array(masses.latest)
    latest[_TREES[:, None], _paths(observation)] += 1
    masses.latest = latest.tobytes()
    masses.learned += 1
    if masses.learned == WINDOW:
        masses.reference, masses.latest, masses.learned = masses.latest, b"", 0


def score(masses: Masses, observation: Floats) -> float:
    """How unusual it is, between 0 and 1; 0 before there was a whole window."""
    if not masses.is_ready:
        return 0.0
    through = _array(masses.reference)[_TREES[:, None], _paths(observation)].astype(float)
    weighed = through * 2.0 ** np.arange(HEIGHT + 1)
    # The first node with few in it is the last that counts.
    few = np.cumsum(through < SMALL, axis=1)
    counted = (few == 0) | ((few == 1) & (through < SMALL))
    return 1.0 - float((weighed * counted).sum()) / MOST


def _array(masses: bytes) -> NDArray[np.uint8]:
    if not masses:
        return np.zeros((TREES, NODES), dtype=np.uint8)
    return np.frombuffer(masses, dtype=np.uint8).reshape(TREES, NODES).copy()


def _paths(observation: Floats) -> NDArray[np.int64]:
    """The nodes that an observation comes through, shape (trees, height + 1)."""
    cuts = _cuts()
    place = np.zeros(TREES, dtype=np.int64)
    path = [place]
    for _ in range(HEIGHT):
        right = observation[cuts.features[_TREES, place]] >= cuts.values[_TREES, place]
        place = 2 * place + 1 + right
        path.append(place)
    return np.stack(path, axis=1)


@lru_cache(maxsize=1)
def river_trees() -> Any:
    """river's, with nothing learned but one observation, which is what makes it grow them."""
    model = HalfSpaceTrees(n_trees=TREES, height=HEIGHT, window_size=WINDOW, seed=SEED)
    model.learn_one(dict.fromkeys(range(FEATURES), 0.5))
    return model


@lru_cache(maxsize=1)
def _cuts() -> Cuts:
    inner = 2**HEIGHT - 1
    cuts = Cuts(np.zeros((TREES, inner), dtype=np.int64), np.zeros((TREES, inner)))
    for number, root in enumerate(river_trees().trees):
        level = [root]
        for place in range(inner):
            node = level[place]
            cuts.features[number, place], cuts.values[number, place] = node.feature, node.threshold
            level += node.children
    return cuts
