"""A task that two agents hand back and forth, with new words each time, is told once, and wakes nobody."""

from __future__ import annotations

from typing import Any

from detectors.session.ping_pong import PingPong
from detectors.testing import events, run


def turn(number: int, **changed: Any) -> dict[str, Any]:
    """The lead delegates on even numbers, the worker reports on odd ones; no two contents are equal."""
    lead = {"agent": "lead", "to_agent": "worker", "intent": "delegate"}
    worker = {"agent": "worker", "to_agent": "lead", "intent": "result"}
    ends = worker if number % 2 else lead
    return {"type": "message", "content_hash": f"c{number}", **ends, **changed}


def test_sixteen_turns_are_a_warning_told_once() -> None:
    assert run(PingPong(), events(turn(number) for number in range(80))) == [("warning", "e15", 16.0)]
    assert run(PingPong(), events(turn(number) for number in range(15))) == []


def test_a_third_agent_that_speaks_begins_the_count_anew() -> None:
    other = turn(0, to_agent="critic")
    stream = [*(turn(number) for number in range(14)), other, *(turn(number + 14) for number in range(14))]
    assert run(PingPong(), events(stream)) == []


def test_one_agent_that_only_talks_and_questions_that_are_answered_are_no_turns() -> None:
    assert run(PingPong(), events(turn(2 * number) for number in range(40))) == []
    ask = {"intent": "clarification"}
    answered = (turn(number, **({"intent": "answer"} if number % 2 else ask)) for number in range(40))
    assert run(PingPong(), events(answered)) == []
