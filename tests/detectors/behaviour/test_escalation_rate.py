"""Everything is handed on, all at once or little by little; healthy weeks are not told of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detectors.behaviour.escalation_rate import EscalationRate
from detectors.testing import run_windows, window
from tests.detectors.behaviour.healthy import Fields, days


def escalating(rate: float) -> Fields:
    def fields(sessions: int, _time: float, random: np.random.Generator) -> dict[str, Any]:
        escalated = int(random.binomial(sessions, rate))
        return {"outcomes": {"completed": sessions}, "sessions_escalated": escalated}

    return fields


@pytest.mark.parametrize("seed", range(3))
def test_healthy_weeks_are_not_told_of(seed: int) -> None:
    assert run_windows(EscalationRate(), days(0, 14, seed, escalating(0.08))) == []


@pytest.mark.parametrize("seed", range(3))
def test_everything_handed_on_is_critical_within_a_day_and_told_once(seed: int) -> None:
    found = run_windows(
        EscalationRate(), days(0, 5, seed, escalating(0.08)) + days(5, 8, seed, escalating(0.85))
    )
    assert found[-1].severity == "critical"
    assert found[-1].sample_size <= 30
    assert [one.severity for one in found] in (["critical"], ["warning", "critical"])
    assert found[-1].suggested is None


def test_a_rise_too_small_for_those_who_take_over_is_a_warning() -> None:
    healthy = [window(number, outcomes={"completed": 50}, sessions_escalated=1) for number in range(80)]
    risen = [window(number, outcomes={"completed": 50}, sessions_escalated=3) for number in range(80, 160)]
    assert [one.severity for one in run_windows(EscalationRate(), healthy + risen)] == ["warning"]


def test_evidence_is_of_the_escalations() -> None:
    healthy = [window(number, outcomes={"completed": 20}, sessions_escalated=1) for number in range(40)]
    risen = [
        window(number, outcomes={"completed": 20}, sessions_escalated=15, samples={"escalation": ["e1"]})
        for number in range(40, 43)
    ]
    found = run_windows(EscalationRate(), healthy + risen)[-1]
    assert found.evidence.event_ids == ["e1"]
    assert found.onset is not None
    assert found.onset < found.time
