"""More agents, tools, calls and names in a session than a detector keeps: what is wrong is found anyway."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

import pytest

from detectors.base import SessionDetector
from detectors.offline import Engine
from detectors.session.ping_pong import PingPong
from detectors.session.retry_storm import RetryStorm
from detectors.session.tool_loop import ToolLoop
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


def test_what_goes_wrong_at_the_end_of_a_long_session() -> None:
    calls = new_calls()
    quiet = [next(calls) for _ in range(20_000)]
    failed = dict(CALL, agent="late", status="error", error_type="exit_1")
    assert critical(RetryStorm(), [*quiet, *[failed] * 6]) == {"late"}
    assert critical(ToolLoop(), [*quiet, *[dict(CALL, agent="late")] * 6]) == {"late"}
