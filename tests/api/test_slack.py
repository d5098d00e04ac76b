"""Slack's buttons: only what Slack has just signed, once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from slack_sdk.signature import SignatureVerifier
from starlette.testclient import TestClient

import api.slack
from tests.api.conftest import NOW_S, SECRET, Remembering

ACKNOWLEDGE = "watchkeeper.acknowledge"
PRESSED = {
    "type": "block_actions",
    "user": {"id": "U1"},
    "actions": [{"action_id": ACKNOWLEDGE, "value": "INC-0::"}],
    "response_url": "https://hooks.slack.com/actions/T1/1/x",
}
TYPED = {"command": "/watchkeeper", "text": "halt billing", "user_id": "U1", "response_url": "https://there"}


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


def test_a_genuine_press_is_done_and_told_where_slack_shows_it(
    client: TestClient, parts: Remembering
) -> None:
    answer = press(client)
    assert (answer.status_code, answer.content) == (200, b"")
    assert parts.done == [("U1", "acknowledge", "INC-0::")]
    assert parts.told == [("https://hooks.slack.com/actions/T1/1/x", "It is done.")]


def test_a_press_without_an_address_is_answered_at_once(client: TestClient) -> None:
    assert press(client, {**PRESSED, "response_url": ""}).json()["text"] == "It is done."


def test_a_command_is_done_and_answered_to_its_person_alone(client: TestClient, parts: Remembering) -> None:
    answer = press(client, body=urlencode(TYPED).encode())
    assert answer.json() == {
        "response_type": "ephemeral",
        "replace_original": False,
        "text": "It is done.",
    }
    assert parts.done == [("U1", "halt billing")]
    assert parts.told == []


def test_slack_is_answered_in_time_and_the_person_afterwards(
    parts: Remembering, make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.slack, "ANSWER_WITHIN_S", 0.05)
    parts.held = threading.Event()
    with make_client() as client:
        answer = press(client, body=urlencode(TYPED).encode())
        assert (answer.status_code, answer.content, parts.done) == (200, b"", [])
        parts.held.set()
        deadline = time.monotonic() + 60
        while not parts.told and time.monotonic() < deadline:
            client.get("/healthz")
    assert parts.told == [("https://there", "It is done.")]


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


@pytest.mark.parametrize("secret", [None, "", "  "])
def test_without_a_secret_nothing_is_taken(
    make_client: Callable[..., TestClient], parts: Remembering, secret: str | None
) -> None:
    answer = press(make_client(secret=secret))
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
