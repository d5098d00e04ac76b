"""Calls that fail: what fails is named, and a provider's limit is not held against the agent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detectors.activity import Activity, ToolUse
from detectors.behaviour.error_rate import ErrorRate
from detectors.testing import run_windows, window
from detectors.windows import Window
from tests.detectors.behaviour.healthy import Fields, days


def failing(rate: float) -> Fields:
    def fields(sessions: int, _time: float, random: np.random.Generator) -> dict[str, Any]:
        errors = int(random.binomial(3 * sessions, rate))
        tools = {"search": ToolUse(3 * sessions, errors)}
        return {
            "tool_calls": 3 * sessions,
            "tool_errors": errors,
            "tools": tools,
            "llm_calls": 4 * sessions,
            "llm_errors": int(random.binomial(4 * sessions, 0.004)),
        }

    return fields


def steady(last: int) -> list[Window]:
    return [
        window(number, llm_calls=20, tool_calls=20, tool_errors=number % 3 == 0) for number in range(last)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_healthy_weeks_are_not_told_of(seed: int) -> None:
    assert run_windows(ErrorRate(), days(0, 14, seed, failing(0.02))) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_broken_tool_is_critical_and_named(seed: int) -> None:
    found = run_windows(ErrorRate(), days(0, 5, seed, failing(0.02)) + days(5, 7, seed, failing(0.4)))
    assert found[-1].severity == "critical"
    assert "the tool search" in found[-1].summary
    assert found[-1].sample_size <= 120


def model_fails(number: int, **fields: Any) -> Window:
    parts = {"model=gpt-4o;provider=openai": Activity(llm_calls=20, **fields), "": Activity(tool_calls=20)}
    return window(number, parts=parts)


def test_a_provider_that_fails_is_named() -> None:
    found = run_windows(ErrorRate(), [*steady(60), *(model_fails(at, llm_errors=8) for at in range(60, 66))])
    assert found[-1].severity == "critical"
    assert "model calls to openai" in found[-1].summary


def test_throttling_is_a_warning_until_other_calls_fail() -> None:
    throttled = [model_fails(at, llm_errors=8, throttled=8) for at in range(60, 80)]
    found = run_windows(ErrorRate(), [*steady(60), *throttled])
    assert [one.severity for one in found] == ["warning"]
    assert "throttling by openai" in found[0].summary
    assert "not the agent" in found[0].summary
    broken = [model_fails(at, llm_errors=8) for at in range(80, 90)]
    found = run_windows(ErrorRate(), [*steady(60), *throttled, *broken])
    assert [one.severity for one in found] == ["warning", "critical"]


def test_few_failures_are_no_matter_for_a_page() -> None:
    healthy = [window(number, llm_calls=100, llm_errors=number % 4 == 0) for number in range(60)]
    worse = [window(number, llm_calls=100, llm_errors=2) for number in range(60, 120)]
    assert [one.severity for one in run_windows(ErrorRate(), healthy + worse)] == ["warning"]
