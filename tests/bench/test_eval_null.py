"""The healthy fleet is healthy, reproducible and as varied as it says; its alarms are counted right."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from bench.eval.fleet import Tenant
from bench.eval.fleet_agents import HOUR_MS, START_MS, hiccups, provider_latency, recruit, weather, within
from bench.eval.fleet_writer import Event
from bench.eval.null import Alarm, Counted, interval, jobs, section_of_alarms, simulate
from bench.eval_null import main
from detectors.registry import SESSION
from schemas.event import AGENT_EVENT


def stream(seed: int = 7, *, agents: int = 6, days: int = 2) -> list[Event]:
    return [event for hour in Tenant(0, agents, days, seed).hours() for event in hour]


def test_the_same_seed_makes_the_same_fleet_and_another_one_does_not() -> None:
    assert stream() == stream()
    assert stream() != stream(8)


def test_every_event_is_valid_in_order_and_unique() -> None:
    events = [AGENT_EVENT.validate_python(event) for event in stream()]
    times = [event.time_ms for event in events]
    assert times == sorted(times)
    assert len({event.event_id for event in events}) == len(events)
    assert {"session.start", "llm.call", "tool.call", "session.end", "canary"} <= {one.type for one in events}


def test_sequences_have_holes_only_where_telemetry_was_lost() -> None:
    tenant = Tenant(1, 6, 4, 3)
    spans: dict[tuple[str, str], list[int]] = defaultdict(list)
    for event in (event for hour in tenant.hours() for event in hour):
        spans[event["agent"], event["process"]].append(event["seq"])
    lost = {name for desk in tenant.desks if desk.weather.lost for name in desk.agent.names}
    holed = {
        agent for (agent, _), numbers in spans.items() if numbers != list(range(numbers[0], numbers[-1] + 1))
    }
    assert holed <= lost


def test_sessions_keep_what_they_declare() -> None:
    declared: dict[str, set[str]] = {}
    for event in stream(days=1, agents=10):
        if event["type"] == "session.start" and "declared_tools" in event:
            declared[event["session"]] = set(event["declared_tools"])
        if event["type"] == "tool.call" and event["session"] in declared:
            assert event["tool"] in declared[event["session"]]
    assert declared


def test_the_month_has_days_weeks_bursts_and_missing_hours() -> None:
    rng = np.random.default_rng(5)
    latency = provider_latency(28, rng)
    assert 1.4 < latency.max() / latency.min() < 4
    office = next(agent for agent in recruit("t", 40, 28, rng) if agent.kind.rhythm == "office")
    months = [weather(office, 28, 10, latency, np.random.default_rng(seed)) for seed in range(20)]
    by_hour = sum(month.sessions for month in months).reshape(28, 24)
    weekday, weekend = by_hour[:5].sum() / 5, by_hour[5:7].sum() / 2
    assert weekend < weekday / 4
    assert by_hour[10].sum() < weekday / 2  # the holiday
    assert by_hour[14:19].sum(axis=0).min() < by_hour[14:19].sum(axis=0).max() / 10
    assert any((month.burst >= 0).any() for month in months)
    assert any(month.down for month in months)
    assert any(month.lost for month in months)


def test_a_provider_has_hiccups_and_they_pass() -> None:
    ills = hiccups(300, np.random.default_rng(1))
    assert 20 < len(ills) < 70
    assert all(2 * 60_000 <= end - begin <= 8 * 60_000 for begin, end in ills)
    assert within(ills[0][0], ills)
    assert not within(ills[0][1], ills[:1])


def test_agents_are_counted_one_by_one_and_some_start_late() -> None:
    agents = recruit("t", 60, 30, np.random.default_rng(2))
    assert sum(len(agent.names) for agent in agents) == 60
    late = [agent.first_ms for agent in agents if agent.first_ms > START_MS]
    assert 0 < len(late) < 30
    assert [job.agents for job in jobs(25, 30, 1)] == [10, 10, 5]


def test_nothing_is_said_of_an_agent_before_it_starts() -> None:
    tenant = Tenant(0, 3, 12, 15)
    first = {name: desk.agent.first_ms for desk in tenant.desks for name in desk.agent.names}
    assert max(first.values()) > START_MS
    for event in (event for hour in tenant.hours() for event in hour):
        assert event["time"] * 1_000 >= first[event["agent"]]


def test_alarms_are_rated_by_the_agent_month() -> None:
    counted = Counted(agent_days=Counter({"router": 60}))
    counted.alarms = [
        Alarm("t/a", "router", "latency", "critical", START_MS, None, "slow"),
        Alarm("t/a", "router", "latency", "warning", START_MS, None, "slow"),
        Alarm("t/b", "router", "budget", "warning", START_MS, "s", "steps"),
    ]
    section = section_of_alarms(counted)
    assert section.figures["critical_per_agent_month"] == 0.5
    assert section.figures["warning_per_agent_month"] == 1.0
    assert section.figures["detections"] == {"budget/warning": 1, "latency/critical": 1, "latency/warning": 1}
    assert "| `latency` | 0.5 | 0.5 | 0 | 1 | 1 | 1 |" in section.markdown()


@pytest.mark.parametrize(("count", "low", "high"), [(0, 0.0, 3.689), (10, 4.795, 18.39)])
def test_the_interval_is_garwoods(count: int, low: float, high: float) -> None:
    assert interval(count, 1.0) == pytest.approx((low, high), rel=1e-3)


def test_session_detectors_say_nothing_critical_of_two_days() -> None:
    names = {detector.name for detector in SESSION}
    counted = simulate(jobs(10, 2, 11)[0])
    assert [one for one in counted.alarms if one.severity == "critical" and one.detector in names] == []
    assert sum(counted.events.values()) > 5_000


def test_the_block_the_figures_and_the_plot_are_written(tmp_path: Path) -> None:
    page, figures, plot = tmp_path / "page.md", tmp_path / "figures.json", tmp_path / "plot.png"
    alarms = tmp_path / "alarms"
    given = ["--agents", "4", "--days", "2", "--jobs", "1", "--seed", "2", "--page", str(page)]
    assert main([*given, "--figures", str(figures), "--plot", str(plot), "--alarms", str(alarms)]) == 0
    found = json.loads(figures.read_bytes())
    assert sum(found["fleet"]["agents"].values()) == 4
    assert found["alarms"]["agent_months"] == pytest.approx(8 / 30, abs=0.01)
    assert "Written by `make eval-null`" in page.read_text(encoding="utf-8")
    assert plot.stat().st_size < 60_000
    assert len(alarms.read_text().splitlines()) == sum(found["alarms"]["detections"].values())


def test_hours_end_where_they_should() -> None:
    for number, hour in enumerate(Tenant(0, 3, 1, 5).hours()):
        assert all(event["time"] * 1_000 >= START_MS + number * HOUR_MS for event in hour)
