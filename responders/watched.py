"""A part of the engine under watch: when people must hear that it fails, and when it works again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal

Turn = Literal["fails", "works"]
FROZEN_S: Final = 5.0
"""Looks are a second apart, or a few on a machine with much to do."""


class Watched:
    """Tells each turn once. One that fails for less than ``patience_s`` has not failed. What passes between
    two looks that are far apart does not count: it is who looks that was frozen.

    >>> now = 0.0
    >>> part = Watched(4, lambda: now)
    >>> part.see(works=True), part.see(works=False)
    ('works', None)
    >>> now = 4.0
    >>> part.see(works=False), part.see(works=False), part.see(works=True)
    ('fails', None, 'works')
    >>> now = 64.0
    >>> part.see(works=False)
    """

    def __init__(self, patience_s: float, elapsed_s: Callable[[], float] = time.monotonic) -> None:
        self._patience_s = patience_s
        self._elapsed_s = elapsed_s
        self._worked_s = self._looked_s = elapsed_s()
        self._told: Turn | None = None

    def see(self, *, works: bool) -> Turn | None:
        """What is new; None while everything is as it was told."""
        now_s = self._elapsed_s()
        frozen_s = now_s - self._looked_s
        self._looked_s = now_s
        if frozen_s >= FROZEN_S:
            self._worked_s += frozen_s
        if works:
            self._worked_s = now_s
        turn: Turn | None = "works" if works else "fails" if self._failing(now_s) else None
        if turn is None or turn == self._told:
            return None
        self._told = turn
        return turn

    def _failing(self, now_s: float) -> bool:
        return now_s - self._worked_s >= self._patience_s
