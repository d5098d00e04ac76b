"""retry_storm tells trying again from trying after something was changed."""

from __future__ import annotations

from typing import Any

import pytest

from detectors.offline import Engine
from detectors.session.retry_storm import RetryStorm
from detectors.testing import events, run

TESTS: dict[str, Any] = {
    "type": "tool.call",
    "tool": "run_tests",
    "arguments_hash": "a1",
    "status": "error",
    "error_type": "exit_1",
}
EDIT: dict[str, Any] = {
    "type": "tool.call",
    "tool": "edit_file",
    "arguments_hash": "e1",
    "status": "ok",
    "effect": "file.write",
}
READ: dict[str, Any] = {"type": "tool.call", "tool": "read_file", "arguments_hash": "r1", "status": "ok"}


def test_tests_that_stay_red_after_every_edit_are_work() -> None:
    assert run(RetryStorm(), events([TESTS, EDIT] * 20)) == []


def test_an_edit_by_another_agent_changes_nothing_for_this_one() -> None:
    stream = events([TESTS, dict(EDIT, agent="other")] * 6)
    assert [severity for severity, _, _ in run(RetryStorm(), stream)] == ["warning", "critical"]


def test_an_edit_that_fails_changes_nothing() -> None:
    failed = dict(EDIT, status="error", error_type="conflict")
    found = run(RetryStorm(), events([TESTS, failed] * 6))
    assert ("critical", "e10", 6.0) in found


def test_other_calls_between_may_have_changed_something_so_it_is_only_a_warning() -> None:
    assert run(RetryStorm(), events([TESTS, READ] * 20)) == [("warning", "e10", 6.0)]


def test_six_failures_with_nothing_between_are_critical_whatever_came_before() -> None:
    stream = events([TESTS, READ, *[TESTS] * 6])
    assert [severity for severity, _, _ in run(RetryStorm(), stream)] == ["warning", "critical"]


def test_credentials_and_overload_do_not_get_better_by_other_work() -> None:
    refused = dict(TESTS, error_type="401")
    assert run(RetryStorm(), events([refused, EDIT] * 3)) == [("critical", "e4", 3.0)]
    limited = dict(TESTS, error_type="rate_limit")
    [found] = run(RetryStorm(), events([limited, EDIT] * 8, gap_ms=100))
    assert found[0] == "critical"


@pytest.mark.parametrize(("error_type", "mode"), [("server_error", "throttle"), ("invalid_request", "halt")])
def test_a_model_whose_provider_fails_slows_the_agent_and_does_not_stop_it(
    error_type: str, mode: str
) -> None:
    call = {"type": "llm.call", "request_model": "m", "input_tokens": 1, "output_tokens": 0}
    stream = events([dict(call, status="error", error_type=error_type)] * 6)
    *_, found = Engine([RetryStorm()], ()).run(stream)
    assert found.suggested is not None
    assert (found.severity, found.suggested.mode) == ("critical", mode)
