"""Slack's buttons: only what Slack has just signed, once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from slack_sdk.signature import SignatureVerifier
from starlette.testclient import TestClient

from api.adapters import BUTTON_ACKNOWLEDGE, BUTTON_HALT, BUTTON_RESOLVE, BUTTON_RESUME, SlackButtons
from api.ports import ControlOrder, SlackAction
from schemas.control import ControlState, Target
from tests.api.conftest import NOW_S, SECRET, Remembering

PRESSED = {"user": {"id": "U1"}, "actions": [{"action_id": BUTTON_ACKNOWLEDGE, "value": "INC-0"}]}


def press(
    client: TestClient,
    payload: Any = PRESSED,
    *,
    timestamp: str = str(int(NOW_S)),
    secret: str = SECRET,
    headers: dict[str, Any] | None = None,
    body: bytes | None = None,
) -> Any:
    content = urlencode({"payload": json.dumps(payload)}).encode() if body is None else body
    signature = SignatureVerifier(secret).generate_signature(
        timestamp=timestamp, body=content.decode("utf-8", "replace")
    )
    signed: dict[str, Any] = {
        "X-Slack-Request-Timestamp": timestamp,
        "X-Slack-Signature": signature or "",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    return client.post("/slack/interactions", content=content, headers={**signed, **(headers or {})})


def test_a_genuine_press_is_done_and_answered(client: TestClient, parts: Remembering) -> None:
    answer = press(client)
    assert (answer.status_code, answer.json()["text"]) == (200, "INC-0 is acknowledged.")
    assert parts.done == [("U1", BUTTON_ACKNOWLEDGE, "INC-0")]


@pytest.mark.parametrize(
    "forged",
    [
        {"secret": "another"},
        {"timestamp": str(int(NOW_S) - 301)},
        {"timestamp": str(int(NOW_S) + 301)},
        {"timestamp": "soon"},
        {"timestamp": ""},
        {"timestamp": "1e9"},
        {"headers": {"X-Slack-Signature": ""}},
        {"headers": {"X-Slack-Signature": "v0="}},
        {"headers": {"X-Slack-Signature": "v0=\u00e9".encode()}},
        {"headers": {"X-Slack-Request-Timestamp": str(int(NOW_S) + 1)}},
        {"body": b"\xff\xfe"},
    ],
)
def test_nothing_else_is_accepted(client: TestClient, parts: Remembering, forged: dict[str, Any]) -> None:
    assert press(client, **forged).status_code == 401
    assert parts.done == []


def test_a_signature_counts_once(client: TestClient, parts: Remembering) -> None:
    assert press(client).status_code == 200
    assert press(client).json()["error"] == "replayed"
    parts.now_s += 1
    assert press(client, timestamp=str(int(NOW_S) + 1)).status_code == 200
    assert len(parts.done) == 2


def test_seen_signatures_are_forgotten_only_when_too_old_to_count(
    client: TestClient, parts: Remembering
) -> None:
    press(client)
    parts.now_s += 299
    assert press(client).json()["error"] == "replayed"
    parts.now_s += 600
    assert press(client).json()["error"] == "bad_signature"


def test_without_a_secret_nothing_is_taken(
    make_client: Callable[..., TestClient], parts: Remembering
) -> None:
    answer = press(make_client(secret=None))
    assert (answer.status_code, answer.json()["error"]) == (503, "no_signing_secret")
    assert parts.done == []


@pytest.mark.parametrize(
    ("payload", "status"),
    [({}, 200), ({"actions": [], "user": {"id": "U"}}, 200), ({"actions": 3}, 200), ([], 400), (None, 400)],
)
def test_other_payloads_do_nothing(client: TestClient, parts: Remembering, payload: Any, status: int) -> None:
    assert press(client, payload).status_code == status
    assert press(client, body=b"nothing=here").status_code == 400
    assert parts.done == []


@pytest.mark.parametrize(
    ("button", "value", "done"),
    [
        (BUTTON_ACKNOWLEDGE, "INC-0", ("ack", "INC-0", "slack:U1")),
        (BUTTON_RESOLVE, "INC-0", ("resolve", "INC-0", "slack:U1")),
        (
            BUTTON_HALT,
            "acme/support",
            (
                ControlOrder(
                    "halt",
                    Target(tenant="acme", agent="support"),
                    ControlState(mode="halt"),
                    "halt pressed in Slack",
                ),
                "slack:U1",
            ),
        ),
        (
            BUTTON_RESUME,
            "support",
            (ControlOrder("resume", Target(agent="support"), None, "resume pressed in Slack"), "slack:U1"),
        ),
    ],
)
def test_what_the_buttons_do(parts: Remembering, button: str, value: str, done: tuple[object, ...]) -> None:
    said = SlackButtons(parts, lambda _user, _button: True)(SlackAction("U1", button, value, {}))
    assert said is not None
    assert parts.done == [done]


def test_who_may_not_and_what_is_refused_is_told(parts: Remembering) -> None:
    assert "may not" in str(SlackButtons(parts, lambda *_: False)(SlackAction("U1", BUTTON_HALT, "a", {})))
    allowed = SlackButtons(parts, lambda *_: True)
    assert "Not done" in str(allowed(SlackAction("U1", BUTTON_RESOLVE, "INC-7", {})))
    assert "Not done" in str(allowed(SlackAction("U1", BUTTON_HALT, "", {})))
    assert allowed(SlackAction("U1", "another.app", "x", {})) is None
    assert parts.done == []
