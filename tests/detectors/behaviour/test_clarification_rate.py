"""Asks about everything, or never asks; healthy weeks are not told of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detectors.behaviour.clarification_rate import ClarificationRate
from detectors.testing import run_windows, window
from tests.detectors.behaviour.healthy import Fields, days


def asking(rate: float) -> Fields:
    def fields(sessions: int, _time: float, random: np.random.Generator) -> dict[str, Any]:
        clarified = int(random.binomial(sessions, rate))
        return {"outcomes": {"completed": sessions}, "sessions_clarified": clarified}

    return fields


@pytest.mark.parametrize("seed", range(3))
def test_healthy_weeks_are_not_told_of(seed: int) -> None:
    assert run_windows(ClarificationRate(), days(0, 14, seed, asking(0.1))) == []


@pytest.mark.parametrize(("rate", "way", "most"), [(0.8, "up", 30), (0.0, "down", 250)])
@pytest.mark.parametrize("seed", range(2))
def test_both_sides_of_the_band_are_critical(seed: int, rate: float, way: str, most: int) -> None:
    found = run_windows(ClarificationRate(), days(0, 5, seed, asking(0.12)) + days(5, 8, seed, asking(rate)))
    assert found[-1].severity == "critical"
    assert f"{way} from" in found[-1].summary
    assert found[-1].sample_size <= most


def test_an_agent_that_never_asked_does_not_stop_asking() -> None:
    never = [window(number, outcomes={"completed": 20}) for number in range(300)]
    assert run_windows(ClarificationRate(), never) == []
