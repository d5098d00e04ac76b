"""The measure of delays: levels and delays come out right, streams are the same for all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.eval.delay import Plan, optimal, stream
from bench.eval.delay_changes import CHANGES, Change
from bench.eval.delay_levels import Delay, Optimum, delay, first_alarm, records, run_length, set_level
from bench.eval.delay_sides import OURS, SIDES, cusum
from bench.eval_delay import main

TINY = Plan(
    runs=4,
    null_runs=4,
    null_length=200,
    optimal_runs=20,
    references=(150, 200),
    others_reference=200,
    run_length=400,
    longest=400,
    processes=1,
)


def test_the_first_alarm_and_the_run_length_are_those_of_the_scores() -> None:
    runs = [records(np.array(scores)) for scores in ([0, 2.0, 1, 3], [0, 0, 0, 0], [5.0, 0, 9, 0])]
    assert [first_alarm(found, 2.0) for found in runs] == [1, None, 0]
    assert run_length(runs, 4, 2.0) == (2 + 4 + 1) / 2
    assert run_length(runs, 4, 100.0) is None


def test_the_level_is_the_least_of_the_run_length_asked_for() -> None:
    random = np.random.default_rng(1)
    runs = [records(row) for row in random.random((400, 300))]
    found = set_level(runs, 300, 100.0, default=0.9)
    # Independent scores: a run length of 100 is a chance of 1 %.
    assert found.level == pytest.approx(0.99, abs=0.002)
    assert found.run_length == pytest.approx(100.0, rel=0.05)
    assert found.default_run_length == pytest.approx(10.0, rel=0.2)


def test_runs_alarming_at_the_change_are_left_out_and_cut_ones_counted_as_missed() -> None:
    runs = [records(np.array(scores)) for scores in ([9.0, 9, 9], [0, 0, 9.0], [0, 0, 0])]
    found = delay(runs, 2, 5.0)
    assert (found.mean, found.missed) == (2.0, 0.5)


def test_a_mean_over_hard_streams_is_corrected_by_what_the_optimal_test_needed_there() -> None:
    random = np.random.default_rng(1)
    hardness = random.gamma(4.0, 5.0, 4_000)
    ours = np.round(2 * hardness + random.random(4_000) + 1)
    hard = np.flatnonzero(hardness > 15)[:40]
    runs = [records(np.append(np.zeros(int(ours[place])), 9.0)) for place in hard]
    optimum = Optimum(Delay(float(hardness.mean()), 0.0, 0.0), hardness[hard])
    plain, corrected = delay(runs, 1_000, 5.0), delay(runs, 1_000, 5.0, optimum)
    assert plain.mean > 1.1 * ours.mean()
    assert corrected.mean == pytest.approx(ours.mean(), rel=0.02)
    assert corrected.error < plain.error / 5


def test_the_optimal_test_needs_as_long_on_the_streams_all_see_as_on_many() -> None:
    plan = Plan(runs=200, optimal_runs=300, null_length=2_000, run_length=1_000)
    found = optimal(CHANGES[8], plan, 400)
    assert found.seen.shape == (200,)
    assert np.nanmean(found.seen) == pytest.approx(found.delay.mean, rel=0.15)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change.kind} {change.name}")
def test_the_optimal_gain_is_a_likelihood_ratio(change: Change) -> None:
    ratios = np.exp(change.gain(change.before.draw(np.random.default_rng(3), (200_000,))))
    assert np.mean(ratios) == pytest.approx(1.0, abs=5 * float(np.std(ratios)) / 200_000**0.5 + 1e-6)
    assert change.information() > 0


def test_streams_are_of_the_laws_and_the_same_again() -> None:
    change = CHANGES[3]
    values = stream(change, 5_000, 1, 5_000, healthy=False)
    assert values[:5_000].mean() == pytest.approx(0.02, abs=0.01)
    assert values[5_000:].mean() == pytest.approx(0.2, abs=0.03)
    np.testing.assert_array_equal(values, stream(change, 5_000, 1, 5_000, healthy=False))
    np.testing.assert_array_equal(values[5_000:], stream(change, 20, 1, 5_000, healthy=False)[20:])


def test_the_optimal_test_adds_gains_up_from_nought() -> None:
    np.testing.assert_allclose(cusum(np.array([[1.0, -3.0, 2.0, 1.0]])), [[1.0, -2.0, 2.0, 3.0]])


@pytest.mark.parametrize("kind", SIDES)
def test_every_side_scores_a_great_change_higher_than_none(kind: str) -> None:
    change = next(
        each for each in CHANGES if each.name in ("2% to 20%", "2 sd", "shift 1 sd") and each.kind == kind
    )
    for side in SIDES[change.kind]:
        healthy, changed = (
            side.scores(change, stream(change, 300, 1, 500, healthy=each), 300) for each in (True, False)
        )
        assert len(changed) == 500
        assert changed.max() >= healthy.max(), side.name
    assert OURS in SIDES[kind]


def test_the_page_the_figures_and_the_pictures_are_written(tmp_path: Path) -> None:
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    arguments = ["--page", str(page), "--figures", str(figures), "--plots", str(tmp_path / "plots")]
    assert main(arguments, TINY, [3, 9]) == 0
    found = json.loads(figures.read_bytes())
    rates = found["delay_rate"]["2% to 20%"]
    assert rates["Watchkeeper, 200"]["ratio"] == pytest.approx(
        rates["Watchkeeper, 200"]["delay"] / rates["optimal CUSUM"], abs=0.02
    )
    assert found["delay_mean"]["bar"]["of"] == 1
    text = page.read_text(encoding="utf-8")
    assert "| 2% to 20% |" in text
    assert "ADWIN (river)" in text
    for name in ("by-size.png", "example.png"):
        assert (tmp_path / "plots" / name).stat().st_size < 60_000
