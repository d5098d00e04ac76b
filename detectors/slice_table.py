"""Which slices of an agent's traffic are followed: singles and pairs of the values of its dimensions.

A dimension with one value only, or with more than `MAX_VALUES`, has no slices; versions of agent, prompt and
model are compared elsewhere (`version_regression`). At most `MAX_SLICES` are followed, the most frequent by
the space-saving rule (Metwally, Agrawal and El Abbadi, 2005): a slice that finds no place takes that of the
one seen least and is credited with what that had been seen, so what makes up more than 1/48 of all is kept.

>>> slices = Slices()
>>> slices.rows_of("language=en;tier=pro", 10.0)
[]
>>> slices.rows_of("language=de;tier=free", 10.0)
[0, 1, 2]
>>> list(slices.rows)
['language=de', 'tier=free', 'language=de;tier=free']
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.slices import OTHER, dimensions

Floats = NDArray[np.float64]

MAX_SLICES: Final = 48
MAX_VALUES: Final = 12
MAX_TAKEN: Final = 4
"""Places taken over in one frame."""
VERSIONS: Final = frozenset({"version", "prompt", "model"})
HALVED: Final = 50_000.0
"""What has been seen counts half after so many observations: what was frequent once goes."""


class Slices(msgspec.Struct):
    """`values` by dimension, none where there were too many; `rows` by slice; `seen` by row; `held` rows that
    are not given up. `table` has numbers of single precision, by row, `WIDTH` of them.
    """

    values: dict[str, list[str]] = {}
    rows: dict[str, int] = {}
    seen: list[float] = []
    held: list[int] = []
    wanted: dict[str, float] = {}
    table: bytes = b""

    def rows_of(self, key: str, count: float) -> list[int]:
        """The rows of the slices that so many observations under a combination belong to."""
        if key == OTHER:
            return []
        for name, value in dimensions(key).items():
            self._note(name, value)
        names = tuple(name for name in dimensions(key) if len(self.values.get(name, ())) > 1)
        found = []
        for slice_name in slices_of(key, names):
            row = self.rows.get(slice_name, -1)
            if row < 0 and len(self.rows) < MAX_SLICES:
                row = self.rows[slice_name] = len(self.seen)
                self.seen.append(0.0)
            if row < 0:
                self.wanted[slice_name] = self.wanted.get(slice_name, 0.0) + count
            else:
                self.seen[row] += count
                found.append(row)
        return found

    def settle(self) -> list[int]:
        """After a frame: give those that found no place that of the slices seen least; the rows taken."""
        taken = []
        for name in sorted(self.wanted, key=lambda each: (-self.wanted[each], each))[:MAX_TAKEN]:
            free = [each for each, row in self.rows.items() if row not in self.held and row not in taken]
            least = min(free, key=lambda each: (self.seen[self.rows[each]], each))
            row = self.rows.pop(least)
            self.rows[name] = row
            self.seen[row] += self.wanted[name]
            taken.append(row)
        self.wanted = {}
        if sum(self.seen) > HALVED * max(1, len(self.values)):
            self.seen = [each / 2 for each in self.seen]
        return taken

    def load(self, width: int) -> Floats:
        """The table, shape (slices, width)."""
        table = np.zeros((len(self.seen), width))
        flat = np.frombuffer(self.table, dtype=np.float32)
        table[: len(flat) // width] = flat.reshape(-1, width)
        return table

    def store(self, table: Floats) -> None:
        """Keep a changed table."""
        self.table = table.astype(np.float32).tobytes()

    def _note(self, name: str, value: str) -> None:
        values = self.values.get(name)
        if values is None:
            if name not in VERSIONS:
                self.values[name] = [value]
        elif values and value not in values:
            if len(values) < MAX_VALUES:
                values.append(value)
                return
            self.values[name] = []
            for slice_name, row in self.rows.items():
                if name in dimensions(slice_name):
                    self.seen[row] = 0.0


@lru_cache(maxsize=4_096)
def slices_of(key: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The singles and pairs of these dimensions that a combination belongs to."""
    singles = [part for part in key.split(";") if part.partition("=")[0] in names]
    return (*singles, *(";".join(pair) for pair in combinations(singles, 2)))


@lru_cache(maxsize=4_096)
def is_within(key: str, slice_name: str) -> bool:
    """Whether a combination belongs to a slice."""
    return set(slice_name.split(";")) <= set(key.split(";"))
