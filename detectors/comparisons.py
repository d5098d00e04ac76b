"""A new version held against the old one on live traffic: what is counted of each, and the verdict.

Time of day and weather move every indicator, so like is compared with like. In an hour in which both versions
run, the larger side is scaled down to the smaller one: each hour then weighs the same on both sides
(`Pool.matched`). Hours in which only the new one runs are held against what the agent did before it
(`Pool.after`, `Pool.before`), hours of the day evened out as far as they are known. Counts that vary more
from hour to hour than independent ones would are worth less by that factor (dispersion, learned before the
new version came). Each of the two is a comparison of `detectors.sequential.comparison`, valid at any time.

What the surroundings move as much as a version does (latency, cost, length) must differ by more than its
margin to be told; of the others a difference must be certain and at least the margin.

>>> lines = Lines()
>>> for hour in range(10):
...     lines.add("completion_rate", (100.0, 90.0, 90.0), hour * 3_600_000)
>>> pool = Pool(before=lines.kept["completion_rate"].known())
>>> pool.add(NEW, (300.0, 210.0, 210.0))
>>> judge("completion_rate", pool, error=0.001).verdict
'worse'
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Final, Literal, NamedTuple

import msgspec

from detectors.indicators import EVALUATION, Sums, indicator
from detectors.sequential.comparison import Comparison, MeanComparison, RateComparison, Sides

Role = Literal[0, 1, 2]
OLD: Final = 0
NEW: Final = 1
UNTOLD: Final = 2
"""Of activity that does not say its version: the new one's where the old one has gone, else nobody's."""

HOUR_MS: Final = 3_600_000
SLOT_HOURS: Final = 3
SLOTS: Final = 24 // SLOT_HOURS
SEASON_HOURS: Final = 48
PRIOR_HOURS: Final = 10.0
PRIOR_HITS: Final = 20.0
PRIOR_VALUES: Final = 200.0
LARGEST_FACTOR: Final = 2.5
MEMORY: Final = 20_000.0
MAX_LINES: Final = 12
MAX_EVALUATIONS: Final = 3
LEAST_OBSERVATIONS: Final = 8.0
BESIDE: Final = 0.1
"""The old version still runs in an hour that has this share of the new one's observations."""
GROWTH: Final = 1.05
"""Compared again when this many times as much has been seen of the new."""
LENGTH_MARGIN: Final = 0.2
EVALUATION_MARGIN: Final = 0.03
MARGINS: Final = {
    "refusal_rate": 0.01,
    "error_rate": 0.01,
    "escalation_rate": 0.03,
    "clarification_rate": 0.05,
    "completion_rate": 0.03,
    "canary_failure_rate": 0.05,
    "latency": 0.25,
    "cost_per_session": 0.25,
}
"""A smaller difference is the same; those of latency and cost are of natural logarithms."""
SURROUNDINGS: Final = frozenset({"latency", "cost_per_session", "output_length"})


class Line(msgspec.Struct, array_like=True):
    """An indicator over time. `sums`: count, total, sum of squares, then over hours the sum of total²/count
    and the number of hours, as `Pool.dispersion` wants them; `hour` is the count and total of the hour that
    is not over; `slots` counts and totals by part of the day, in single precision.
    """

    sums: list[float] = msgspec.field(default_factory=lambda: [0.0] * 5)
    hour: list[float] = msgspec.field(default_factory=lambda: [0.0, 0.0])
    slots: bytes = bytes(8 * SLOTS)

    def even(self, kind: str, sums: Sums, at_ms: float, hours: int) -> Sums:
        """The sums as they would be at an average hour of the day."""
        count, total, squares = sums
        if hours < SEASON_HOURS:
            return sums
        slots = self._slots()
        known, known_total = sum(slots[::2]), sum(slots[1::2])
        if known_total <= 0:
            return sums
        slot = _slot(at_ms)
        here, here_total = slots[slot : slot + 2]
        expected = here * known_total / known
        if kind == "mean":
            offset = (here_total - expected) / (here + PRIOR_VALUES)
            return count, total - count * offset, squares - 2 * offset * total + count * offset**2
        factor = (here_total + PRIOR_HITS) / (expected + PRIOR_HITS)
        count *= min(max(factor, 1 / LARGEST_FACTOR), LARGEST_FACTOR)
        return max(count, total), total, squares

    def add(self, sums: Sums, evened: Sums, at_ms: float) -> None:
        """Take observations in, as they were and evened out."""
        slots, slot = self._slots(), _slot(at_ms)
        slots[slot] += sums[0]
        slots[slot + 1] += sums[1]
        self.slots = slots.tobytes()
        self.sums[:3] = [one + more for one, more in zip(self.sums, evened, strict=False)]
        self.hour = [self.hour[0] + evened[0], self.hour[1] + evened[1]]

    def close_hour(self) -> None:
        """The hour is over: what it says of how hours differ."""
        count, total = self.hour
        if count > 0:
            self.sums[3] += total * total / count
            self.sums[4] += 1.0
            self.hour = [0.0, 0.0]
        if self.sums[0] > MEMORY:
            scale = MEMORY / self.sums[0]
            self.sums = [each * scale for each in self.sums]
            self.slots = array("f", [each * scale for each in self._slots()]).tobytes()

    def _slots(self) -> array[float]:
        return array("f", self.slots)

    def known(self) -> list[float]:
        """The sums, the hour that is not over taken in as one."""
        count, total = self.hour
        more = [total * total / count, 1.0] if count > 0 else [0.0, 0.0]
        return [*self.sums[:3], self.sums[3] + more[0], self.sums[4] + more[1]]


class Lines(msgspec.Struct):
    """What an agent does, by indicator: at most `MAX_LINES`, a few evaluations of them."""

    hour: int = -1
    hours: int = 0
    kept: dict[str, Line] = {}

    def add(self, name: str, sums: Sums, at_ms: float) -> None:
        """Take observations of an indicator in."""
        self.turn(at_ms)
        line = self.kept.get(name)
        if line is None:
            if not has_room(self.kept, name):
                return
            line = self.kept[name] = Line()
        line.add(sums, self.even(name, sums, at_ms), at_ms)

    def even(self, name: str, sums: Sums, at_ms: float) -> Sums:
        """The sums as they would be at an average hour of the day."""
        line = self.kept.get(name)
        return sums if line is None else line.even(indicator(name).kind, sums, at_ms, self.hours)

    def turn(self, at_ms: float) -> bool:
        """Close the hour if it is over; says whether it was."""
        hour = int(at_ms // HOUR_MS)
        if hour == self.hour:
            return False
        self.hour = hour
        self.hours += 1
        for line in self.kept.values():
            line.close_hour()
        return True


class Pool(msgspec.Struct, array_like=True):
    """An indicator of a new version and the old one. `hour` has the sums of the hour that is not over, by
    role; `seen` how many of the new there were when it was last compared; `verdict` what came of that.
    """

    before: list[float]
    hour: list[list[float]] = msgspec.field(default_factory=lambda: [[0.0] * 3 for _ in range(3)])
    matched: list[list[float]] = msgspec.field(default_factory=lambda: [[0.0] * 3 for _ in range(2)])
    after: list[float] = msgspec.field(default_factory=lambda: [0.0] * 3)
    seen: float = 0.0
    verdict: str = ""

    def add(self, role: Role, sums: Sums) -> None:
        """Take observations of this hour in."""
        self.hour[role] = _plus(self.hour[role], sums)

    def close_hour(self) -> None:
        """The hour is over: it goes to where it is compared."""
        (self.matched[OLD], self.matched[NEW]), self.after = self._with_hour()
        self.hour = [[0.0] * 3 for _ in range(3)]

    def sides(self) -> tuple[Sides, Sides]:
        """What is compared: hours in which both ran; hours in which only the new one did, with before."""
        (old, new), after = self._with_hour()
        return Sides(old, new), Sides(self.before[:3], after)

    def due(self) -> bool:
        """Whether so much more has been seen of the new that it is worth comparing again."""
        count = self.hour[NEW][0] + self.matched[NEW][0] + self.after[0]
        if count < max(LEAST_OBSERVATIONS, GROWTH * self.seen):
            return False
        self.seen = count
        return True

    def dispersion(self) -> float:
        """By how much hours varied more than independent observations would, before: Pearson's chi-square
        over its degrees of freedom, at least 1, shrunk towards 1 and a standard error lower
        (quasi-likelihood: McCullagh and Nelder, Generalized Linear Models, 1989, ch. 9).
        """
        count, total, squares, between, hours = self.before
        if count <= 0:
            return 1.0
        variance = max(squares / count - (total / count) ** 2, 1e-9)
        chi2, degrees = (between - total * total / count) / variance, max(hours - 1.0, 0.0)
        return max(1.0, (PRIOR_HOURS + chi2 - sqrt(2.0 * degrees)) / (PRIOR_HOURS + degrees))

    def _with_hour(self) -> tuple[tuple[list[float], list[float]], list[float]]:
        old, new, untold = self.hour
        if old[0] <= BESIDE * new[0] or not old[0]:
            return (self.matched[OLD], self.matched[NEW]), _plus(_plus(self.after, new), untold)
        least = min(old[0], new[0])
        both = [
            _plus(closed, [each * least / side[0] for each in side]) if side[0] else closed
            for closed, side in zip(self.matched, (old, new), strict=True)
        ]
        return (both[0], both[1]), self.after


class Judged(NamedTuple):
    """The verdict; the rate or mean of the old and the new, how many observations of the new it rests on."""

    verdict: str
    old: float
    new: float
    observations: int


def judge(name: str, pool: Pool, error: float) -> Judged:
    """What is known of one indicator, the probability of ever being wrong being at most `error`: "better",
    "worse", "same", "other" (neither way is worse) or "not yet known". Of the two comparisons the one that
    says worse counts, else the one that rests on more.
    """
    factor = pool.dispersion()
    known = [sides for sides in pool.sides() if min(sides.old[0], sides.new[0]) >= 2]
    if not known:
        return Judged("not yet known", 0.0, 0.0, 0)
    found = (_judge(name, sides, error / 2, factor) for sides in known)
    return max(found, key=lambda one: (one.verdict == "worse", one.observations))


def _judge(name: str, sides: Sides, error: float, factor: float) -> Judged:
    what = indicator(name)
    old_mean = sides.old[1] / sides.old[0]
    margin = margin_of(name, old_mean)
    higher_is_better = what.bad == "fall"
    test: RateComparison | MeanComparison
    if what.kind == "rate":
        test = RateComparison(margin, higher_is_better, error, factor)
        found = test.update(sides, "new", 0.0, 0.0)
    else:
        test = MeanComparison(margin, higher_is_better, error, factor)
        found = test.update(sides, "new", 0.0, 0.0, 0.0)
        if name in SURROUNDINGS and found.verdict in ("better", "worse"):
            found = test.update(_nearer(sides, margin), "new", 0.0, 0.0, 0.0)
    old, new = old_mean, sides.new[1] / sides.new[0]
    return Judged(_verdict(found, what.bad, abs(new - old) >= margin), old, new, int(sides.new[0]))


def _verdict(found: Comparison, bad: str, enough: bool) -> str:
    if found.verdict not in ("better", "worse"):
        return found.verdict
    if not enough:
        return "not yet known"
    return "other" if bad == "both" else found.verdict


def _nearer(sides: Sides, margin: float) -> Sides:
    """As if the new lay nearer to the old by the margin, but not beyond it."""
    count, total, squares = sides.new
    apart = total / count - sides.old[1] / sides.old[0]
    shift = max(min(apart, margin), -margin)
    moved = [count, total - count * shift, squares - 2 * shift * total + count * shift**2]
    return Sides(list(sides.old), moved)


def margin_of(name: str, old: float) -> float:
    """The largest difference that is no difference."""
    if name == "output_length":
        return LENGTH_MARGIN * old
    return EVALUATION_MARGIN if name.startswith(EVALUATION) else MARGINS[name]


def describe(name: str, judged: Judged) -> str:
    """What an indicator is and was, for people."""
    what = indicator(name)
    new, old = what.shown(judged.new), what.shown(judged.old)
    if what.unit == "share":
        told = f"{new:.1%}, was {old:.1%}"
    else:
        unit = "" if what.unit == "score" else f" {what.unit}"
        told = f"{new:.3g}{unit}, was {old:.3g}{unit}"
    return f"{name.removeprefix(EVALUATION)} {told} ({judged.observations:,} observed)"


def has_room(kept: Mapping[str, object], name: str) -> bool:
    """Whether one more indicator of this name is to be kept."""
    evaluations = sum(one.startswith(EVALUATION) for one in kept)
    return len(kept) < MAX_LINES and (not name.startswith(EVALUATION) or evaluations < MAX_EVALUATIONS)


def _plus(sums: Sequence[float], more: Sequence[float]) -> list[float]:
    return [one + other for one, other in zip(sums, more, strict=True)]


def _slot(at_ms: float) -> int:
    return 2 * (int(at_ms // HOUR_MS) % 24 // SLOT_HOURS)
