"""Calls that take longer are found and attributed; another mix of tools or a daily rhythm is no change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detectors.activity import Moments, ToolUse
from detectors.behaviour.cost_per_session import CostPerSession
from detectors.behaviour.latency import Latency
from detectors.bins import count_in, log_bin
from detectors.testing import run_windows, window
from detectors.windows import Window
from schemas.detection import Detection


def bins_of(values: Any) -> dict[int, int]:
    bins: dict[int, int] = {}
    for value in values:
        count_in(bins, log_bin(float(value)))
    return bins


def calls(number: int, random: np.random.Generator, times: float = 1.0, **more: Any) -> Window:
    taken_ms = 900 * times * random.lognormal(0, 0.3, 8)
    first = Moments(8, int(8 * 400_000 * times), 0)
    usual = {"llm_calls": 8, "input_tokens": 8_000, "output_tokens": 800, "ttft_s": first}
    return window(number, llm_duration_bins=bins_of(taken_ms), **{**usual, **more})


def run(times: float, **more: Any) -> list[Detection]:
    random = np.random.default_rng(2)
    made = [calls(at, random) for at in range(100)]
    made += [calls(at, random, times, **more) for at in range(100, 140)]
    return run_windows(Latency(), made)


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        ({}, "the model or its provider"),
        ({"input_tokens": 40_000}, "the context grew, from 1,0"),
        ({"throttled": 2}, "rate limits, 25% of calls are throttled"),
        ({"output_tokens": 4_000}, "answers grew, from 10"),
    ],
)
def test_a_rise_is_attributed(more: dict[str, Any], cause: str) -> None:
    found = run(2.5, **more)
    assert found[-1].severity == "critical"
    assert found[-1].metric == "latency"
    assert found[-1].expected == pytest.approx(900, rel=0.1)
    assert found[-1].observed == pytest.approx(2_250, rel=0.15)
    assert cause in found[-1].summary


def test_a_rise_by_half_is_a_warning_and_a_fall_is_nothing() -> None:
    assert [one.severity for one in run(1.6)] == ["warning"]
    assert run(0.4) == []


def test_a_rise_after_a_lasting_fall_is_found() -> None:
    random = np.random.default_rng(2)
    made = [calls(at, random) for at in range(100)]
    made += [calls(at, random, 0.4) for at in range(100, 250)]
    made += [calls(at, random) for at in range(250, 300)]
    assert run_windows(Latency(), made) != []


@pytest.mark.parametrize("seed", range(4))
def test_a_daily_rhythm_and_a_few_outliers_are_no_alarm(seed: int) -> None:
    random = np.random.default_rng(seed)
    made = []
    for hour in range(24 * 12):
        rhythm = 1 + 0.3 * np.cos(2 * np.pi * hour / 24)
        slow = rhythm * (5 if random.random() < 0.02 else 1)
        each = calls(hour, random, slow)
        each.start_ms += hour * 3_590_000
        made.append(each)
    assert run_windows(Latency(), made) == []


def tools(number: int, random: np.random.Generator, **medians_ms: float) -> Window:
    uses = {
        name: ToolUse(4, 0, duration_bins=bins_of(median * random.lognormal(0, 0.4, 4)))
        for name, median in medians_ms.items()
    }
    return window(number, tools=uses, tool_calls=4 * len(uses))


def test_a_slow_tool_is_named_and_another_mix_of_tools_is_no_change() -> None:
    random = np.random.default_rng(2)
    made = [tools(at, random, search=60.0, run=4_000.0) for at in range(60)]
    made += [tools(at, random, run=4_000.0) for at in range(60, 160)]
    assert run_windows(Latency(), made) == []
    made += [tools(at, random, search=600.0, run=4_000.0) for at in range(160, 220)]
    found = run_windows(Latency(), made)
    assert found[-1].metric == "tool_latency"
    assert "search takes" in found[-1].summary


@pytest.mark.parametrize(
    ("calls_each", "tokens", "price", "cause"),
    [
        (6, 1_000, 1e-5, "calls a session rose from 2."),
        (2, 3_000, 1e-5, "tokens a call rose from 1,0"),
        (2, 1_000, 3e-5, "dollars a million tokens rose from 10."),
    ],
)
def test_what_sessions_cost_more_for_is_told(calls_each: int, tokens: int, price: float, cause: str) -> None:
    random = np.random.default_rng(2)

    def ended(number: int, calls_each: int, tokens: int, price: float) -> Window:
        usd = calls_each * tokens * price * random.lognormal(0, 0.5, 4)
        return window(
            number,
            session_cost_bins=bins_of(1e6 * usd),
            outcomes={"completed": 4},
            llm_calls=4 * calls_each,
            cost_known_calls=4 * calls_each,
            input_tokens=4 * calls_each * tokens,
            cost_usd_micro=int(4e6 * calls_each * tokens * price),
        )

    healthy = [ended(at, 2, 1_000, 1e-5) for at in range(240)]
    assert run_windows(CostPerSession(), healthy) == []
    dear = [ended(at, calls_each, tokens, price) for at in range(240, 300)]
    found = run_windows(CostPerSession(), healthy + dear)
    assert found[-1].severity == "critical"
    assert cause in found[-1].summary
    assert " and " not in found[-1].summary.partition(": ")[2]
