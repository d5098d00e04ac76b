"""The benchmark's score, pinned on hand-made series: perfect is 100, silence 0, places and costs as told."""

from __future__ import annotations

import io
import json
import tarfile
from math import exp
from pathlib import Path

import numpy as np
import pytest

from bench.eval.nab import PROFILES, Floats, Series, evaluate, read, sigmoid
from bench.eval.nab_disturbed import DISTURBANCES, disturb
from bench.eval.nab_rivals import RIVALS, Metric, gaussian_episodes, windowed_gaussian
from bench.eval.nab_runs import Run, drawn, honesty
from bench.eval_nab import main

ROWS = 1_000
STANDARD, LOW_FP, LOW_FN = PROFILES["standard"], PROFILES["low-FP"], PROFILES["low-FN"]


def series(*windows: tuple[int, int], name: str = "made/up.csv", rows: int = ROWS) -> Series:
    return Series(name, tuple(300_000 * row for row in range(rows)), (0.0,) * rows, windows)


def scores(rows: int = ROWS, **given: float) -> Floats:
    found = np.zeros(rows)
    for row, score in given.items():
        found[int(row.removeprefix("at"))] = score
    return found


def worth(position: float) -> float:
    return 2 / (1 + exp(5 * position)) - 1


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_every_window_at_its_left_edge_and_nothing_else_is_100_and_silence_is_0(profile) -> None:
    corpus = [series((300, 399), (600, 699)), series()]
    assert evaluate(corpus, [scores(at300=1, at600=1), scores()], profile).score == pytest.approx(100)
    silent = evaluate(corpus, [scores(), scores()], profile)
    assert silent.score == 0
    assert silent.threshold == float("inf")


def test_a_detection_is_worth_what_its_place_in_the_window_says() -> None:
    corpus = [series((300, 399))]
    for row, position in ((300, -1.0), (350, -0.5), (399, -0.01)):
        found = evaluate(corpus, [scores(**{f"at{row}": 1})], STANDARD, threshold=0.5)
        assert found.score == pytest.approx(100 * (worth(position) / worth(-1.0) + 1) / 2)


def test_a_window_counts_once_by_its_best_detection() -> None:
    corpus = [series((300, 399))]
    once = evaluate(corpus, [scores(at320=1)], STANDARD, 0.5)
    often = evaluate(corpus, [scores(at320=1, at330=1, at399=1)], STANDARD, 0.5)
    assert often.score == once.score
    assert often.standings[0].false == 0


def test_a_false_detection_costs_less_just_behind_a_window_and_all_without_one_before() -> None:
    corpus = [series((300, 399))]
    for row, cost in (
        (299, 1.0),
        (449, -worth(50 / 99)),
        (400, -worth(1 / 99)),
        (399 + 297, 1.0),
        (999, 1.0),
    ):
        found = evaluate(corpus, [scores(at300=1, **{f"at{row}": 1})], STANDARD, 0.5)
        assert found.score == pytest.approx(100 * (2 - 0.11 * cost) / 2), row
        assert found.standings[0].false == 1


def test_a_false_detection_costs_twice_in_low_fp_and_a_miss_twice_in_low_fn() -> None:
    corpus = [series((300, 399), (600, 699))]
    given = [scores(at300=1, at200=1)]
    assert evaluate(corpus, given, STANDARD, 0.5).score == pytest.approx(100 * (2 - 0.11) / 4)
    assert evaluate(corpus, given, LOW_FP, 0.5).score == pytest.approx(100 * (2 - 0.22) / 4)
    assert evaluate(corpus, given, LOW_FN, 0.5).score == pytest.approx(100 * (3 - 0.11) / 6)


def test_probation_is_not_scored_and_is_750_rows_at_most() -> None:
    assert series(rows=1_001).probation == 150
    assert series(rows=20_000).probation == 750
    early = evaluate([series((300, 399))], [scores(at149=1, at300=1)], STANDARD, 0.5)
    assert early.score == pytest.approx(100)
    later = evaluate([series((300, 399))], [scores(at150=1, at300=1)], STANDARD, 0.5)
    assert later.score < 100


def test_one_threshold_is_chosen_for_the_whole_corpus_and_anew_for_each_profile() -> None:
    corpus = [series((300, 399)), series()]
    noise = {f"at{row}": 0.5 for row in range(500, 530)}
    given = [scores(at300=0.4), scores(**noise)]
    standard = evaluate(corpus, given, STANDARD)
    assert standard.score == 0
    assert standard.threshold == float("inf")
    low_fn = evaluate(corpus, [scores(at300=0.4), scores(**dict(list(noise.items())[:15]))], LOW_FN)
    assert low_fn.threshold == 0.4
    assert low_fn.score == pytest.approx(100 * (3 - 15 * 0.11) / 3)


def test_the_chosen_threshold_is_the_best_of_all() -> None:
    random = np.random.default_rng(5)
    corpus = [series((300, 399), (600, 640)), series((200, 220)), series()]
    given = [np.where(random.random(ROWS) < 0.05, random.integers(1, 40, ROWS) / 40, 0.0) for _ in corpus]
    for profile in PROFILES.values():
        tried = [evaluate(corpus, given, profile, step / 40).score for step in range(1, 41)]
        assert evaluate(corpus, given, profile).score == pytest.approx(max(0.0, *tried))


def test_the_scaled_sigmoid_has_the_benchmarks_values() -> None:
    assert [round(float(sigmoid(position)), 5) for position in (-1.0, -0.5, 0.0, 1.0)] == [
        0.98661,
        0.84828,
        0.0,
        -0.98661,
    ]


def archive(folder: Path, name: str, values: list[float], windows: list[tuple[int, int]]) -> Path:
    times = [f"2026-01-{1 + row // 24:02d} {row % 24:02d}:00:00" for row in range(len(values))]
    rows = [f"{time},{value}" for time, value in zip(times, values, strict=True)]
    labels = {name: [[f"{times[a]}.000000", f"{times[b]}.000000"] for a, b in windows]}
    files = {
        f"data/{name}": "\n".join(["timestamp,value", *rows]) + "\n",
        "labels/combined_windows.json": json.dumps(labels),
    }
    with tarfile.open(folder / "nab.tar.gz", "w:gz") as tar:
        for path, text in files.items():
            member = tarfile.TarInfo(f"./{path}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return folder / "nab.tar.gz"


def test_series_are_read_from_the_archive_with_windows_as_rows(tmp_path: Path) -> None:
    (found,) = read(archive(tmp_path, "made/up.csv", [1.0, 2.0, 3.0, 4.0], [(1, 2)]))
    assert found.name == "made/up.csv"
    assert found.category == "made"
    assert found.values == (1.0, 2.0, 3.0, 4.0)
    assert found.windows == ((1, 2),)
    assert found.times_ms[1] - found.times_ms[0] == 3_600_000


def made_up(folder: Path) -> None:
    random = np.random.default_rng(3)
    values = random.normal(size=400).round(3).tolist()
    values[300] = 25.0
    (folder / "nab").mkdir()
    archive(folder / "nab", "made/up.csv", values, [(290, 310)])


def test_a_run_writes_its_block_its_figures_and_a_picture(tmp_path: Path, capsys) -> None:
    made_up(tmp_path)
    page, figures = tmp_path / "evaluation.md", tmp_path / "eval_nab.json"
    places = ["--page", str(page), "--figures", str(figures), "--pictures", str(tmp_path / "pictures")]
    assert main([str(tmp_path), "--drawn", "2", "--noise-rows", "400", *places]) == 0
    written = json.loads(figures.read_bytes())
    assert written["scores"]["Watchkeeper"]["standard"]["score"] > 70
    assert written["categories"]["series"]["made/up.csv"]["found"] == 1
    assert "<!-- nab -->" in page.read_text()
    assert "(nab/made.png)" in page.read_text()
    assert (tmp_path / "pictures" / "made.png").read_bytes().startswith(b"\x89PNG")
    assert "standard: " in capsys.readouterr().out


def test_without_data_it_says_what_to_give(tmp_path: Path, capsys) -> None:
    assert main([str(tmp_path)]) == 1
    assert "give the folder that holds it" in capsys.readouterr().err


def test_a_category_left_out_is_scored_by_what_is_best_on_the_others() -> None:
    corpus = [series((300, 399), name="a/1.csv"), series((300, 399), name="b/1.csv")]
    good_on_a = Run([scores(at300=0.9), scores(at399=0.9, at800=0.9)], 1.0)
    good_on_b = Run([scores(at800=0.8), scores(at300=0.9)], 1.0)
    found = honesty(corpus, [good_on_a, good_on_b], STANDARD)
    assert found.left_out["b"] == pytest.approx(1 + worth(-0.01) / worth(-1.0) - 0.11, abs=1e-6)
    assert found.left_out["a"] == pytest.approx(0.0)
    assert len(found.drawn) == 2


def test_drawn_parameters_are_near_the_own_ones_and_the_same_every_time() -> None:
    first, second = list(drawn(3, 2.0)), list(drawn(3, 2.0))
    assert first == second
    for _, detector in first:
        assert isinstance(detector, Metric)
        own = Metric().test
        assert own.views.fast / 2 <= detector.test.views.fast <= own.views.fast * 2
        assert (1 - own.tails.quantile) / 2 <= 1 - detector.test.tails.quantile


def test_every_rival_scores_every_row_and_a_spike_above_the_rest() -> None:
    random = np.random.default_rng(2)
    values = random.normal(size=900)
    values[800] = 30.0
    given = Series("a/1.csv", tuple(300_000 * row for row in range(900)), tuple(values.tolist()), ())
    for name, detector in {**RIVALS, "ours": Metric()}.items():
        found = detector(given)
        assert found.shape == (900,), name
        assert (found >= 0).all(), name
    for detector in (windowed_gaussian, gaussian_episodes, Metric()):
        assert int(detector(given)[200:].argmax()) == 600


def test_a_disturbed_series_keeps_its_windows_where_its_values_are() -> None:
    values = [0.0] * ROWS
    values[500] = 100.0
    given = Series("a/1.csv", tuple(300_000 * row for row in range(ROWS)), tuple(values), ((490, 510),))
    for name in DISTURBANCES:
        (found,) = disturb([given], name)
        peak = int(np.abs(np.array(found.values)).argmax())
        assert len(found.values) == len(found.times_ms), name
        assert found.window_of[peak] == 0, name
        assert found.times_ms[peak] == given.times_ms[500], name
