"""confidence_calibration: stated confidence no longer means what it meant.

Statistic: the mixture e-detector of `detectors.sequential.rate` on wrong answers among those whose truth
became known, each counting as many as the share of wrong ones its tenth of confidence used to have lets
expect, at the levels of `detectors.false_alarms`. So another mix of sure and unsure answers is no change:
only confidence that means less (more wrong ones: overconfidence) or more than it did. Unit: share of wrong
answers, of the usual mix. Told besides: the expected calibration error, the mean distance of confidence and
truth by tenth. Source: R 33, the router whose confidence decides answer or escalation is itself wrong;
Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning" (AAAI 2015).
What told the truth (an evaluation, the outcome, a thumb) is held against itself. Critical is overconfidence
by a tenth.

>>> import numpy as np
>>> from detectors.activity import Calibration
>>> from detectors.testing import run_windows, window
>>> random = np.random.default_rng(7)
>>> def answered(number, off=0.0):
...     told = Calibration()
...     for sure in random.uniform(0.7, 1.0, 8):
...         told.add(sure, random.random() < sure - off)
...     return window(number, calibration={"route": told})
>>> found = run_windows(ConfidenceCalibration(), [answered(at, 0.3 * (at >= 90)) for at in range(100)])
>>> found[-1].severity, found[-1].summary.partition("; ")[2]
('critical', 'expected calibration error 0.29, before 0.00.')
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Final

import msgspec

from detectors.activity import Calibration
from detectors.alarm import detection_of, worst
from detectors.base import NOTHING, Detection, Window, WindowContext
from detectors.calibration import Told, expected_error, expected_wrong, make_room, row
from detectors.ledger import note, split
from detectors.rate_watch import RateWatch
from detectors.sequential.onsets import Reading, Spans
from detectors.sequential.rate import RateChange
from detectors.watch import Watch

SEVERE: Final = 0.1
WRONG: Final = RateChange("both", min_change=0.05, spans=Spans(4_000))


def overconfident(reading: Reading) -> bool:
    """Whether so many more answers are wrong than their confidence used to mean."""
    return reading.after - reading.before >= SEVERE


@dataclass(frozen=True, slots=True)
class ConfidenceCalibration:
    """`watch` has the test and when a change is critical."""

    watch: RateWatch = field(
        default_factory=lambda: RateWatch(
            Watch("confidence_calibration", overconfident, seasonal=False), WRONG
        )
    )

    name: ClassVar[str] = "confidence_calibration"
    version: ClassVar[int] = 1

    class State(msgspec.Struct):
        """By what told that an answer was right."""

        sources: dict[str, Told] = {}

    def update(self, state: State, window: Window, context: WindowContext) -> Iterable[Detection]:
        found: list[Detection] = []
        for source, new in sorted(context.activity.calibration.items()):
            make_room(state.sources, source)
            told = state.sources.get(source)
            if told is not None:
                found += self._answers(told, source, new, window, context, len(state.sources))
        if state.sources:
            context.standings[self.name] = worst(
                self.watch.standing(told.series, f"wrong_answers:{source}")
                for source, told in sorted(state.sources.items())
            )
        return found or NOTHING

    def _answers(
        self, told: Told, source: str, new: Calibration, window: Window, context: WindowContext, among: int
    ) -> Iterable[Detection]:
        note(told.ledger, window.start_ms, row(new))
        expected = expected_wrong(told, new)
        if expected is None:
            return
        wrong = sum(held.count - held.right for held in new.bins.values())
        raised = self.watch.observe(told.series, expected, wrong, window.start_ms, among=among)
        if raised is None:
            return
        reading = raised.reading
        before, since = split(told.ledger, reading.began)
        answers = max(sum(since[::3]), 1)
        right, stated = sum(since[1::3]) / answers, sum(since[2::3]) / answers / 100
        which = "overconfident" if reading.after > reading.before else "underconfident"
        yield detection_of(
            raised,
            self,
            context,
            metric=f"wrong_answers:{source}",
            summary=f"{window.agent} became {which}: by {source}, {right:.0%} of its last {answers:,} "
            f"answers were right, and it was {stated:.0%} sure; expected calibration error "
            f"{expected_error(since):.2f}, before {expected_error(before):.2f}.",
            event_ids=window.samples.get("low_score", ()),
        )
