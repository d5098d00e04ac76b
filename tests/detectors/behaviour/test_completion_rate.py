"""Sessions that no longer complete, and what they end as instead; healthy weeks are not told of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detectors.behaviour.completion_rate import CompletionRate
from detectors.testing import run_windows, window
from tests.detectors.behaviour.healthy import Fields, days


def completing(rate: float, instead: str) -> Fields:
    def fields(sessions: int, _time: float, random: np.random.Generator) -> dict[str, Any]:
        completed = int(random.binomial(sessions, rate))
        return {"outcomes": {"completed": completed, instead: sessions - completed}}

    return fields


@pytest.mark.parametrize("seed", range(3))
def test_healthy_weeks_are_not_told_of(seed: int) -> None:
    assert run_windows(CompletionRate(), days(0, 14, seed, completing(0.92, "failed"))) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_fall_is_critical_and_names_what_comes_instead(seed: int) -> None:
    healthy = days(0, 5, seed, completing(0.92, "failed"))
    found = run_windows(CompletionRate(), healthy + days(5, 8, seed, completing(0.6, "abandoned")))
    assert found[-1].severity == "critical"
    assert "abandoned" in found[-1].summary
    assert found[-1].sample_size <= 60
    assert found[-1].suggested is not None
    assert (found[-1].suggested.mode, found[-1].suggested.ladder) == ("degrade", "rag")


def test_a_small_fall_is_a_warning() -> None:
    healthy = [window(number, outcomes={"completed": 58, "failed": 2}) for number in range(80)]
    fallen = [window(number, outcomes={"completed": 55, "failed": 5}) for number in range(80, 140)]
    assert [one.severity for one in run_windows(CompletionRate(), healthy + fallen)] == ["warning"]
