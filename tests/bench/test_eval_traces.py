"""Model swaps on made-up answers: the model is hidden, and delays count from the swap."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.eval import swaps
from bench.eval.swaps import Alarm, Outcome, embed, events, load, plan, play
from bench.eval.swaps_page import changes, section_of_swaps
from bench.eval_traces import main
from schemas.event import AGENT_EVENT

QUESTIONS = 120


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Old: right nine times in ten, in about 40 tokens. New: right in half, and in about 10."""
    rng = np.random.default_rng(3)
    (tmp_path / "traces").mkdir()
    with gzip.open(tmp_path / "traces" / swaps.FILE, "wt", encoding="utf-8") as file:
        for regime, right, tokens in (("old", 0.9, 40), ("new", 0.5, 10)):
            for number in range(QUESTIONS):
                line = {
                    "trace_id": f"prime_full/{number}/gpt-4-{regime}",
                    "model": f"gpt-4-{regime}",
                    "args": {"query": f"Is {number} prime?"},
                    "tokens_out": int(rng.poisson(tokens)),
                    "latency_s": float(rng.lognormal(0, 0.2)),
                    "cost": 0.001,
                    "content": "I cannot answer that." if rng.random() < 0.01 else f"{regime} answer",
                    "label": {
                        "task": "prime_full",
                        "family": "gpt-4",
                        "regime": regime,
                        "correct": bool(rng.random() < right),
                    },
                }
                file.write(json.dumps(line) + "\n")
    return tmp_path


@pytest.fixture
def case(data: Path) -> swaps.Case:
    (case,) = load(data / "traces" / swaps.FILE)
    return case


def test_models_labels_and_contents_are_not_in_the_events(case: swaps.Case) -> None:
    shown = json.dumps([event for _, event in events(plan(case, "swap", 0))], default=str)
    for hidden in ("gpt", "regime", "old", "new", "prime", "answer"):
        assert hidden not in shown


def test_events_are_valid_in_order_and_unique(case: swaps.Case) -> None:
    parsed = [AGENT_EVENT.validate_python(event) for _, event in events(plan(case, "swap", 1))]
    times = [event.time_ms for event in parsed]
    assert times == sorted(times)
    assert len({event.event_id for event in parsed}) == len(parsed)
    assert {event.type for event in parsed} >= {"llm.call", "canary", "evaluation"}


def test_a_swap_is_old_then_new_and_a_control_old_then_old(case: swaps.Case) -> None:
    swap, control = plan(case, "swap", 4), plan(case, "control", 4)
    assert QUESTIONS // 2 <= swap.onset < QUESTIONS
    assert all(answer in case.old for answer in (*swap.answers[: swap.onset], *control.answers))
    assert sorted(swap.answers[swap.onset :]) == sorted(case.new)
    assert sorted(control.answers[control.onset :]) == sorted(case.old)
    assert swap != plan(case, "swap", 5)
    assert plan(case, "swap", 4) == swap
    recorded = plan(case, "recorded", 0)
    assert (recorded.answers, recorded.onset) == (case.old, len(case.old))


def test_canaries_pass_before_the_swap_and_are_judged_by_the_new_model_after(case: swaps.Case) -> None:
    before: list[bool] = []
    after: list[bool] = []
    run = plan(case, "swap", 2)
    for calls, event in events(run):
        if event["type"] == "canary":
            (after if calls > run.onset else before).append(event["passed"])
    assert all(before)
    assert 0.2 < np.mean(after) < 0.8
    control = plan(case, "control", 2)
    assert all(event["passed"] for _, event in events(control) if event["type"] == "canary")


def test_what_really_changed_is_told_by_tests_on_the_labels(case: swaps.Case) -> None:
    real = {change.quantity: change.real for change in changes(case)}
    assert real == {"output tokens": True, "latency, s": False, "refused": False, "correct": True}


def outcome(variant: swaps.Variant, *alarms: tuple[str, str, int], onset: int = 10) -> Outcome:
    told = [Alarm(detector, severity, calls, "said") for detector, severity, calls in alarms]
    return Outcome("case", variant, 0, onset, [2] * 30, [1.0] * 30, [False] * 30, told)


def test_an_alarm_before_the_swap_finds_nothing_and_tokens_count_from_it() -> None:
    run = outcome("swap", ("latency", "critical", 10), ("latency", "info", 11), ("latency", "warning", 14))
    found = run.first(lambda name: name == "latency", ("warning", "critical"))
    assert found is not None
    assert (run.delay(found), run.tokens(found)) == (4, 8)
    assert run.first(lambda name: name == "latency", ("critical",)) is None
    assert run.first(lambda name: name == "canary", ("warning",)) is None


def test_the_bar_asks_for_every_run_of_every_changed_swap() -> None:
    found = outcome("swap", ("judge_score", "critical", 20))
    control = outcome("control", ("latency", "warning", 3))
    section = section_of_swaps([found, control], {"case"})
    assert list(section.figures["met"].values()) == [False, True]
    assert section.figures["case, calls alone"]["found"] == 0.0
    assert section.figures["case, calls alone"]["controls_with_a_warning"] == 1
    missed = section_of_swaps([found, outcome("swap"), control], {"case"})
    assert not any(missed.figures["met"].values())
    assert all(section_of_swaps([outcome("swap"), control], set()).figures["met"].values())


def test_a_run_goes_through_the_engine(case: swaps.Case) -> None:
    run = play(plan(case, "swap", 0))
    assert len(run.output_tokens) == run.onset + QUESTIONS
    assert all(0 < alarm.calls <= len(run.output_tokens) for alarm in run.alarms)


def test_embeddings_are_of_length_one_and_alike_for_alike_words() -> None:
    one, same, other = embed("the cat sat"), embed("The CAT sat"), embed("stock markets fell on Monday")
    assert one == same
    assert np.dot(one, one) == pytest.approx(1, abs=1e-3)
    assert np.dot(one, other) < 0.9
    assert embed("") == []


def test_the_block_the_figures_and_the_plot_are_written(data: Path, tmp_path: Path) -> None:
    page, figures, plot = tmp_path / "page.md", tmp_path / "figures.json", tmp_path / "plot.png"
    given = [str(data), "--seeds", "1", "--jobs", "1", "--page", str(page), "--figures", str(figures)]
    assert main([*given, "--plot", str(plot)]) == 0
    found = json.loads(figures.read_bytes())
    assert found["changes"] == {"gpt-4, prime": ["output tokens", "correct"]}
    assert found["swaps"]["gpt-4, prime, calls alone"]["runs"] == 1
    assert "XSTest is not evaluated for want of xstest.jsonl.gz" in page.read_text(encoding="utf-8")
    assert plot.stat().st_size < 60_000


def test_without_data_it_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--page", str(tmp_path / "p")]) == 1
    assert "give the folder that holds it" in capsys.readouterr().err


def lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_every_line_is_an_answer(data: Path, case: swaps.Case) -> None:
    assert len(lines(data / "traces" / swaps.FILE)) == len(case.old) + len(case.new)
