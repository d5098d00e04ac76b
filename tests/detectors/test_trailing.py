"""Trailing totals: never too little, at most a cell too much, and the same however they were merged."""

from __future__ import annotations

import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.trailing import DAY_MS, HOUR_MS, MINUTE_MS, RINGS, Total, Trailing, add, merge, total

SPANS_MS = (
    10_000,
    60_000,
    5 * MINUTE_MS,
    30 * MINUTE_MS,
    HOUR_MS,
    7 * HOUR_MS,
    DAY_MS,
    3 * DAY_MS,
    14 * DAY_MS,
)
GAPS_MS = (0, 900, 9_999, 45_000, 400_000, HOUR_MS, 9 * HOUR_MS, 4 * DAY_MS)

few = settings(max_examples=80, deadline=None)
Added = list[tuple[int, int, int]]


@st.composite
def histories(draw: st.DrawFn) -> Added:
    """Times, counts and sums; a few come late."""
    at_ms, made = 1_800_000_000_000, []
    steps = st.tuples(
        st.sampled_from(GAPS_MS), st.integers(0, 500), st.integers(0, 400_000), st.integers(0, 9)
    )
    for gap_ms, more_ms, late_ms, count in draw(st.lists(steps, min_size=1, max_size=60)):
        at_ms += gap_ms + more_ms
        made.append((at_ms - late_ms * (count == 9), count, count // 3))
    return made


def kept(history: Added) -> Trailing:
    trailing = Trailing()
    for each in history:
        add(trailing, *each)
    return trailing


@few
@given(histories(), st.sampled_from(SPANS_MS), st.sampled_from(GAPS_MS))
def test_a_total_holds_the_whole_span_and_at_most_a_cell_more(
    history: Added, span_ms: int, quiet_ms: int
) -> None:
    now_ms = max(at_ms for at_ms, _, _ in history) + quiet_ms
    found = total(kept(history), span_ms, now_ms=now_ms)
    cell_ms = next(ring.width_ms for ring in RINGS if ring.reach_ms >= span_ms)
    assert _exact(history, now_ms - span_ms).observations <= found.observations
    assert found.observations <= _exact(history, now_ms - span_ms - cell_ms).observations
    assert _exact(history, now_ms - span_ms).sum <= found.sum


def _exact(history: Added, since_ms: int) -> Total:
    inside = [(count, summed) for at_ms, count, summed in history if at_ms > since_ms]
    return Total(sum(count for count, _ in inside), sum(summed for _, summed in inside))


@few
@given(histories(), st.randoms(use_true_random=False))
def test_merging_parts_is_the_same_whatever_the_parts(history: Added, chance: random.Random) -> None:
    parts: list[Added] = [[], [], []]
    for each in history:
        chance.choice(parts).append(each)
    trailings = [kept(part) for part in parts]
    chance.shuffle(trailings)
    merged, right = Trailing(), Trailing()
    merge(right, trailings[1])
    merge(right, trailings[2])
    for each_part in (trailings[0], right):
        merge(merged, each_part)
    assert _content(merged) == _content(kept(history))


def _content(trailing: Trailing) -> list[list[tuple[int, tuple[int, int]]]]:
    return [sorted(cells.items()) for cells in trailing.rings]


def test_what_is_kept_is_bounded_and_survives_encoding() -> None:
    chance = random.Random(3)
    history = [
        (1_800_000_000_000 + turn * 7_000, chance.randint(0, 40), chance.randint(0, 9))
        for turn in range(20_000)
    ]
    trailing = kept(history)
    assert sum(len(cells) for cells in trailing.rings) <= sum(ring.cells + 1 for ring in RINGS)
    encoded = msgspec.msgpack.encode(trailing)
    assert len(encoded) < 1_600
    assert msgspec.msgpack.decode(encoded, type=Trailing) == trailing


def test_nothing_is_known_of_nothing() -> None:
    assert total(Trailing(), HOUR_MS) == Total(0, 0)
