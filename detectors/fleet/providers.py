"""The providers that are in use: a place for each, and which of them still answer while one does not.

>>> from detectors.activity import CallCounts
>>> from detectors.fleet.callers import take
>>> providers: dict[str, Used] = {}
>>> for name in ("azure", "anthropic"):
...     take(place_of(providers, name, now_ms=0).callers, "support", CallCounts(10, 0), now_ms=0)
>>> working_without("azure", providers, now_ms=1_000)
['anthropic']
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from detectors.fleet.callers import DAY_MS, Caller, answers
from detectors.rate_watch import RateSeries

MAX_PROVIDERS: Final = 8


class Used(msgspec.Struct, array_like=True):
    """A provider: its calls, who made them, and when the last was made."""

    series: RateSeries = msgspec.field(default_factory=RateSeries)
    callers: dict[str, Caller] = {}
    last_ms: int = 0


def place_of(providers: dict[str, Used], name: str, now_ms: int) -> Used | None:
    """A new provider has to wait for a place until another has not been used for a day."""
    used = providers.get(name)
    if used is None:
        if len(providers) >= MAX_PROVIDERS:
            for idle in [other for other, known in providers.items() if now_ms - known.last_ms > DAY_MS]:
                del providers[idle]
        if len(providers) >= MAX_PROVIDERS:
            return None
        used = providers[name] = Used()
    used.last_ms = now_ms
    return used


def working_without(name: str, providers: Mapping[str, Used], now_ms: int) -> list[str]:
    """The other providers that answer."""
    return [
        other
        for other, used in sorted(providers.items())
        if other != name and not used.series.severity and answers(used.callers, now_ms)
    ]
