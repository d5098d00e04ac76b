"""cProfile around a side, when WATCHKEEPER_BENCH_PROFILE names the file to write."""

from __future__ import annotations

import cProfile
import os
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLE = "WATCHKEEPER_BENCH_PROFILE"


@contextmanager
def profiled() -> Iterator[None]:
    """Profiles the main thread. Rates measured meanwhile mean nothing."""
    target = os.environ.get(VARIABLE)
    if target is None:
        yield
        return
    profile = cProfile.Profile()
    profile.enable()
    try:
        yield
    finally:
        profile.disable()
        profile.dump_stats(target)
