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
