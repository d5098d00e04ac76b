"""More agents, tools, calls and names in a session than a detector keeps: what is wrong is found anyway."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

import pytest

from detectors.base import SessionDetector
from detectors.offline import Engine
from detectors.session.bad_arguments import BadArguments
from detectors.session.budget import Budget
from detectors.session.context_growth import ContextGrowth
from detectors.session.credential_misuse import CredentialMisuse
from detectors.session.fan_out import FanOut
from detectors.session.foreign_arguments import ForeignArguments
from detectors.session.foreign_memory import ForeignMemory
from detectors.session.goal_violation import GoalViolation
from detectors.session.ping_pong import PingPong
from detectors.session.result_contract import ResultContract
from detectors.session.retry_storm import RetryStorm
from detectors.session.stale_memory import StaleMemory
from detectors.session.tool_loop import ToolLoop
from detectors.session.truncation import Truncation
from detectors.session.unconfirmed_effect import UnconfirmedEffect
from detectors.session.undeclared_tool import UndeclaredTool
from detectors.testing import events
from schemas.detection import Detection

START = {"type": "session.start"}
CALL: dict[str, Any] = {
    "type": "tool.call",
    "tool": "search",
    "arguments_hash": "a1",
    "result_hash": "r1",
    "status": "ok",
}
FAILED: dict[str, Any] = dict(CALL, status="error", error_type="exit_1")
ASK: dict[str, Any] = {"type": "message", "intent": "clarification"}
CREATE: dict[str, Any] = dict(CALL, effect="vm.create")
MODEL: dict[str, Any] = {"type": "llm.call", "request_model": "m", "output_tokens": 100, "status": "ok"}


def found(
    detector: SessionDetector, stream: Iterable[dict[str, Any]], *, gap_ms: int = 1_000, finish: bool = False
) -> list[Detection]:
    return list(Engine([detector], ()).run(events(stream, gap_ms=gap_ms), finish=finish))


def critical(*args: Any, **settings: Any) -> set[str]:
    """The agents of which something critical was found."""
    return {one.agent for one in found(*args, **settings) if one.severity == "critical"}


def rounds(each: Iterable[dict[str, Any]], times: int) -> list[dict[str, Any]]:
    return [*each] * times


def new_calls() -> Iterator[dict[str, Any]]:
    for n in count():
        yield dict(CALL, agent=f"busy-{n % 30}", tool=f"tool-{n % 300}", arguments_hash=f"{n}")


def between(
    one: dict[str, Any], others: Iterator[dict[str, Any]], each: int, times: int
) -> list[dict[str, Any]]:
    """`one` again and again, with so many others after each."""
    return [event for _ in range(times) for event in (one, *(next(others) for _ in range(each)))]


class TestToolLoop:
    @pytest.mark.parametrize("agents", [2, 10, 40])
    def test_many_agents_that_each_repeat_a_call_in_turns(self, agents: int) -> None:
        stream = rounds([dict(CALL, agent=f"agent-{n}") for n in range(agents)], 8)
        assert len(critical(ToolLoop(), stream, gap_ms=100)) >= min(agents, 8)

    @pytest.mark.parametrize("calls", [2, 12, 40])
    def test_a_long_cycle_of_calls(self, calls: int) -> None:
        stream = rounds([dict(CALL, arguments_hash=f"page-{n}") for n in range(calls)], 8)
        assert critical(ToolLoop(), stream, gap_ms=100) == {"agent"}

    @pytest.mark.parametrize("others", [3, 9, 40])
    def test_one_agent_in_a_loop_while_others_make_new_calls(self, others: int) -> None:
        stream = between(dict(CALL, agent="stuck"), new_calls(), others, 8)
        assert critical(ToolLoop(), stream, gap_ms=100) == {"stuck"}

    def test_many_agents_that_work_are_not_stuck(self) -> None:
        calls = new_calls()
        assert found(ToolLoop(), [next(calls) for _ in range(3_000)]) == []


class TestRetryStorm:
    @pytest.mark.parametrize("agents", [2, 10, 30])
    def test_many_agents_that_each_try_again_in_turns(self, agents: int) -> None:
        stream = rounds([dict(FAILED, agent=f"agent-{n}") for n in range(agents)], 9)
        assert len(critical(RetryStorm(), stream)) >= min(agents, 8)

    @pytest.mark.parametrize("others", [3, 9, 25])
    def test_one_call_tried_again_among_failures_that_come_once(self, others: int) -> None:
        fails = (dict(each, status="error", error_type="not_found") for each in new_calls())
        stream = between(dict(FAILED, agent="stuck"), fails, others, 9)
        assert "stuck" in critical(RetryStorm(), stream)


class TestPingPong:
    def test_a_ring_of_ten(self) -> None:
        ring = [dict(ASK, agent=f"a{n}", to_agent=f"a{(n + 1) % 10}") for n in range(10)]
        assert len(critical(PingPong(), rounds(ring, 4))) == 10

    def test_ten_that_ask_each_other_all_round(self) -> None:
        everybody = [
            dict(ASK, agent=f"a{n}", to_agent=f"a{m}") for n in range(10) for m in range(10) if n != m
        ]
        assert len(critical(PingPong(), rounds(everybody, 6))) >= 2

    @pytest.mark.parametrize("others", [3, 30, 60])
    def test_two_among_many_that_ask_once(self, others: int) -> None:
        ask = dict(ASK, agent="analyzer", to_agent="verifier")
        pair = (each for _ in count() for each in (ask, dict(ask, agent="verifier", to_agent="analyzer")))
        once = (dict(ASK, agent=f"b{n}", to_agent=f"c{n}") for n in count())
        stream = [event for _ in range(24) for event in (next(pair), *(next(once) for _ in range(others)))]
        assert critical(PingPong(), stream) == {"analyzer", "verifier"}


class TestUnconfirmedEffect:
    @pytest.mark.parametrize("calls", [2, 10, 20])
    def test_a_call_denied_after_many_others(self, calls: int) -> None:
        no = {"type": "effect", "ref": "e0", "confirmed": False}
        yes = [{"type": "effect", "ref": f"e{n}", "confirmed": True} for n in range(1, calls)]
        said = found(UnconfirmedEffect(), [*[CREATE] * calls, *yes, no])
        assert [one.severity for one in said] == ["warning"]
        done = {"type": "session.end", "outcome": "completed"}
        different = [dict(CREATE, effect=f"vm.kind-{n}") for n in range(calls)]
        assert critical(UnconfirmedEffect(), [*different, no, done]) == {"agent"}

    @pytest.mark.parametrize("calls", [2, 10, 20])
    def test_calls_that_nobody_confirms_where_others_were(self, calls: int) -> None:
        yes = {"type": "effect", "ref": f"e{calls - 1}", "confirmed": True}
        said = found(UnconfirmedEffect(), [*[CREATE] * calls, yes], finish=True)
        assert [one.severity for one in said] == ["warning"] * (calls - 1)
        assert len({one.detection_id for one in said}) == calls - 1

    def test_more_calls_at_once_than_are_followed_are_said_and_a_denial_of_any_is_told(self) -> None:
        yes = [{"type": "effect", "ref": f"e{n}", "confirmed": True} for n in range(100, 200)]
        no = {"type": "effect", "ref": "e7", "confirmed": False}
        said = found(UnconfirmedEffect(), [*[CREATE] * 200, *yes, no])
        assert [one.severity for one in said] == ["warning", "warning"]
        assert "more effects at once than can be followed" in said[0].summary
        assert "it did not happen" in said[1].summary

    def test_nothing_is_said_of_calls_that_nobody_ever_confirms(self) -> None:
        assert found(UnconfirmedEffect(), [CREATE] * 200, finish=True) == []

    def test_of_many_calls_one_that_was_denied_and_then_confirmed_is_made_good(self) -> None:
        no = {"type": "effect", "ref": "e0", "confirmed": False}
        yes = {"type": "effect", "ref": "e12", "confirmed": True}
        done = {"type": "session.end", "outcome": "completed"}
        assert critical(UnconfirmedEffect(), [*[CREATE] * 11, no, CREATE, yes, done]) == set()


class TestFanOut:
    def test_many_ways_to_reach_people_used_in_turns(self) -> None:
        ways = [dict(CALL, tool=f"way-{n}", effect=f"way-{n}.send") for n in range(9)]
        assert critical(FanOut(), rounds(ways, 30)) == {"agent"}

    @pytest.mark.parametrize("caps", [2, 7, 12])
    def test_every_declared_cap_holds(self, caps: int) -> None:
        start = dict(START, budget={"fan_out": {f"way-{n}.send": 5 for n in range(caps)}})
        ways = [dict(CALL, tool=f"way-{n}", effect=f"way-{n}.send") for n in range(caps)]
        said = found(FanOut(), [start, *rounds(ways, 6)], gap_ms=120_000)
        assert {one.summary.split()[5].rstrip(",") for one in said} == {f"way-{n}.send" for n in range(caps)}

    def test_few_targets_by_each_of_many_ways_are_no_flood(self) -> None:
        ways = [dict(CALL, tool=f"way-{n}", effect=f"way-{n}.send") for n in range(9)]
        assert found(FanOut(), rounds(ways, 2)) == []


class TestContextGrowth:
    @pytest.mark.parametrize("agents", [2, 10, 30])
    def test_many_agents_whose_contexts_grow(self, agents: int) -> None:
        stream = (
            dict(MODEL, agent=f"agent-{n}", input_tokens=2_000 + 3_000 * turn)
            for turn in range(20)
            for n in range(agents)
        )
        assert len(found(ContextGrowth(), stream)) >= min(agents, 6)

    @pytest.mark.parametrize("others", [2, 10, 30])
    def test_one_whose_context_grows_among_many(self, others: int) -> None:
        stream = (
            dict(MODEL, agent=f"agent-{n}", input_tokens=2_000 + 3_000 * turn if n == others else 9_000)
            for turn in range(100)
            for n in range(others + 1)
        )
        assert {one.agent for one in found(ContextGrowth(), stream)} == {f"agent-{others}"}


class TestWarningsTakeNoPlaceFromWhatIsCritical:
    def test_of_foreign_arguments(self) -> None:
        read = [dict(CALL, tool=f"read-{n}", foreign_arguments=True) for n in range(40)]
        send = dict(CALL, tool="send_money", effect="money.send", foreign_arguments=True)
        assert critical(ForeignArguments(), [*read, send]) == {"agent"}

    def test_of_credentials(self) -> None:
        start = dict(START, credential="own", scopes=["read"])
        scopes = [dict(CALL, credential="own", scope=f"scope-{n}") for n in range(40)]
        foreign = dict(CALL, credential="root")
        assert critical(CredentialMisuse(), [start, *scopes, foreign]) == {"agent"}

    def test_of_arguments(self) -> None:
        schemas = {f"tool-{n}": {"required": ["sum"], "properties": ["sum"]} for n in range(30)}
        calls = [dict(CALL, tool=f"tool-{n}", argument_keys=["sum", "x"]) for n in range(29)]
        bad = dict(CALL, tool="tool-29", argument_keys=["amount"])
        assert critical(BadArguments(), [dict(START, tool_schemas=schemas), *calls, bad]) == {"agent"}

    def test_of_results(self) -> None:
        said = [dict(CALL, tool=f"tool-{n}", result_items=0, result_total=7) for n in range(40)]
        hollow = [dict(CALL, tool="report", result_items=0, result_total=7)] * 3
        assert critical(ResultContract(), [*said, *hollow]) == {"agent"}


def test_every_agent_that_spends_on_is_told_to_stop() -> None:
    start = dict(START, budget={"tokens": 1_000})
    calls = [dict(MODEL, agent=f"agent-{n}", input_tokens=900) for n in range(200)]
    assert len(critical(Budget(), [start, *rounds(calls, 2)])) >= 199


def test_credentials_of_more_agents_than_are_kept_are_not_taken_for_foreign_ones() -> None:
    starts = [dict(START, agent=f"agent-{n}", credential=f"key-{n}") for n in range(100)]
    calls = [dict(CALL, agent=f"agent-{n}", credential=f"key-{n}") for n in range(100)]
    assert [one.severity for one in found(CredentialMisuse(), [*starts, *calls])] == ["warning"]
    assert found(CredentialMisuse(), [*starts[:30], *calls[:30]]) == []
    foreign = dict(CALL, agent="agent-1", credential="root")
    assert critical(CredentialMisuse(), [*starts[:30], *calls[:30], foreign]) == {"agent-1"}


@pytest.mark.parametrize("users", [2, 20])
def test_memory_of_another_user_in_a_session_of_many(users: int) -> None:
    starts = [dict(START, user=f"user-{n}") for n in range(users)]
    read = {"type": "retrieval", "index": "memory", "documents": 1}
    reads = [dict(read, owner=f"user-{n}") for n in range(users)]
    assert found(ForeignMemory(), [*starts, *reads]) == []
    assert critical(ForeignMemory(), [*starts, *reads, dict(read, owner="somebody")]) == {"agent"}


def test_a_session_of_too_many_users_to_judge_says_so() -> None:
    starts = [dict(START, user=f"user-{n}") for n in range(100)]
    read = {"type": "retrieval", "index": "memory", "documents": 1}
    reads = [dict(read, owner=f"user-{n}") for n in range(100)]
    assert [one.severity for one in found(ForeignMemory(), [*starts, *reads])] == ["warning"]


@pytest.mark.parametrize("effects", [10, 100])
def test_an_effect_outside_many_that_are_allowed(effects: int) -> None:
    start = dict(START, allowed_effects=[f"thing-{n}.read" for n in range(effects)])
    inside = [dict(CALL, effect=f"thing-{n}.read") for n in range(effects)]
    assert found(GoalViolation(), [start, *inside]) == []
    assert critical(GoalViolation(), [start, *inside, dict(CALL, effect="db.drop")]) == {"agent"}


def test_the_thirtieth_agent_may_not_widen_what_is_allowed() -> None:
    starts = [dict(START, agent=f"agent-{n}", goal="g", allowed_effects=["a.read"]) for n in range(30)]
    wider = dict(starts[-1], allowed_effects=["db.drop"])
    drop = dict(CALL, agent="agent-29", effect="db.drop")
    assert critical(GoalViolation(), [*starts, wider, drop]) == {"agent-29"}


def test_an_old_version_of_one_of_many_indexes() -> None:
    read = {"type": "retrieval", "documents": 1}
    new = [dict(read, index=f"index-{n}", index_version="1.3") for n in range(12)]
    old = [dict(read, index=f"index-{n}", index_version="1.2") for n in range(12)]
    assert found(StaleMemory(), [*rounds(new, 3), *old])


def test_one_of_many_tools_that_comes_back_empty() -> None:
    tools = [dict(CALL, tool=f"tool-{n}", result_items=3) for n in range(12)]
    empty = [dict(each, arguments_hash=f"{turn}", result_items=0) for turn in range(12) for each in tools]
    assert found(ResultContract(), [*rounds(tools, 30), *empty])


def test_many_agents_that_act_on_answers_that_were_cut_off() -> None:
    cut = dict(MODEL, input_tokens=9, output_tokens=4_096, finish_reasons=["length"])
    agents = [f"agent-{n}" for n in range(10)]
    stream = [*(dict(cut, agent=agent) for agent in agents), *(dict(CALL, agent=agent) for agent in agents)]
    assert critical(Truncation(), stream)


def test_what_goes_wrong_at_the_end_of_a_long_session() -> None:
    calls = new_calls()
    quiet = [next(calls) for _ in range(20_000)]
    failed = dict(CALL, agent="late", status="error", error_type="exit_1")
    assert critical(RetryStorm(), [*quiet, *[failed] * 6]) == {"late"}
    assert critical(ToolLoop(), [*quiet, *[dict(CALL, agent="late")] * 6]) == {"late"}


def test_what_is_critical_of_one_agent_takes_no_place_from_that_of_another() -> None:
    start = dict(START, credential="own", declared_tools=["search"])
    first = [dict(CALL, agent="first", tool=f"tool-{n}", credential=f"key-{n}") for n in range(60)]
    second = dict(CALL, agent="second", tool="summon", credential="root")
    for detector in (CredentialMisuse(), UndeclaredTool()):
        assert critical(detector, [start, *first, second]) == {"first", "second"}
