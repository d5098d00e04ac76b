"""Verdicts on a new version are false no more often than they say, at whatever time they are read."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from detectors.sequential.comparison import MeanComparison, RateComparison, Side, Sides, Verdict


def verdicts(test: RateComparison, old: float, new: float, seed: int, batches: int) -> list[Verdict]:
    random, state, found = np.random.default_rng(seed), Sides(), []
    for _ in range(batches):
        test.update(state, "old", 40, int(random.binomial(40, old)))
        found.append(test.update(state, "new", 40, int(random.binomial(40, new))).verdict)
    return found


@pytest.mark.parametrize("rate", [0.02, 0.9])
def test_equal_versions_are_seldom_ever_told_apart(rate: float) -> None:
    test = RateComparison(margin=0.005, error=0.1)
    wrong = sum(bool({"better", "worse"} & set(verdicts(test, rate, rate, seed, 60))) for seed in range(40))
    assert wrong <= 4


def test_versions_beyond_the_margin_are_seldom_called_the_same() -> None:
    test = RateComparison(margin=0.05, error=0.1)
    assert sum("same" in verdicts(test, 0.8, 0.745, seed, 60) for seed in range(40)) <= 4


def test_equal_versions_are_the_same_in_time_and_unknown_before() -> None:
    found = verdicts(RateComparison(margin=0.05), 0.9, 0.9, 1, 200)
    assert (found[0], found[-1]) == ("not yet known", "same")


@pytest.mark.parametrize(("higher_is_better", "verdict"), [(True, "worse"), (False, "better")])
def test_a_fall_is_worse_or_better(higher_is_better: bool, verdict: Verdict) -> None:
    found = verdicts(RateComparison(higher_is_better=higher_is_better), 0.9, 0.75, 1, 30)
    assert set(found) == {"not yet known", verdict}
    assert found[-1] == verdict


def test_bursts_of_alike_observations_need_more() -> None:
    state, apart = Sides(), RateComparison(dispersion=4.0)
    apart.update(state, "old", 1_000, 900)
    assert apart.update(state, "new", 200, 150).verdict == "not yet known"
    assert RateComparison().update(state, "new", 1, 1).verdict == "worse"


def test_means_of_scores_are_told_apart_no_more_often_than_said() -> None:
    test, wrong, right = MeanComparison(error=0.1), 0, 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        for new, told in ((2.0, "false"), (3.0, "true")):
            state, found = Sides(), set()
            for _ in range(40):
                sides: tuple[tuple[Side, float], ...] = (("old", 2.0), ("new", new))
                for side, other in sides:
                    scores = random.beta(8, other, 10)
                    verdict = test.update(state, side, 10, float(scores.sum()), float((scores**2).sum()))
                    found.add(verdict.verdict)
            if told == "false":
                wrong += bool(found & {"better", "worse"})
            else:
                right += "worse" in found and "better" not in found
    assert wrong <= 4
    assert right == 40


def test_nothing_is_known_of_nothing_and_the_state_survives_encoding() -> None:
    state = Sides()
    assert RateComparison().update(state, "new", 10, 5)[:3] == ("not yet known", None, 0.5)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=Sides) == state
