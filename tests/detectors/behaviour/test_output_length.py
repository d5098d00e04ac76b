"""A changed length or spread of answers is found at any sample size, and chance is not taken for it."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.behaviour.output_length import DIVERGENCE, OutputLength
from detectors.bins import count_in, length_bin
from detectors.testing import run_windows, window
from detectors.windows import Window


def answered(number: int, tokens: list[float]) -> Window:
    bins: dict[int, int] = {}
    for each in tokens:
        count_in(bins, length_bin(int(each)))
    return window(number, output_tokens_bins=bins)


def answers(random: np.random.Generator, count: int, median: float, spread: float = 0.4) -> list[float]:
    drawn: list[float] = random.lognormal(np.log(median), spread, count).tolist()
    return drawn


@pytest.mark.parametrize("seed", range(6))
def test_answers_half_as_long_again_are_found_within_150(seed: int) -> None:
    random = np.random.default_rng(seed)
    made = [answered(at, answers(random, 8, 120)) for at in range(120)]
    made += [answered(at, answers(random, 8, 180)) for at in range(120, 140)]
    found = run_windows(OutputLength(), made)
    assert found
    assert found[0].time >= found[0].onset
    assert found[0].metric == "kl_divergence"
    assert found[0].observed is not None
    assert found[0].observed >= DIVERGENCE
    assert "became longer" in found[0].summary


def test_answers_of_five_tokens_that_become_twelve_are_found() -> None:
    made = [answered(at, [5.0, 5.0, 6.0, 4.0]) for at in range(120)]
    made += [answered(at, [12.0, 12.0, 11.0, 13.0]) for at in range(120, 160)]
    (first, *_) = run_windows(OutputLength(), made)
    assert "became longer" in first.summary


def test_the_same_mean_of_another_spread_is_found() -> None:
    random = np.random.default_rng(1)
    made = [answered(at, answers(random, 8, 200, 0.15)) for at in range(120)]
    made += [answered(at, answers(random, 8, 200, 0.8)) for at in range(120, 160)]
    assert run_windows(OutputLength(), made)


@pytest.mark.parametrize("a_window", [1, 5, 40])
@pytest.mark.parametrize("seed", range(3))
def test_identical_distributions_are_no_alarm_at_any_sample_size(seed: int, a_window: int) -> None:
    random = np.random.default_rng(seed)
    made = [answered(at, answers(random, a_window, 150, 0.6)) for at in range(300)]
    assert run_windows(OutputLength(), made) == []


def test_sessions_of_alike_answers_are_no_alarm() -> None:
    random = np.random.default_rng(4)
    made = [answered(at, answers(random, 24, 150 * random.lognormal(0, 0.5), 0.2)) for at in range(400)]
    assert run_windows(OutputLength(), made) == []


def test_answers_of_one_bin_are_no_alarm_until_they_are_of_another() -> None:
    random = np.random.default_rng(4)
    made = [answered(at, random.uniform(5, 15, 8).tolist()) for at in range(200)]
    assert run_windows(OutputLength(), made) == []
    made += [answered(at, random.uniform(60, 120, 8).tolist()) for at in range(200, 210)]
    assert run_windows(OutputLength(), made)[-1].severity == "critical"
