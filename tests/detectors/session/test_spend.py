"""context_growth and spend_forecast: what is found in time, and what healthy long work may do."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.base import Source
from detectors.offline import Engine
from detectors.profile import AgentProfile, Range
from detectors.records import SESSION_PREFIX
from detectors.session.budget import Budget
from detectors.session.context_growth import ContextGrowth
from detectors.session.spend_forecast import SpendForecast
from detectors.session_pipeline import SessionPipeline
from detectors.testing import brief, events, run
from detectors.trend import Line
from schemas.topics import EVENTS
from tests.detectors.streams import Driver, straight

LLM: dict[str, Any] = {"type": "llm.call", "request_model": "m", "output_tokens": 0, "status": "ok"}


def calls(sizes: Iterable[int], **more: Any) -> list[dict[str, Any]]:
    return [{**LLM, **more, "input_tokens": size} for size in sizes]


def start(**budget: Any) -> dict[str, Any]:
    return {"type": "session.start", "budget": budget}


def known(detector: Any, stream: Iterable[dict[str, Any]], **ranges: float) -> list[tuple[str, str, float]]:
    """With a profile whose ranges have these as their greatest and 95th percentile."""
    engine = Engine([detector], ())
    found = {name: Range(p50=most / 2, p95=most, max=most) for name, most in ranges.items()}
    profile = AgentProfile(tenant="default", agent="agent", sessions=50, **found)  # type: ignore[arg-type]
    engine.profiles.take(profile.key, profile.encode())
    return brief(engine.run(events(stream), finish=False))


def test_growth_past_50_000_by_step_20_is_found_well_before() -> None:
    (found,) = run(ContextGrowth(), events(calls(2_600 * turn for turn in range(1, 21))))
    assert (found[0], found[1]) == ("warning", "e7")


def test_growth_is_critical_when_it_goes_on_to_three_times_that() -> None:
    found = run(ContextGrowth(), events(calls(3_000 * turn for turn in range(1, 60))))
    assert [severity for severity, _, _ in found] == ["warning", "critical"]


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param([80_000 + turn % 3 for turn in range(100)], id="long and flat"),
        pytest.param([1_000 + 600 * turn for turn in range(200)], id="slow growth"),
        pytest.param([60_000 + 700 * turn for turn in range(60)], id="long, a little more each turn"),
        pytest.param([2_000 * (turn % 9 + 1) for turn in range(200)], id="compacted in time"),
        pytest.param([0] * 100, id="not known"),
        pytest.param([1_000, 2_000, 60_000, 60_100, 60_200, 60_150, 60_150] + [60_150] * 20, id="a step"),
        pytest.param([5_000 if turn % 2 else 40_000 for turn in range(60)], id="two prompts in turn"),
    ],
)
def test_healthy_contexts_are_not_growth(sizes: list[int]) -> None:
    assert run(ContextGrowth(), events(calls(sizes))) == []


def test_each_agent_of_a_session_has_its_own_context() -> None:
    grown = [3_000 * turn for turn in range(1, 16)]
    pairs = [
        pair for size in grown for pair in (*calls([size], agent="reader"), *calls([4_000], agent="writer"))
    ]
    engine = Engine([ContextGrowth()], ())
    assert {found.agent for found in engine.run(events(pairs))} == {"reader"}


def test_growth_that_is_normal_for_the_agent_is_none() -> None:
    grown = calls(3_000 * turn for turn in range(1, 21))
    assert known(ContextGrowth(), grown, input_tokens=60_000.0) == []
    assert known(ContextGrowth(), grown, input_tokens=8_000.0) != []


def test_cache_reads_count_where_they_are_not_input() -> None:
    apart = [{**LLM, "input_tokens": 100, "cache_read_tokens": 3_000 * turn} for turn in range(20)]
    within = [dict(call, input_tokens=3_000 * turn) for turn, call in enumerate(apart)]
    assert len(run(ContextGrowth(), events(apart))) == len(run(ContextGrowth(), events(within))) == 1


@given(st.permutations(range(12)), st.integers(-200, 200))
def test_a_flat_context_is_never_growth_in_any_order(order: list[int], noise: int) -> None:
    assert run(ContextGrowth(), events(calls(70_000 + noise * place for place in order))) == []


@pytest.mark.parametrize("slope", [0, 500, 5_000])
def test_the_forecast_comes_before_the_cap_and_with_budget_left(slope: int) -> None:
    sizes = [5_000 + slope * turn for turn in range(400)]
    cap = 500_000
    ((severity, event_id, _),) = run(SpendForecast(), events([start(tokens=cap), *calls(sizes)]))
    spent = sum(sizes[: int(event_id[1:])])
    assert severity == "warning"
    assert cap / 2 <= spent <= 0.75 * cap


def test_growing_use_is_extrapolated_as_the_square() -> None:
    line = Line()
    for turn in range(1, 11):
        line.add(1_000.0 * turn)
    assert line.ahead(10) == pytest.approx(sum(1_000 * turn for turn in range(11, 21)))


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=40), st.integers(1, 100))
def test_the_line_foresees_no_less_than_nothing_and_noise_does_not_break_it(
    values: list[float], ahead: int
) -> None:
    line = Line()
    for value in values:
        line.add(value)
    assert 0 <= line.ahead(ahead) < float("inf")


def test_dollars_are_foreseen_too_and_unknown_cost_is_not_nothing() -> None:
    priced = [dict(call, cost_usd=0.01 * turn) for turn, call in enumerate(calls([10] * 20))]
    assert [severity for severity, _, _ in run(SpendForecast(), events([start(cost_usd=1.0), *priced]))]
    assert run(SpendForecast(), events([start(cost_usd=1.0), *calls([10] * 200)])) == []


def test_declared_steps_say_how_far_it_can_go() -> None:
    steady = calls([5_000] * 40)
    assert run(SpendForecast(), events([start(tokens=100_000, steps=20), *steady[:19]])) == []
    assert run(SpendForecast(), events([start(tokens=100_000, steps=40), *steady[:19]])) != []


def test_without_a_budget_the_agents_own_history_says_what_is_much() -> None:
    steady = calls([5_000] * 100)
    assert known(SpendForecast(), steady, tokens=1_000_000.0, steps=100.0) == []
    ((severity, event_id, _),) = known(SpendForecast(), steady, tokens=50_000.0, steps=10.0)
    assert (severity, event_id) == ("warning", "e17")
    ((severity, event_id, _),) = run(SpendForecast(), events(steady))
    assert (severity, event_id) == ("info", "e11")


def healthy_sessions(rng: random.Random) -> Iterator[list[dict[str, Any]]]:
    """Conversations of up to 20 turns that keep their history, with a budget nobody should need."""
    for _ in range(100):
        turns, grows = rng.randint(3, 20), rng.randint(100, 900)
        sizes = [1_500 + grows * turn + rng.randint(0, 300) for turn in range(turns)]
        yield [start(tokens=400_000, cost_usd=5.0), *calls(sizes, cost_usd=0.01)]


def test_healthy_sessions_are_left_alone() -> None:
    for session in itertools.chain(healthy_sessions(random.Random(7))):
        for detector in (ContextGrowth(), SpendForecast()):
            assert run(detector, events(session)) == []


@pytest.mark.parametrize("cut", range(0, 31, 4))
def test_a_restart_anywhere_changes_nothing(cut: int) -> None:
    records = list(events([start(tokens=1_000_000), *calls(3_000 * turn for turn in range(1, 30))]))
    expected = straight(records)
    driver = Driver()
    driver.take(records, 0, cut)
    driver.checkpoint(cut)
    driver.crash()
    driver.take(records, cut, len(records))
    found = driver.finish()
    assert found == expected
    names = {value[0] for value in found.values() if isinstance(value, tuple)}
    assert {"context_growth", "spend_forecast"} <= names


def test_state_does_not_grow_with_calls_or_agents() -> None:
    def size(turns: int) -> int:
        pipeline = SessionPipeline(0, [ContextGrowth(), SpendForecast()])
        made = [dict(call, agent=f"agent-{turn % 40}") for turn, call in enumerate(calls([90_000] * turns))]
        for place, each in enumerate(events(made)):
            pipeline.process(each, Source(EVENTS, 0, place))
        return sum(len(value or b"") for key, value in pipeline.dirty() if key.startswith(SESSION_PREFIX))

    assert size(4_000) < size(400) * 1.1


def test_a_default_cap_gives_way_to_what_the_agent_is_known_to_need() -> None:
    long = calls([9_000] * 40)
    assert [severity for severity, _, _ in known(Budget(), long)] == ["warning", "warning"]
    assert known(Budget(), long, tokens=120_000, steps=20) == []
    assert known(Budget(), calls([9_000] * 70), tokens=120_000, steps=20) == [
        ("warning", "e40", pytest.approx(369 / 360)),
        ("warning", "e60", pytest.approx(61 / 60)),
    ]


def test_no_history_excuses_passing_a_declared_cap() -> None:
    found = known(Budget(), [start(steps=20), *calls([10] * 40)], tokens=120_000, steps=20)
    assert found == [("critical", "e21", 1.05)]
