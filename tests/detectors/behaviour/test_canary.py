"""A model changed in silence shows in canaries within a few runs; flaky and new canaries do not alarm."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from detectors.activity import CallCounts
from detectors.base import WindowContext
from detectors.behaviour.canary import MAX_CANARIES, Canary
from detectors.testing import run_windows, window
from detectors.windows import Window

HOUR = 360
"""Windows of ten seconds."""


def rounds(first: int, last: int, seed: int, rates: dict[str, float]) -> list[Window]:
    """Every canary once an hour, each failing at its rate."""
    random = np.random.default_rng((seed, first))
    return [
        window(
            number * HOUR,
            canaries={name: CallCounts(1, int(random.random() < rate)) for name, rate in rates.items()},
        )
        for number in range(first, last)
    ]


PASSING = {"sum": 0.0, "tone": 0.0, "refund": 0.0}


@pytest.mark.parametrize("seed", range(5))
def test_a_changed_model_is_critical_within_three_rounds_of_three(seed: int) -> None:
    changed = {"sum": 0.8, "tone": 0.8, "refund": 0.8}
    found = run_windows(Canary(), rounds(0, 24, seed, PASSING) + rounds(24, 27, seed, changed))
    assert found[-1].severity == "critical"


def test_one_canary_of_three_is_found_and_named() -> None:
    changed = {**PASSING, "tone": 1.0}
    found = run_windows(Canary(), rounds(0, 48, 1, PASSING) + rounds(48, 60, 1, changed))
    assert [one.severity for one in found] == ["warning", "critical"]
    assert found[0].sample_size == 3
    assert all("canary tone" in one.summary for one in found)


@pytest.mark.parametrize("number", [0, 4, 5, 19])
def test_any_one_of_many_canaries_is_found(number: int) -> None:
    many = {f"canary-{each:02}": 0.0 for each in range(20)}
    changed = {**many, f"canary-{number:02}": 1.0}
    found = run_windows(Canary(), rounds(0, 48, 1, many) + rounds(48, 72, 1, changed))
    assert found
    assert (f"canary canary-{number:02}" in found[0].summary) == (number < MAX_CANARIES)


@pytest.mark.parametrize("seed", range(3))
def test_flaky_canaries_are_known_to_be(seed: int) -> None:
    flaky = {"steady": 0.0, "seldom": 0.02, "often": 0.25}
    found = run_windows(Canary(), rounds(0, 24 * 10, seed, flaky))
    assert [one for one in found if one.severity == "critical"] == []


def test_a_moment_in_which_all_fail_is_a_warning() -> None:
    moment = rounds(48, 49, 1, dict.fromkeys(PASSING, 1.0))
    found = run_windows(Canary(), rounds(0, 48, 1, PASSING) + moment + rounds(49, 100, 1, PASSING))
    assert [one.severity for one in found] == ["warning"]


def test_a_new_canary_that_fails_is_no_change() -> None:
    added = {**PASSING, "new": 1.0}
    assert run_windows(Canary(), rounds(0, 48, 1, PASSING) + rounds(48, 100, 1, added)) == []


def test_what_is_told_once_is_told_again_after_it_has_been_well() -> None:
    failing = dict.fromkeys(PASSING, 1.0)
    again = [
        *rounds(0, 40, 1, PASSING),
        *rounds(40, 60, 1, failing),
        *rounds(60, 120, 1, PASSING),
        *rounds(120, 140, 1, failing),
    ]
    assert [one.severity for one in run_windows(Canary(), again)] == ["warning", "critical"] * 2


def test_of_many_canaries_a_few_are_watched_and_the_state_stays_small() -> None:
    state = Canary.State()
    detector = Canary()
    many = {f"canary-{number}": 0.05 for number in range(40)}
    context = WindowContext()
    context.tenant, context.agent, context.session = "default", "agent", None
    context.event_id, context.from_offset = "", 0
    for each in rounds(0, 400, 1, many):
        context.activity, context.standings, context.time_ms = each.total(), {}, each.end_ms
        list(detector.update(state, each, context))
    assert len(state.series) == MAX_CANARIES
    assert len(msgspec.msgpack.encode(state)) < 8_000
