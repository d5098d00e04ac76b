"""The bars of the throughput benchmark, and what a run's figures say about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MIN_EVENTS_PER_SECOND = 50_000
MIN_TIMES_STOCK_FAUST = 10.0
MIN_TIMES_QUIX = 1.3
MIN_SHARE_OF_BARE = 0.25


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of the verdict."""

    what: str
    measured: float
    bar: float

    @property
    def met(self) -> bool:
        return self.measured >= self.bar

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


def bars(rates: Mapping[str, float]) -> list[Bar]:
    """The verdict on events per second by side; a bar whose side was not run is left out."""
    own = rates["watchkeeper"]
    wanted = [Bar("events per second, one worker", round(own), MIN_EVENTS_PER_SECOND)]
    for side, what, bar in (
        ("stock_faust", "times stock Faust", MIN_TIMES_STOCK_FAUST),
        ("quix", "times Quix Streams", MIN_TIMES_QUIX),
        ("bare", "share of bare aiokafka + JSON", MIN_SHARE_OF_BARE),
    ):
        if side in rates:
            wanted.append(Bar(what, round(own / rates[side], 3), bar))
    return wanted
