"""Onsets are few however long it runs, and nothing is lost while they are joined."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.sequential import onsets
from detectors.sequential.distribution import DistributionChange
from detectors.sequential.evidence import effective, since_and_before
from detectors.sequential.mean import MeanChange
from detectors.sequential.onsets import BLOCK, History, Spans
from detectors.sequential.rate import RateChange

Batches = list[tuple[int, int]]
BATCHES = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 5)), min_size=1, max_size=80)


def taken(batches: Sequence[tuple[float, float]], spans: Spans) -> History:
    history = History()
    for at, (count, hits) in enumerate(batches):
        onsets.take(history, spans, at, (count, min(count, hits)))
    return history


@settings(max_examples=40, deadline=None)
@given(BATCHES, st.sampled_from((50, 8_000)))
def test_nothing_is_lost_while_stretches_are_joined(batches: Batches, horizon: int) -> None:
    history = taken(batches, Spans(horizon=horizon))
    sums = onsets.known(history)
    assert sums[:2] == [sum(count for count, _ in batches), sum(min(each) for each in batches)]
    assert [each.began for each in history.recent] == sorted(each.began for each in history.recent)
    assert sums[3] <= len(batches)


@settings(max_examples=40, deadline=None)
@given(BATCHES)
def test_of_each_onset_what_came_since_and_before_is_everything(batches: Batches) -> None:
    history = taken(batches, Spans(horizon=200))
    since, before = since_and_before(history)
    np.testing.assert_allclose((since + before)[:, :2], np.tile(onsets.known(history)[:2], (len(since), 1)))


def test_restarting_keeps_what_was_before_and_forgets_the_rest() -> None:
    history = taken([(10, 1)] * 50, Spans())
    began = history.recent[10].began
    kept = sum(each.sums[0] for each in history.recent[:10])
    onsets.restart(history, Spans(), began)
    assert (history.recent, history.reference[0]) == ([], kept)


def test_the_reference_forgets_beyond_its_memory_and_the_frozen_one_stays() -> None:
    spans = Spans(horizon=100, memory=500, freeze=200)
    history = taken([(10, 0)] * 60, spans)
    frozen = list(history.frozen)
    for at in range(60, 400):
        onsets.take(history, spans, at, (10, 5))
    assert history.frozen == frozen
    assert 200 <= frozen[0] < 300
    assert history.reference[0] == 500
    assert history.reference[1] > 240


def test_what_is_alike_in_bursts_counts_for_fewer() -> None:
    random = np.random.default_rng(2)
    for copies in (1, 8):
        history = History()
        for at, hit in enumerate(random.random(8_000 // copies) < 0.1):
            onsets.take(history, Spans(), at, (copies, copies * int(hit)))
        since, before = since_and_before(history)
        rate = before[-1:, 1] / before[-1:, 0]
        fewer, _ = effective(since[-1:], before[-1:], rate * (1 - rate))
        assert since[-1, 0] / fewer[0, 0] == pytest.approx(copies, rel=0.3)


@pytest.mark.parametrize("size", [1, 7, BLOCK, 1_000])
def test_states_are_small_and_survive_encoding(size: int) -> None:
    random = np.random.default_rng(3)
    rate, mean, distribution = RateChange("both"), MeanChange(), DistributionChange(20)
    states = rate.State(), mean.State(), distribution.State()
    for at in range(800):
        values = random.normal(0.5, 0.2, size)
        at_ms = 1_700_000_000_000 + at * 10_000
        rate.update(states[0], size, int((values > 0.9).sum()), at_ms)
        mean.update(states[1], size, float(values.sum()), float((values**2).sum()), at_ms)
        if at < 300:
            bins = np.bincount(np.clip(values * 20, 0, 19).astype(int), minlength=20)
            distribution.update(states[2], bins.tolist(), at_ms)
    for state, most in zip(states, (2_500, 3_400, 3_600), strict=True):
        encoded = msgspec.msgpack.encode(state)
        assert len(encoded) < most
        assert msgspec.msgpack.decode(encoded, type=type(state)) == state


@settings(max_examples=40, deadline=None)
@given(BATCHES, st.sampled_from((50, 8_000)))
def test_whole_sums_are_kept_as_whole_numbers(batches: Batches, horizon: int) -> None:
    history = taken([(float(count), float(hits)) for count, hits in batches], Spans(horizon=horizon))
    kept = [each for stretch in history.recent for each in stretch.sums]
    assert not [each for each in kept if isinstance(each, float) and each.is_integer()]


@pytest.mark.parametrize("extreme", [1e300, -1e300, 2.0**63])
def test_sums_too_large_for_a_whole_number_are_kept_as_they_are(extreme: float) -> None:
    history = History()
    for at in range(20):
        onsets.take(history, Spans(), at, (4, extreme, 1.0))
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(history), type=History)
    assert decoded == history
    assert onsets.known(decoded)[1] == pytest.approx(20 * extreme)


def test_a_rate_whose_hits_are_rare_takes_little_room() -> None:
    random = np.random.default_rng(4)
    test, state = RateChange("both"), RateChange.State()
    for at in range(2_000):
        test.update(state, 20.0, float(random.binomial(20, 0.005)), 1_700_000_000_000 + at * 10_000)
    assert len(msgspec.msgpack.encode(state)) < 1_500
