"""output_length: an agent's answers are longer, shorter, or otherwise spread than they used to be.

Statistic: the e-detector of `detectors.sequential.distribution` on lengths in groups of 25-token bins (of 5
tokens below 100), at the levels of `detectors.false_alarms`; told is the Kullback-Leibler divergence, in
nats, of lengths since the onset from those before. Unit: tokens. Source: R 36, a divergence of 0.15 a day in
bins of 25 tokens, which by itself false-fires on 100% of days of 100 outputs that are all alike: 0.15 is how
large a change has to be here, and the test says whether it is one. `expected` is what chance makes of the
divergence at that size, (groups - 1) / (2 n). R 25 and R 28: a changed style and a changed model show here.

>>> from detectors.bins import length_bin
>>> from detectors.testing import run_windows, window
>>> def answered(number, *tokens):
...     return window(number, output_tokens_bins={length_bin(each): 4 for each in tokens})
>>> concise = [answered(number, 80, 120, 160 + 10 * (number % 7)) for number in range(90)]
>>> chatty = [answered(number, 230, 420, 600) for number in range(90, 110)]
>>> found = run_windows(OutputLength(), concise + chatty)
>>> [(one.severity, one.observed > 0.15, one.sample_size) for one in found]
[('warning', True, 24), ('critical', True, 48)]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import expm1
from typing import ClassVar, Final

import msgspec

from detectors.base import NOTHING, Detection, Window, WindowContext
from detectors.bins import LENGTH_BIN_TOKENS, length_boundary
from detectors.distributions import GROUPS, DistributionWatch
from detectors.sequential.distribution import DistributionChange
from detectors.value_series import Change, ValueSeries

DIVERGENCE: Final = 0.15
SEVERE_RATIO: Final = 2.0


def severe(change: Change) -> bool:
    """Whether answers are twice as long, or half."""
    before, after = _tokens(change.before), _tokens(change.after)
    return max(after / before, before / after) >= SEVERE_RATIO


@dataclass(frozen=True, slots=True)
class OutputLength:
    """`watch` has the test and when a change is critical."""

    watch: DistributionWatch = field(
        default_factory=lambda: DistributionWatch(
            "output_length",
            severe,
            length_boundary,
            test=DistributionChange(GROUPS, min_divergence=DIVERGENCE),
        )
    )

    name: ClassVar[str] = "output_length"
    version: ClassVar[int] = 2

    class State(msgspec.Struct):
        """One series."""

        series: ValueSeries = msgspec.field(default_factory=ValueSeries)

    def update(self, state: State, window: Window, context: WindowContext) -> Iterable[Detection]:
        series = state.series
        raised = self.watch.observe(series, context.activity.output_tokens_bins, window.start_ms)
        context.standings[self.name] = self.watch.standing(series, self.name, _tokens)
        if raised is None:
            return NOTHING
        reading = raised.reading
        before, after = _tokens(reading.before), _tokens(reading.after)
        which = "longer" if after > before else "shorter"
        detection = context.detection(
            self,
            trigger=str(reading.began),
            severity=raised.severity,
            metric="kl_divergence",
            observed=round(series.divergence, 4),
            expected=round((GROUPS - 1) / (2 * reading.observations), 4),
            threshold=DIVERGENCE,
            score=reading.run_length,
            sample_size=reading.observations,
            since=context.since(reading.began),
            event_ids=(),
            summary=f"{window.agent}'s answers became {which}: typically {after:.0f} tokens over the last "
            f"{reading.observations:,}, before {before:.0f}; the divergence of their lengths is "
            f"{series.divergence:.2f} nats.",
        )
        return (detection,)


def _tokens(value: float) -> float:
    """The length at a place on the scale of `length_boundary`."""
    return max(expm1(value), 0.02) * LENGTH_BIN_TOKENS
