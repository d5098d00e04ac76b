"""Budgets and irreversible calls: what the gate denies by itself, and by how much a cap can be passed."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.commands import KEYS, NOW_MS, OPERATOR, fields, raw
from watchkeeper_client import Denied, Gate, Halted, WantedState, Watchkeeper, approved
from watchkeeper_client.control import Budget
from watchkeeper_client.gate import Irreversible

PARALLEL = 8


def gate(
    budget: Budget | None = None, *, irreversible: Irreversible = "deny", command: bytes | None = None
) -> Gate:
    state = WantedState(KEYS, enforcement_point="test")
    if command is not None:
        assert state.apply(command, NOW_MS)["result"] == "applied"
    return Gate(state, agent="shop", clock=lambda: NOW_MS, budget=budget, irreversible=irreversible)


def watchkeeper(**options: object) -> Watchkeeper:
    return Watchkeeper(bootstrap="127.0.0.1:1", agent="shop", keys=KEYS, **options)  # type: ignore[arg-type]


def test_an_irreversible_call_needs_an_approval_whatever_the_wanted_state() -> None:
    for command in (None, raw(fields(mode="run"), OPERATOR), raw(fields(mode="throttle"))):
        opened = gate(command=command)
        with pytest.raises(Denied, match=r"drop_table is denied \(irreversible\).*ask a person"):
            opened.check(tool="drop_table", irreversible=True)
        assert opened.allowed(tool="drop_table", irreversible=True, approval="ap-1").allowed
        assert opened.allowed(tool="drop_table").allowed


def test_a_halt_is_not_lifted_by_an_approval() -> None:
    with pytest.raises(Halted):
        gate(command=raw(fields())).check(tool="drop_table", irreversible=True, approval="ap-1")


def test_who_allows_irreversible_calls_says_so() -> None:
    assert gate(irreversible="allow").check(tool="drop_table", irreversible=True).allowed


def test_a_guarded_irreversible_function_runs_only_under_an_approval() -> None:
    opened = gate()
    dropped: list[str] = []

    @opened.guard(irreversible=True)
    def drop_table(name: str) -> None:
        dropped.append(name)

    with pytest.raises(Denied):
        drop_table("users")
    with approved("ap-1"):
        drop_table("old")
    with pytest.raises(Denied):
        drop_table("users")
    assert dropped == ["old"]


def test_the_denial_is_reported_before_anything_ran() -> None:
    keeper = watchkeeper()
    assert not keeper.gate.allowed(session="s", tool="drop_table", irreversible=True).allowed
    record = keeper._spool.take()
    assert record is not None
    event = json.loads(record.value)
    assert event["type"] == "heartbeat"
    assert event["attributes"] == {
        "watchkeeper.denied": "irreversible",
        "watchkeeper.denied_calls": 1,
        "watchkeeper.tool": "drop_table",
    }


def test_one_call_with_too_many_targets_is_denied_before_it_runs() -> None:
    opened = gate(Budget(fan_out=(("email.send", 20),)))
    assert opened.allowed(tool="mail", effect="email.send", targets=10_000).denied == "budget"
    assert opened.allowed(tool="mail", effect="email.send", targets=19).allowed
    assert opened.allowed(tool="other", effect="email.send").allowed
    assert not opened.allowed(tool="other", effect="email.send", targets=0).allowed
    assert opened.allowed(tool="other").allowed


def test_a_step_is_a_turn_of_the_model_with_its_tool_call() -> None:
    opened = gate(Budget(steps=3))
    turns = [(opened.allowed().allowed, opened.allowed(tool="search").allowed) for _ in range(4)]
    assert turns == [(True, True)] * 3 + [(False, False)]


def test_a_session_brings_its_own_caps_and_the_rest_stays() -> None:
    keeper = watchkeeper(budget={"steps": 5, "tokens": 1_000})
    with keeper.session("s", budget={"steps": 1}):
        assert keeper.gate.allowed(tool="search").allowed
        assert keeper.gate.allowed(tool="search").denied == "budget"
        denied = keeper.gate.allowed(tokens=1_001)
        assert (denied.denied, denied.reason) == (
            "budget",
            "the session's cap on tokens (1,000) leaves no room for this call",
        )
    assert all(keeper.gate.allowed(session="t", tool="search").allowed for _ in range(5))
    assert not keeper.gate.allowed(session="t", tool="search").allowed


def test_without_a_budget_nothing_is_capped() -> None:
    keeper = watchkeeper()
    assert all(keeper.gate.allowed(session="s", tokens=10**6).allowed for _ in range(50))


@pytest.mark.parametrize("budget", [{"tokens": -1}, {"steps": 1.5}, {"cost_usd": "much"}])
def test_a_budget_that_is_none_is_refused_at_once(budget: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(budget))):
        watchkeeper(budget=budget)


def test_what_a_session_reports_counts_without_settling_and_never_twice() -> None:
    keeper = watchkeeper(budget={"tokens": 1_000, "cost_usd": 1.0})
    with keeper.session("s") as session:
        session.llm_call("m", input_tokens=800, output_tokens=150, cost_usd=0.1)
        keeper.gate.check(tokens=40)
        keeper.gate.settle(tokens=860)  # 900 in all: less than what the session reports
        keeper.gate.check(tokens=50)
        assert keeper.gate.allowed(tokens=51).denied == "budget"
        session.llm_call("m", input_tokens=1, output_tokens=1, cost_usd=0.9)
        assert keeper.gate.allowed().denied == "budget"


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60), st.integers(1, 2_000))
def test_one_call_after_the_other_passes_a_cap_by_at_most_one(uses: list[int], cap: int) -> None:
    opened = gate(Budget(tokens=cap))
    spent = 0
    for use in uses:
        if not opened.allowed(session="s").allowed:
            assert spent >= cap
            break
        assert spent < cap
        opened.settle(session="s", tokens=use)
        spent += use


@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(0, 400), st.booleans()), min_size=1, max_size=60),
    st.integers(1, 3_000),
)
def test_calls_in_parallel_pass_a_cap_by_what_each_used_over_its_booking(
    calls: list[tuple[int, int, bool]], cap: int
) -> None:
    """Calls overlap: each begins at once, and some end before the next begins."""
    opened = gate(Budget(tokens=cap))
    under_way: list[tuple[int, int]] = []
    total = excess = 0
    for booked, used, ends in calls:
        if opened.allowed(session="s", tokens=booked).allowed:
            under_way.append((booked, used))
            total += used
            excess = sum(max(0, used - booked) for booked, used in under_way)
        if ends and under_way:
            was_booked, was_used = under_way.pop(0)
            opened.settle(session="s", tokens=was_used - was_booked)
    assert total <= cap + excess


@pytest.mark.parametrize(("booked", "worst"), [(100, 0), (0, PARALLEL)])
def test_threads_together_pass_a_cap_by_at_most_one_call_each(booked: int, worst: int) -> None:
    """100 tokens a call against a cap of 2,000: all booked, or nothing booked and settled afterwards."""
    opened = gate(Budget(tokens=2_000, steps=1_000))
    spent, lock, start = [0], threading.Lock(), threading.Barrier(PARALLEL)

    def agent() -> None:
        start.wait()
        while opened.allowed(session="s", tokens=booked).allowed:
            with lock:
                spent[0] += 100
            opened.settle(session="s", tokens=100 - booked)

    with ThreadPoolExecutor(PARALLEL) as pool:
        for running in [pool.submit(agent) for _ in range(PARALLEL)]:
            running.result()
    assert 2_000 <= spent[0] <= 2_000 + 100 * worst


def test_threads_together_never_pass_steps_or_targets() -> None:
    opened = gate(Budget(steps=50, fan_out=(("mail", 40),)))
    start = threading.Barrier(PARALLEL)

    def agent(tool: str) -> int:
        start.wait()
        return sum(opened.allowed(session="s", tool=tool).allowed for _ in range(30))

    with ThreadPoolExecutor(PARALLEL) as pool:
        sent = sum(pool.map(agent, ["mail"] * PARALLEL))
        more = sum(pool.map(agent, ["search"] * PARALLEL))
    assert (sent, more) == (40, 10)
