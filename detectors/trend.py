"""A straight line through what came last, in a few numbers: for what grows from call to call."""

from __future__ import annotations

import msgspec

MEMORY = 0.9


class Line(msgspec.Struct, array_like=True):
    """Least squares of values on their number, in which a value counts `MEMORY` times the one after it: the
    sums of the fit, numbers counted back from the last value.

    >>> line = Line()
    >>> for value in (1.0, 2.0, 3.0):
    ...     line.add(value)
    >>> round(line.ahead(2), 6)
    9.0
    """

    count: int = 0
    n: float = 0.0
    x: float = 0.0
    xx: float = 0.0
    y: float = 0.0
    xy: float = 0.0

    def add(self, value: float) -> None:
        """One value more, at 0; those before move back by one and count a little less."""
        self.xy, self.xx = MEMORY * (self.xy - self.y), MEMORY * (self.xx - 2 * self.x + self.n)
        self.x, self.y, self.n = MEMORY * (self.x - self.n), MEMORY * self.y + value, MEMORY * self.n + 1.0
        self.count += 1

    def ahead(self, steps: float) -> float:
        """The sum of so many further values, on a line that does not fall."""
        spread = self.n * self.xx - self.x * self.x
        slope = (self.n * self.xy - self.x * self.y) / spread if spread > 0 else 0.0
        level = (self.y - slope * self.x) / self.n
        return max(0.0, level * steps + max(0.0, slope) * steps * (steps + 1) / 2)
