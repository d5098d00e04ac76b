"""provider_outage: once for the fleet when agents agree, never for one agent's own errors."""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec
import pytest

from detectors.activity import CallCounts
from detectors.base import Source
from detectors.behaviour_pipeline import BehaviourPipeline
from detectors.fleet.callers import DAY_MS, MAX_CALLERS, Caller, take
from detectors.fleet.provider_outage import ProviderOutage
from detectors.fleet.providers import MAX_PROVIDERS
from detectors.testing import START_MS, run_windows, window
from detectors.windows import FLEET_AGENT, Mark, ProviderCalls, Window
from schemas.detection import Detection
from schemas.topics import WINDOWS

AGENTS = ("planner", "reader", "writer", "checker")
Rates = dict[str, float]


def provider(chance: random.Random, rates: Rates, calls: int = 10, throttled: bool = False) -> ProviderCalls:
    """The calls of a frame by agents that fail at these rates."""
    agents = {
        name: CallCounts(calls, sum(chance.random() < rate for _ in range(calls)))
        for name, rate in rates.items()
    }
    errors = sum(each.errors for each in agents.values())
    return ProviderCalls(calls * len(agents), errors, errors if throttled else 0, agents)


def frames(
    seed: int, *stretches: tuple[int, Rates], other: float | None = None, calls: int = 10
) -> list[Window]:
    """So many frames at those rates of failure, stretch by stretch; `other` is a second provider's."""
    chance = random.Random(seed)
    turns = [rates for count, rates in stretches for _ in range(count)]
    made = []
    for number, rates in enumerate(turns):
        providers = {"openai": provider(chance, rates, calls)}
        if other is not None:
            providers["anthropic"] = provider(chance, {"writer": other}, calls)
        made.append(window(number, agent=FLEET_AGENT, parts={}, providers=providers))
    return made


def run(shown: Iterable[Window], restart_at: int = -1) -> list[Detection]:
    """As the pipeline shows fleets' windows."""

    def make() -> BehaviourPipeline:
        return BehaviourPipeline(1, (), (), [ProviderOutage()])

    pipeline, found = make(), []
    for number, each in enumerate(shown):
        if number == restart_at:
            kept, marker = list(pipeline.dirty()), pipeline.marker()
            pipeline = make()
            for key, value in kept:
                pipeline.restore(key, value)
            pipeline.restore_marker(marker)
        pipeline.process(each, Source(WINDOWS, 0, 2 * number))
        found += pipeline.process(Mark(0, each.end_ms), Source(WINDOWS, 0, 2 * number + 1))
    found += pipeline.finish()
    return [each for each in found if isinstance(each, Detection)]


def each(rate: float, agents: Iterable[str] = AGENTS) -> Rates:
    return dict.fromkeys(agents, rate)


@pytest.mark.parametrize("seed", range(5))
def test_all_failing_is_one_critical_that_names_agents_and_who_still_answers(seed: int) -> None:
    [found] = run(frames(seed, (60, each(0.01)), (30, each(0.9)), other=0.01))
    assert (found.severity, found.agent, found.metric) == ("critical", "*", "openai")
    assert all(name in found.summary for name in AGENTS)
    assert "fail over to anthropic" in found.summary
    assert 0 <= (found.onset.timestamp() * 1000 - START_MS) / 10_000 - 60 <= 2
    assert (found.time.timestamp() * 1000 - START_MS) / 10_000 <= 63


@pytest.mark.parametrize("seed", range(5))
def test_a_partial_outage_is_found(seed: int) -> None:
    found = run(frames(seed, (60, each(0.01)), (40, each(0.2))))
    assert found[0].severity in {"warning", "critical"}
    assert "info" not in {one.severity for one in found}, "it does not answer again"
    assert "no other is in use" in found[0].summary
    assert sum(name in found[0].summary for name in AGENTS) >= 2


@pytest.mark.parametrize("seed", range(5))
def test_one_agent_s_own_errors_are_no_outage(seed: int) -> None:
    assert run(frames(seed, (60, each(0.02)), (60, {**each(0.02), "writer": 1.0}), other=0.01)) == []


def test_the_only_user_is_an_outage_when_everything_fails() -> None:
    alone = each(0.01, ["writer"])
    assert run(frames(1, (60, alone), (20, each(0.4, ["writer"])))) == []
    [found] = run(frames(1, (60, alone), (20, each(1.0, ["writer"]))))
    assert (found.severity, "writer" in found.summary) == ("critical", True)


def test_a_provider_that_fails_is_nothing_to_fail_over_to() -> None:
    [found] = run(frames(3, (60, each(0.01)), (40, each(0.9)), other=0.9))
    assert (found.metric, "fail over" in found.summary) == ("openai", False)


def test_that_it_answers_again_is_told_and_a_new_outage_is_new() -> None:
    found = run(frames(1, (60, each(0.01)), (30, each(0.9)), (60, each(0.01)), (30, each(0.9))))
    assert [one.severity for one in found] == ["critical", "info", "critical"]
    assert len({one.detection_id for one in found}) == 3


def test_a_healthy_fleet_is_silent() -> None:
    for seed in range(4):
        chance = random.Random(seed)
        stretches = [(40, each(chance.choice((0.0, 0.01, 0.03)))) for _ in range(20)]
        assert run(frames(seed, *stretches, other=0.02, calls=chance.choice((1, 5)))) == []


def test_a_restart_changes_nothing() -> None:
    shown = frames(2, (60, each(0.01)), (30, each(0.9)), (60, each(0.01)))
    straight = [one.detection_id for one in run(shown)]
    assert straight
    for cut in (30, 61, 62, 80, 120):
        assert [one.detection_id for one in run(shown, restart_at=cut)] == straight


def test_state_is_bounded_and_new_providers_find_a_place_in_time() -> None:
    state, detector = ProviderOutage.State(), ProviderOutage()
    chance = random.Random(1)
    day = 8_640
    for number in (*range(300), *range(2 * day, 2 * day + 10)):
        names = [f"p{(number + at) % 20}" for at in range(3)] if number < day else ["late"]
        providers = {name: provider(chance, each(0.02, map(str, range(40)))) for name in names}
        shown = window(number, agent=FLEET_AGENT, parts={}, providers=providers)
        _show(detector, state, shown)
    assert "late" in state.providers
    assert len(state.providers) <= MAX_PROVIDERS
    assert len(msgspec.msgpack.encode(state)) < 64 * 1024


def _show(detector: ProviderOutage, state: ProviderOutage.State, shown: Window) -> None:
    from detectors.base import WindowContext

    context = WindowContext()
    context.tenant, context.agent, context.session = shown.tenant, shown.agent, None
    context.time_ms, context.event_id, context.from_offset = shown.end_ms, "", 0
    context.source = Source(WINDOWS, 0, 0)
    context.standings = {}
    assert list(detector.update(state, shown, context)) == []


def test_it_can_be_shown_like_any_other_detector_of_windows() -> None:
    assert run_windows(ProviderOutage(), frames(1, (5, each(0.0)))) == []


@pytest.mark.parametrize("agents", [65, 300])
def test_more_agents_than_are_remembered_agree_all_the_same(agents: int) -> None:
    """Each calls once in a while, so that whoever called last would push out those before it."""
    chance = random.Random(agents)
    names = [f"agent-{number}" for number in range(agents)]
    shown = []
    for number in range(80):
        for part, some in enumerate(names[start : start + 20] for start in range(0, agents, 20)):
            calls = provider(chance, each(0.97 if number >= 60 else 0.005, some), calls=1)
            shown.append(window(number * 20 + part, agent=FLEET_AGENT, parts={}, providers={"openai": calls}))
    found = [one for one in run(shown) if one.severity != "info"]
    assert [(one.severity, one.metric) for one in found][-1:] == [("critical", "openai")]


def test_an_agent_that_is_gone_makes_place_for_another() -> None:
    callers: dict[str, Caller] = {}
    for number in range(200):
        take(callers, f"old-{number}", CallCounts(10, 0), now_ms=0)
    for number in range(200):
        take(callers, f"new-{number}", CallCounts(10, 9), now_ms=2 * DAY_MS)
    assert len(callers) == MAX_CALLERS
    assert all(name.startswith("new-") for name in callers)
