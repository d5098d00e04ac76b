"""Whether the store takes anything: one that another process has locked, or that hangs, gives no error for a
minute and more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from responders.store.database import StoreError


class Progress:
    """The transactions of one process that wait for the store, and when it has last answered one. Safe to use
    from several threads.

    >>> now = 0.0
    >>> progress = Progress(lambda: now)
    >>> with progress.transaction():
    ...     now = 5.0
    ...     print(progress.stuck_s())
    5.0
    >>> progress.stuck_s()
    0.0
    """

    def __init__(self, elapsed_s: Callable[[], float] = time.monotonic) -> None:
        self._elapsed_s = elapsed_s
        self._lock = threading.Lock()
        self._begun_s: list[float] = []
        self._answered_s = elapsed_s()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Around one transaction. Only `StoreError` means that the store has not answered it."""
        with self._lock:
            begun_s = self._elapsed_s()
            self._begun_s.append(begun_s)
        answered = True
        try:
            yield
        except StoreError:
            answered = False
            raise
        finally:
            with self._lock:
                self._begun_s.remove(begun_s)
                if answered:
                    self._answered_s = self._elapsed_s()

    def stuck_s(self) -> float:
        """For how long a transaction has waited while the store answered none; 0 when none waits."""
        with self._lock:
            if not self._begun_s:
                return 0.0
            return self._elapsed_s() - max(self._answered_s, min(self._begun_s))
