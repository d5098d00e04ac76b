"""How often each test is done: a few times in CI, in full with WATCHKEEPER_RELIABILITY=full."""

from __future__ import annotations

import os
from typing import Final

FULL: Final = os.environ.get("WATCHKEEPER_RELIABILITY") == "full"


def count(quick: int, full: int) -> int:
    return full if FULL else quick
