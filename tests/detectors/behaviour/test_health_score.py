"""health_score: one number whose parts are shown, published when it changes, and a warning of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest

from detectors.base import Finding, Source, Standing, WindowContext
from detectors.behaviour.health_score import HealthScore
from detectors.behaviour_pipeline import BehaviourPipeline
from detectors.health import WEIGHTS, score, state_of, strain
from detectors.registry import BEHAVIOUR, SUMMARIES
from detectors.testing import START_MS, window
from detectors.windows import Mark, Window
from schemas.detection import Detection
from schemas.health import AgentHealth
from schemas.topics import WINDOWS

HOUR = 360
"""Windows."""


class Shows:
    """Says of each window what it is told to."""

    name: ClassVar[str] = "shows"
    version: ClassVar[int] = 1
    State = msgspec.defstruct("State", [])

    def __init__(self, standing: Callable[[int], dict[str, Standing]]) -> None:
        self._standing = standing

    def update(self, _state: Any, shown: Window, context: WindowContext) -> Iterable[Finding]:
        context.standings.update(self._standing((shown.start_ms - START_MS) // 10_000))
        return ()


def run(
    standing: Callable[[int], dict[str, Standing]],
    shown: Iterable[Window],
    *,
    restart_at: int = -1,
    quiet: int = 0,
) -> list[Finding]:
    def make() -> BehaviourPipeline:
        return BehaviourPipeline(1, [Shows(standing), HealthScore()], (), ())

    pipeline = make()
    found: list[Any] = []
    end_ms = START_MS
    for number, each in enumerate(shown):
        if number == restart_at:
            kept, marker = list(pipeline.dirty()), pipeline.marker()
            pipeline = make()
            for key, value in kept:
                pipeline.restore(key, value)
            pipeline.restore_marker(marker)
        end_ms = each.end_ms
        pipeline.process(each, Source(WINDOWS, 0, 2 * number))
        found += pipeline.process(Mark(0, end_ms), Source(WINDOWS, 0, 2 * number + 1))
    found += pipeline.process(Mark(0, end_ms + quiet * 10_000), Source(WINDOWS, 0, 2**31))
    return found


def healths(found: Iterable[Finding]) -> list[AgentHealth]:
    return [each for each in found if isinstance(each, AgentHealth)]


def warnings(found: Iterable[Finding]) -> list[Detection]:
    return [each for each in found if isinstance(each, Detection)]


def healthy(*names: str) -> dict[str, Standing]:
    return {name: Standing("healthy", name) for name in names}


WELL = healthy("refusal_rate", "completion_rate")


def windows(count: int, **fields: Any) -> list[Window]:
    return [window(number, **fields) for number in range(count)]


def test_every_detector_of_behaviour_has_a_weight_of_at_most_one() -> None:
    names = {detector.name for detector in (*BEHAVIOUR, *SUMMARIES)} - {"health_score"}
    assert names <= WEIGHTS.keys()
    assert max(WEIGHTS.values()) <= 1.0
    assert BEHAVIOUR[-1].name == "health_score", "what runs after it is not counted in the same frame"


def test_it_is_published_on_change_and_once_an_hour_and_never_per_frame() -> None:
    found = healths(run(lambda _: WELL, windows(3 * HOUR)))
    assert [each.state for each in found] == ["healthy"] * 3
    assert found[0].score == 100.0
    assert [(each.time - found[0].time).total_seconds() for each in found] == [0, 3_600, 7_200]
    assert {each.since for each in found} == {found[0].time}


def test_a_state_that_changes_is_published_at_once_with_its_worst_part() -> None:
    def standing(number: int) -> dict[str, Standing]:
        return (
            WELL
            if number < 50
            else {**WELL, "refusal_rate": Standing("critical", "refusal_rate", 0.3, 0.02, 2.0)}
        )

    found = healths(run(standing, windows(60)))
    assert [(each.state, each.score) for each in found] == [("healthy", 100.0), ("unhealthy", 25.0)]
    part = found[1].parts["refusal_rate"]
    assert (part.state, part.observed, part.expected) == ("critical", 0.3, 0.02)
    assert (found[1].time.timestamp() * 1000 - START_MS) / 10_000 == 51


def test_parts_that_flicker_are_published_once_a_minute_at_most() -> None:
    def standing(number: int) -> dict[str, Standing]:
        verdict: Any = "healthy" if number % 2 else "cannot tell"
        return {**WELL, "latency": Standing(verdict, "latency")}

    assert len(healths(run(standing, windows(HOUR)))) <= 61


def test_not_to_know_is_not_health() -> None:
    unknown = {"refusal_rate": Standing("cannot tell", "refusal_rate")}
    [found] = healths(run(lambda _: unknown, windows(20)))
    assert (found.state, found.score) == ("cannot tell", None)
    assert found.parts["refusal_rate"].score is None
    assert state_of({**unknown, "latency": Standing("healthy", "latency")}, 0.0) == "cannot tell"
    assert state_of({**unknown, "latency": Standing("warning", "latency", deviation=1.0)}, 0.5) == "degraded"


def test_an_agent_that_is_silent_for_a_day_cannot_be_told_of() -> None:
    found = healths(run(lambda _: WELL, windows(10), quiet=5 * 24 * HOUR))
    assert found[-1].state == "cannot tell"
    assert (found[-1].time - found[0].time).total_seconds() < 26 * 3_600
    assert len(found) <= 26, "and then there is silence"


def test_several_mild_deviations_are_a_warning_once() -> None:
    def standing(number: int) -> dict[str, Standing]:
        off = 0.4 if 100 <= number < 200 or number >= 300 else 0.0
        mild = {
            name: Standing("healthy", name, deviation=off)
            for name in ("refusal_rate", "judge_score", "canary")
        }
        return {**WELL, **mild}

    found = run(standing, windows(400))
    told = warnings(found)
    assert [(one.severity, round(one.score, 1)) for one in told] == [("warning", 1.2), ("warning", 1.2)]
    assert "3 respects" in told[0].summary
    assert "judge_score" in told[0].summary
    assert next(each.state for each in healths(found) if each.score != 100.0) == "degraded"


@pytest.mark.parametrize("verdict", ["warning", "critical"])
def test_where_a_detector_has_spoken_the_composite_does_not(verdict: Any) -> None:
    spoken = {"refusal_rate": Standing(verdict, "refusal_rate", deviation=2.0)}
    mild = {name: Standing("healthy", name, deviation=0.9) for name in ("judge_score", "canary")}
    assert warnings(run(lambda _: {**spoken, **mild}, windows(50))) == []


def test_a_restart_changes_nothing() -> None:
    def standing(number: int) -> dict[str, Standing]:
        return {**WELL, "canary": Standing("healthy", "canary", deviation=1.1 if number > 30 else 0.0)}

    shown = windows(60, llm_calls=20, llm_errors=1, outcomes={"completed": 3})
    straight = run(standing, shown, quiet=2 * HOUR)
    assert warnings(straight)
    for cut in (1, 30, 32, 59):
        assert run(standing, shown, restart_at=cut, quiet=2 * HOUR) == straight


def test_end_to_end_completion_stands_beside_what_steps_would_give() -> None:
    shown = windows(100, llm_calls=50, tool_calls=50, tool_errors=15, outcomes={"completed": 2, "failed": 8})
    last = healths(run(lambda _: WELL, shown, quiet=HOUR))[-1]
    assert last.parts["step_success"].observed == pytest.approx(0.85)
    whole = last.parts["end_to_end"]
    assert (whole.state, whole.weight) == ("shown", 0.0)
    assert whole.observed == pytest.approx(0.2)
    assert whole.expected == pytest.approx(0.85**10)
    few = healths(run(lambda _: WELL, windows(5, llm_calls=9, outcomes={"completed": 1})))[-1]
    assert few.parts["end_to_end"].state == "cannot tell"


def test_the_number_falls_with_every_deviation() -> None:
    chance = np.random.default_rng(5)
    for _ in range(50):
        standings = {
            name: Standing("healthy", name, deviation=float(chance.uniform(0, 2))) for name in WEIGHTS
        }
        whole = score(strain(standings))
        name = str(chance.choice(list(WEIGHTS)))
        worse = {**standings, name: Standing("healthy", name, deviation=standings[name].deviation + 0.1)}
        assert 0 <= score(strain(worse)) < whole <= 100
