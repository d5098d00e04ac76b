"""What detectors of one rate have in common, and what has lately come more often, to be named in a sentence.

>>> lately = Lately()
>>> lately.note(1_000, {"search": 8, "read": 1})
>>> lately.note(20, {"read": 6})
>>> lately.most(), lately.share("read")
('read', 1.0)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import exp
from typing import ClassVar, Final

import msgspec

from detectors.alarm import Raised
from detectors.base import NOTHING, Detection, Window, WindowContext
from detectors.indicators import read
from detectors.rate_watch import RateSeries, RateWatch
from schemas.control import ControlState

MEMORY: Final = 100.0
LONG_MEMORY: Final = 2_000.0
"""Observations after which what came is remembered at a share of 1/e."""
MAX_NAMES: Final = 6


class Faded(msgspec.Struct, array_like=True):
    """Observations and counts by name that fade as observations come; of too many names those with the least
    are forgotten.
    """

    observations: float = 0.0
    counts: dict[str, float] = {}

    def note(self, memory: float, observations: float, counts: Mapping[str, float]) -> None:
        fading = exp(-observations / memory)
        faded = {name: count * fading for name, count in self.counts.items()}
        for name, count in counts.items():
            if count:
                faded[name] = faded.get(name, 0.0) + count
        kept = sorted(faded.items(), key=lambda each: (-each[1], each[0]))[:MAX_NAMES]
        self.counts = {name: count for name, count in kept if count > 1e-3}
        self.observations = self.observations * fading + observations


class Lately(msgspec.Struct, array_like=True):
    """What came lately, and over a longer time."""

    now: Faded = msgspec.field(default_factory=Faded)
    usual: Faded = msgspec.field(default_factory=Faded)

    def note(self, observations: float, counts: Mapping[str, float]) -> None:
        """So many observations came, with these counts among them."""
        if observations > 0:
            self.now.note(MEMORY, observations, counts)
            self.usual.note(LONG_MEMORY, observations, counts)

    def most(self) -> str:
        """What has come more often than usual, by the most; '' if nothing has."""
        excess = self._excess()
        return min(excess, key=lambda name: (-excess[name], name), default="")

    def share(self, *names: str) -> float:
        """Of all that has come more often than usual, that of the names."""
        excess = self._excess()
        whole = sum(excess.values())
        return sum(excess.get(name, 0.0) for name in names) / whole if whole else 0.0

    def _excess(self) -> dict[str, float]:
        if not self.usual.observations:
            return {}
        scale = self.now.observations / self.usual.observations
        excess = {name: n - scale * self.usual.counts.get(name, 0.0) for name, n in self.now.counts.items()}
        return {name: more for name, more in excess.items() if more > 0}


class RateState(msgspec.Struct):
    """One series, and what lately came of what makes it up."""

    series: RateSeries = msgspec.field(default_factory=RateSeries)
    lately: Lately = msgspec.field(default_factory=Lately)


@dataclass(frozen=True, slots=True)
class RateDetector(ABC):
    """Watches the indicator of its name. `shown_by` names the sample of events in a window that show it,
    `suggests` the containment at a critical alarm.
    """

    watch: RateWatch

    name: ClassVar[str]
    version: ClassVar[int] = 1
    shown_by: ClassVar[str] = ""
    suggests: ClassVar[ControlState | None] = None

    State: ClassVar[type[RateState]] = RateState

    def update(self, state: RateState, window: Window, context: WindowContext) -> Iterable[Detection]:
        count, hits, _ = read(self.name, context.activity)
        raised = self.watch.observe(
            state.series, count, hits, window.start_ms, mild=self.excused(state, window, context)
        )
        context.standings[self.name] = self.watch.standing(state.series, self.name)
        return NOTHING if raised is None else (self._detection(state, raised, window, context),)

    def excused(self, state: RateState, window: Window, context: WindowContext) -> bool:
        """Take in what the sentence names; whether a change is a warning at most."""
        return False

    @abstractmethod
    def sentence(self, state: RateState, raised: Raised, agent: str) -> str:
        """What is told of an alarm."""

    def _detection(
        self, state: RateState, raised: Raised, window: Window, context: WindowContext
    ) -> Detection:
        reading = raised.reading
        return context.detection(
            self,
            trigger=str(reading.began),
            severity=raised.severity,
            metric=self.name,
            observed=reading.after,
            expected=reading.before,
            threshold=raised.level,
            score=reading.run_length,
            sample_size=reading.observations,
            since=context.since(reading.began),
            event_ids=window.samples.get(self.shown_by, ()),
            summary=self.sentence(state, raised, window.agent),
            suggested=self.suggests if raised.severity == "critical" else None,
        )
