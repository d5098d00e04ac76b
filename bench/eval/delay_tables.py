"""What the delays come to: levels, tables and figures of each kind of change."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from bench.eval.delay import OPTIMAL, null_key
from bench.eval.delay_changes import CHANGES
from bench.eval.delay_levels import Delay
from bench.eval.delay_results import Results, sides_of
from bench.eval.delay_sides import OURS, SIDES, Side
from bench.eval.page import Section

TITLES = {
    "rate": "Delay: a rate changes",
    "mean": "Delay: a mean changes",
    "distribution": "Delay: a distribution changes",
}
BAR = 1.3


def section(kind: str, results: Results) -> Section:
    """One kind of change: our delay by reference beside the optimum, then all sides, then their levels."""
    page, plan = Section(TITLES[kind]), results.plan
    numbers = [number for number in results.optimal if CHANGES[number].kind == kind]
    page.say(
        f"Mean observations from the change to the alarm. In brackets: times the optimal test's, which knows "
        f"both laws. The reference is what was learned from before; the bar is {BAR}."
    )
    page.table(
        ("change", OPTIMAL, *(f"ours, reference {reference:,}" for reference in plan.references)),
        [
            (
                CHANGES[number].name,
                _mean(results.optimal[number]),
                *(_cell(results, number, OURS, each) for each in plan.references),
            )
            for number in numbers
        ],
    )
    page.say(
        "What not knowing the law before costs by itself, times the optimal test's delay, for a test that "
        "knows the size of the change and lowers its evidence by what it does not know of before. One that "
        "takes its estimate for the truth, as Page-Hinkley does, may be faster: its run length is then a "
        "mean over estimates, good and bad."
    )
    page.table(
        ("change", *(f"reference {reference:,}" for reference in plan.references)),
        [
            (CHANGES[number].name, *(_least(results, number, each) for each in plan.references))
            for number in numbers
        ],
    )
    met = {
        str(each): sum(results.ratio(number, OURS, each) <= BAR for number in numbers)
        for each in plan.references
    }
    page.say(
        "; ".join(
            f"reference {int(each):,}: bar met by {count} of {len(numbers)}" for each, count in met.items()
        )
        + "."
    )
    others = [side for side in SIDES[kind] if side is not OURS]
    page.say(f"The other sides on the same streams, with a reference of {plan.others_reference:,}:")
    page.table(
        ("change", *(side.name for side in others)),
        [
            (CHANGES[number].name, *(_cell(results, number, side, plan.others_reference) for side in others))
            for number in numbers
        ],
    )
    page.say("The level of each side, and the false-alarm run length there and as it comes:")
    page.table(
        ("side", "before", "level", "run length there", "run length by default"), _levels(results, numbers)
    )
    page.figures.update(_figures(results, numbers), bar={"ratio": BAR, "met": met, "of": len(numbers)})
    return page


def _levels(results: Results, numbers: Sequence[int]) -> list[tuple[object, ...]]:
    rows = {}
    for _, change, side, _, reference in sides_of(results.plan, numbers):
        level = results.levels[null_key(change, side, reference)]
        name = f"{side.name}, {reference:,}" if side is OURS else side.name
        there = f"{level.run_length:,.0f}" if level.run_length else "no alarm seen"
        default = (
            "–"
            if not level.has_default
            else f"{level.default_run_length:,.0f}"
            if level.default_run_length
            else "no alarm seen"
        )
        rows[name, change.before.name] = (name, change.before.name, f"{level.level:.4g}", there, default)
    return list(rows.values())


def _figures(results: Results, numbers: Sequence[int]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for number, change, side, _, reference in sides_of(results.plan, numbers):
        each = results.delays[number, side.name, reference]
        figures.setdefault(change.name, {OPTIMAL: round(results.optimal[number].mean, 1)})[
            f"{side.name}, {reference}"
        ] = {
            "delay": round(each.mean, 1),
            "standard_error": round(each.error, 1),
            "missed": round(each.missed, 3),
            "ratio": round(results.ratio(number, side, reference), 2),
        }
    return figures


def _mean(found: Delay) -> str:
    return (
        f"{'> ' if found.missed > 0.02 else ''}{found.mean:,.0f}"
        if found.mean >= 100
        else f"{found.mean:.1f}"
    )


def _cell(results: Results, number: int, side: Side, reference: int) -> str:
    found = results.delays[number, side.name, reference]
    return f"{_mean(found)} ({results.ratio(number, side, reference):.2f})"


def _least(results: Results, number: int, reference: int) -> str:
    least = results.least_ratio(number, reference)
    return f"{least:.2f}" if least < inf else "out of reach"
