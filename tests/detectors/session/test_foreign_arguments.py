"""What a steered call is worth waking somebody for."""

from __future__ import annotations

from typing import Any

import pytest

from detectors.offline import Engine
from detectors.session.foreign_arguments import ASKED, MAX_REPORTED, WRITES, ForeignArguments
from detectors.testing import events
from schemas.detection import Detection
from watchkeeper_client.events import FOREIGN_ASKED, FOREIGN_WRITES

CALL = {"type": "tool.call", "tool": "t", "arguments_hash": "a", "status": "ok", "foreign_arguments": True}
STEERED = {WRITES: True, ASKED: False}


def found(*calls: dict[str, Any]) -> list[Detection]:
    return list(Engine([ForeignArguments()], ()).run(events({**CALL, **call} for call in calls)))


@pytest.mark.parametrize(
    ("call", "severity", "mode"),
    [
        ({}, "warning", None),
        ({"attributes": {WRITES: False, ASKED: False}}, "warning", None),
        ({"attributes": STEERED}, "critical", "halt"),
        ({"attributes": {WRITES: True, ASKED: True}}, "warning", None),
        ({"effect": "email.send"}, "critical", "halt"),
        ({"effect": "email.send", "attributes": {ASKED: True}}, "warning", None),
        ({"irreversible": True}, "critical", "halt"),
        ({"irreversible": True, "attributes": {ASKED: True}}, "critical", "require_approval"),
        ({"irreversible": True, "approval": "ap-1"}, "warning", None),
        ({"targets": 3}, "critical", "halt"),
        ({"targets": 0}, "warning", None),
    ],
)
def test_severity_follows_what_the_call_can_do(call: dict[str, Any], severity: str, mode: str | None) -> None:
    (one,) = found(call)
    assert one.severity == severity
    assert (one.suggested.mode if one.suggested else None) == mode


@pytest.mark.parametrize("flag", [None, False])
def test_an_unflagged_call_is_nothing(flag: bool | None) -> None:
    assert found({"foreign_arguments": flag, "irreversible": True}) == []


def test_a_tool_is_reported_once_and_once_more_when_it_gets_worse() -> None:
    calls = [{}, {}, {"effect": "x"}, {"effect": "x"}, {}, {"tool": "u"}, {"agent": "other"}]
    assert [(one.severity, one.evidence.event_ids[-1]) for one in found(*calls)] == [
        ("warning", "e0"),
        ("critical", "e2"),
        ("warning", "e5"),
        ("warning", "e6"),
    ]


def test_state_is_bounded() -> None:
    assert len(found(*({"tool": f"t{number}"} for number in range(200)))) == MAX_REPORTED


def test_the_client_s_attributes_are_the_detector_s() -> None:
    assert (FOREIGN_ASKED, FOREIGN_WRITES) == (ASKED, WRITES)
