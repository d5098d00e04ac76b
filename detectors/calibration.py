"""Stated confidence beside what turned out, by tenth of confidence, and by what told it.

>>> from detectors.activity import Calibration
>>> told, answers = Told(), Calibration()
>>> for number in range(150):
...     answers.add(0.95, number % 10 > 0)
>>> expected_wrong(told, answers), told.wrong / told.answers
(None, 0.1)
>>> expected_wrong(told, answers)
150.0
>>> round(expected_error(row(answers)), 2)
0.05
"""

from __future__ import annotations

from typing import Final

import msgspec

from detectors.activity import CALIBRATION_BINS, Calibration
from detectors.ledger import Ledger
from detectors.rate_watch import RateSeries
from detectors.slices import OTHER

MAX_SOURCES: Final = 2
RANKS: Final = {"outcome": 1, "thumb": 2}
"""An evaluation knows better than an outcome, and that better than a thumb."""
STARTED: Final = 150
"""Answers by which the share of wrong ones in all is known. It is left so: only its scale depends on it."""
KNOWN: Final = 200
"""Answers in a tenth after which it is known for good."""
PRIOR: Final = 5
"""Answers that the whole is worth where a tenth is known thinly."""


class Told(msgspec.Struct):
    """By one source: of each tenth, and of the whole, how many answers it began with and how many of them
    were wrong; the series of wrong ones; and by time of each tenth answers, right ones, and their confidence
    in percent.
    """

    bins: list[tuple[int, int]] = msgspec.field(default_factory=lambda: [(0, 0)] * CALIBRATION_BINS)
    answers: int = 0
    wrong: int = 0
    series: RateSeries = msgspec.field(default_factory=RateSeries)
    ledger: Ledger = msgspec.field(default_factory=Ledger)


def make_room(sources: dict[str, Told], source: str) -> None:
    """Watch a source, in place of one that knows less where there are too many."""
    if source in sources or source == OTHER:
        return
    if len(sources) == MAX_SOURCES:
        least = max(sources, key=lambda each: (RANKS.get(each, 0), each))
        if RANKS.get(least, 0) <= RANKS.get(source, 0):
            return
        del sources[least]
    sources[source] = Told()


def expected_wrong(told: Told, new: Calibration) -> float | None:
    """As how many answers of the usual mix the new ones are, by how often each tenth used to be wrong; None
    while that is not known. Learns, unless under alarm.
    """
    expected = None
    if told.answers >= STARTED:
        usual = max(told.wrong, 1) / told.answers
        expected = 0.0
        for place, held in new.bins.items():
            answers, wrong = told.bins[place]
            expected += held.count * (wrong / usual + PRIOR) / (answers + PRIOR)
    if told.series.severity:
        return expected
    for place, held in new.bins.items():
        answers, wrong = told.bins[place]
        if answers < KNOWN:
            told.bins[place] = (answers + held.count, wrong + held.count - held.right)
        if told.answers < STARTED:
            told.answers += held.count
            told.wrong += held.count - held.right
    return expected


def row(new: Calibration) -> list[int]:
    """Of each tenth answers, right ones, and confidence in percent."""
    made = [0] * (3 * CALIBRATION_BINS)
    for place, held in new.bins.items():
        made[3 * place : 3 * place + 3] = held.count, held.right, round(held.confidence_micro / 1e4)
    return made


def expected_error(sums: list[int] | list[int | float]) -> float:
    """The expected calibration error of the sums of rows."""
    apart = sum(abs(right - percent / 100) for right, percent in zip(sums[1::3], sums[2::3], strict=True))
    return apart / max(sum(sums[::3]), 1)
