"""Combining what several want never gives less than any of them wants."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responders.containment import MODES, RUN, RUNGS, TargetError, combine, covers, parse_target
from schemas.control import ControlState, Target
from schemas.event import Budget

amounts = st.none() | st.integers(0, 100)
states = st.builds(
    ControlState,
    mode=st.sampled_from(MODES),
    ladder=st.sampled_from(RUNGS),
    revoked_tools=st.lists(st.sampled_from(["mail", "db", "pay"]), unique=True),
    calls_per_minute=amounts,
    budget=st.none() | st.builds(Budget, tokens=amounts, steps=amounts),
)


def _at_most(cap: float | None, wanted: float | None) -> bool:
    return wanted is None or (cap is not None and cap <= wanted)


@given(st.lists(states, min_size=1, max_size=5))
def test_nobody_gets_less_than_they_want(wanted: list[ControlState]) -> None:
    state = combine(wanted)
    for each in wanted:
        assert MODES.index(state.mode) >= MODES.index(each.mode)
        assert RUNGS.index(state.ladder) >= RUNGS.index(each.ladder)
        assert set(state.revoked_tools) >= set(each.revoked_tools)
        assert _at_most(state.calls_per_minute, each.calls_per_minute)
        if each.budget is not None:
            assert state.budget is not None
            assert _at_most(state.budget.tokens, each.budget.tokens)
    assert combine([state, *wanted]) == state
    assert combine(list(reversed(wanted))) == state


def test_when_nobody_wants_anything_it_runs() -> None:
    assert combine([]) == RUN


@pytest.mark.parametrize("text", ["", "a//b", "/a", "t/*/s", "x" * 300])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(TargetError, match="is not a target"):
        parse_target(text)


@given(st.builds(Target, agent=st.text("ab", min_size=1), session=st.none() | st.text("ab/", min_size=1)))
def test_a_target_reads_back_from_its_key(target: Target) -> None:
    assert parse_target(target.key) == target


def test_an_agent_covers_its_sessions_and_the_global_stop_only_itself() -> None:
    agent, session, everyone = Target(agent="a"), Target(agent="a", session="s"), Target(agent="*")
    assert covers(agent, session)
    assert not covers(session, agent)
    assert not covers(everyone, agent)
    assert covers(everyone, everyone)
