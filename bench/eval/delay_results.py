"""Levels and delays by change, side and reference, and their ratios to the optimal test's."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from bench.eval.delay import Found, Plan, null_key, optimal, post_length
from bench.eval.delay_changes import CHANGES, Change
from bench.eval.delay_levels import Delay, Level, delay, set_level
from bench.eval.delay_sides import OURS, SIDES, Side


class Results:
    """Levels and delays by change and side, from what was run."""

    def __init__(self, plan: Plan, numbers: Sequence[int], found: Found) -> None:
        self.plan = plan
        self.levels: dict[tuple[object, ...], Level] = {}
        self.delays: dict[tuple[int, str, int], Delay] = {}
        optima = {
            number: optimal(CHANGES[number], plan, post_length(CHANGES[number], plan)) for number in numbers
        }
        self.optimal = {number: optimum.delay for number, optimum in optima.items()}
        for number, change, side, place, reference in sides_of(plan, numbers):
            key = null_key(change, side, reference)
            if (healthy := found.get((number, place, reference, True))) is not None:
                self.levels[key] = set_level(healthy, plan.null_length, plan.run_length, side.default)
        for number, change, side, place, reference in sides_of(plan, numbers):
            level = self.levels[null_key(change, side, reference)].level
            runs = found[number, place, reference, False]
            length = post_length(change, plan)
            self.delays[number, side.name, reference] = delay(runs, length, level, optima[number])

    def least_ratio(self, number: int, reference: int) -> float:
        """What not knowing the law before costs by itself: n observations after N of before are worth
        n N / (n + N) after a law that is known.
        """
        needed = self.optimal[number].mean
        return reference / (reference - needed) if reference > needed else inf

    def ratio(self, number: int, side: Side, reference: int) -> float:
        """To the delay of the test that knows both laws."""
        return self.delays[number, side.name, reference].mean / self.optimal[number].mean


def sides_of(plan: Plan, numbers: Sequence[int]) -> list[tuple[int, Change, Side, int, int]]:
    """Of every change every side at every reference: its number, the change, the side, its place, and how
    much came before.
    """
    return [
        (number, CHANGES[number], side, place, reference)
        for number in numbers
        for place, side in enumerate(SIDES[CHANGES[number].kind])
        for reference in (plan.references if side is OURS else (plan.others_reference,))
    ]
