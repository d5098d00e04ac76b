"""slo_burn: missed objectives are found though nothing errored, and handfuls of observations say nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from detectors.activity import Activity, Moments
from detectors.behaviour.slo_burn import SloBurn
from detectors.bins import count_in, log_bin
from detectors.burn_rate import RULES
from detectors.objectives import Objective, observed
from detectors.testing import START_MS, Goal, run_windows, window
from detectors.windows import Window
from schemas.detection import Detection

ANSWERS = Goal("answers", "completion_rate", 0.95)
MINUTE_MS = 60_000


def windows(*stretches: tuple[int, int, int], gap_ms: int = MINUTE_MS) -> list[Window]:
    """Frames, each with some sessions of which some fail: (how many frames, sessions, failed)."""
    turns = [(sessions, failed) for frames, sessions, failed in stretches for _ in range(frames)]
    return [
        window(
            0,
            start_ms=START_MS + number * gap_ms,
            outcomes={"completed": sessions - failed, "abandoned": failed},
        )
        for number, (sessions, failed) in enumerate(turns)
    ]


def found_in(shown: list[Window], *goals: Objective, **options: Any) -> list[Detection]:
    return run_windows(SloBurn(goals or (ANSWERS,)), shown, **options)


def severities(found: list[Detection]) -> list[str]:
    return [one.severity for one in found]


def test_a_breach_is_critical_within_the_hour_though_nothing_errored() -> None:
    found = found_in(windows((600, 10, 0), (60, 10, 9)))
    assert severities(found) == ["warning", "critical"]
    critical = found[-1]
    assert (critical.time.timestamp() * 1000 - START_MS) / MINUTE_MS < 660
    assert critical.metric == "completion_rate"
    assert "answers" in critical.summary
    assert "budget" in critical.summary


def test_a_slow_burn_is_a_warning_and_told_once() -> None:
    found = found_in(windows((3_000, 10, 1)))
    assert severities(found) == ["warning"]
    assert found[0].observed == pytest.approx(0.9, abs=0.01)
    assert "is used up" in found[0].summary


def test_remaining_budget_is_that_of_the_whole_window() -> None:
    [found] = found_in(windows((5_000, 10, 0), (60, 10, 9)))[-1:]
    assert "% of the error budget is left for 28 days" in found.summary


@pytest.mark.parametrize("sessions", [1, 2, 3, 5])
def test_a_handful_of_failures_says_nothing(sessions: int) -> None:
    assert found_in(windows((1, sessions, sessions))) == []


def test_meeting_the_objective_exactly_is_silent() -> None:
    alarms = 0
    for seed in range(6):
        chance = np.random.default_rng(seed)
        shown = [
            window(
                0,
                start_ms=START_MS + number * 10 * MINUTE_MS,
                outcomes={"completed": 12 - bad, "failed": bad},
            )
            for number, bad in enumerate(int(each) for each in chance.binomial(12, 0.05, 144 * 14))
        ]
        alarms += len(found_in(shown))
    assert alarms == 0, "6 agents, two weeks, right on their objective"


def test_after_recovery_a_new_breach_is_told_again() -> None:
    found = found_in(windows((600, 10, 0), (60, 10, 9), (4_000, 10, 0), (60, 10, 9)))
    assert severities(found).count("critical") == 2
    assert len({one.detection_id for one in found}) == len(found)


def test_a_restart_changes_nothing() -> None:
    shown = windows((60, 10, 0), (40, 10, 9), (30, 10, 0))
    straight = [one.detection_id for one in found_in(shown)]
    assert straight
    for cut in (10, 61, 70, 110):
        assert [one.detection_id for one in found_in(shown, restart_at=cut)] == straight


def test_only_agents_that_are_held_to_it_are_judged() -> None:
    class Elsewhere(Goal):
        def applies(self, _tenant: str, agent: str) -> bool:
            return agent == "other"

    assert found_in(windows((60, 10, 9)), Elsewhere("answers", "completion_rate", 0.95)) == []
    assert run_windows(SloBurn(), windows((60, 10, 9))) == []


def test_an_objective_that_changes_starts_anew() -> None:
    state = SloBurn.State()
    assert state.burning == {}
    before = SloBurn((ANSWERS,))
    after = SloBurn((Goal("answers", "completion_rate", 0.9),))
    for detector in (before, after):
        _update(detector, state, windows((1, 10, 1))[0])
        assert len(state.burning) == 1


def _update(detector: SloBurn, state: SloBurn.State, shown: Window) -> dict[str, Any]:
    from detectors.base import Source, WindowContext

    context = WindowContext()
    context.tenant, context.agent, context.session = shown.tenant, shown.agent, None
    context.time_ms, context.event_id, context.from_offset = shown.end_ms, "", 0
    context.source = Source("agent.windows", 0, 0)
    context.activity, context.standings = shown.total(), {}
    list(detector.update(state, shown, context))
    return context.standings


def test_that_it_cannot_be_told_yet_is_not_health() -> None:
    detector, state = SloBurn((ANSWERS,)), SloBurn.State()
    verdicts = [_update(detector, state, each)["slo_burn"].verdict for each in windows((20, 10, 0))]
    assert verdicts[0] == "cannot tell"
    assert verdicts[-1] == "healthy"


def test_state_is_small() -> None:
    detector, state = SloBurn((ANSWERS,)), SloBurn.State()
    month = windows((2_100, 10, 1), gap_ms=20 * MINUTE_MS)
    for each in (*month, *_after(month[-1], windows((800, 10, 1), gap_ms=MINUTE_MS // 2))):
        _update(detector, state, each)
    assert len(msgspec.msgpack.encode(state)) < 1_400


def _after(last: Window, shown: list[Window]) -> list[Window]:
    for each in shown:
        each.start_ms += last.end_ms - START_MS
    return shown


@pytest.mark.parametrize(
    ("goal", "activity", "count", "bad"),
    [
        (ANSWERS, Activity(outcomes={"completed": 7, "escalated": 2}), 9, 2.0),
        (Goal("e", "error_rate", 0.9), Activity(llm_calls=6, tool_calls=4, tool_errors=3), 10, 3.0),
        (Goal("r", "refusal_rate", 0.9), Activity(llm_calls=6, refusals_known=4, refusals=1), 4, 1.0),
        (
            Goal("g", "evaluation:groundedness", 0.9),
            Activity(evaluations={"groundedness": Moments(4, 3_000_000, 2_500_000)}),
            4,
            1.0,
        ),
        (Goal("g", "evaluation:other", 0.9), Activity(), 0, 0.0),
    ],
)
def test_what_is_good_and_bad(goal: Goal, activity: Activity, count: int, bad: float) -> None:
    assert observed(goal, activity) == (count, bad * 1e6)


@pytest.mark.parametrize(("over", "bad"), [(500.0, 2), (4_000.0, 1), (9_000.0, 0)])
def test_means_are_good_within_their_limit(over: float, bad: int) -> None:
    bins: dict[int, int] = {}
    for value in (100.0, 2_000.0, 8_000.0):
        count_in(bins, log_bin(value))
    latency = Goal("l", "latency", 0.9, latency_over_ms=over)
    assert observed(latency, Activity(llm_duration_bins=bins)) == (3, bad * 1_000_000)
    cost = Goal("c", "cost_per_session", 0.9, cost_over_usd=over / 1e6)
    assert observed(cost, Activity(session_cost_bins=bins)) == (3, bad * 1_000_000)


def test_the_rules_are_those_of_the_workbook() -> None:
    assert [(rule.burn, rule.long_ms / 3_600_000, rule.short_ms / 60_000) for rule in RULES] == [
        (1.0, 72.0, 360.0),
        (6.0, 6.0, 30.0),
        (14.4, 1.0, 5.0),
    ]
