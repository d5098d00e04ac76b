"""Incidents, containment by hand, decisions for a proxy, health: what is read and who may change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.allow import WantedDecider
from api.ports import ControlOrder
from responders.containment import within_budget, without_tools
from schemas.control import ControlState, Target
from tests.api.conftest import Remembering
from watchkeeper_client.control import TrustedKeys
from watchkeeper_client.spending import Call
from watchkeeper_client.wanted import Decision, WantedState

CHANGES = ("/v1/incidents/INC-0/ack", "/v1/incidents/INC-0/resolve", "/v1/control")
HALT = {"action": "halt", "target": "support"}
STOPPED = ControlState(mode="halt")


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize("loopback", [True, False])
@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("Basic YTpi", 401),
        ("Bearer wrong", 403),
        ("Bearer a-token-of-the-engin", 403),
        ("Bearer \u00e9", 403),
    ],
)
def test_no_change_without_the_token(
    make_client: Callable[..., TestClient],
    parts: Remembering,
    path: str,
    loopback: bool,
    header: str | None,
    status: int,
) -> None:
    headers: dict[str, Any] = {} if header is None else {"Authorization": header.encode()}
    answer = make_client(loopback=loopback).post(path, json=HALT, headers=headers)
    assert answer.status_code == status
    assert parts.done == []


def test_what_is_listed(client: TestClient) -> None:
    assert client.get("/v1/incidents").json() == {
        "incidents": [{"incident_id": "INC-0"}, {"incident_id": "INC-1"}]
    }
    assert len(client.get("/v1/incidents?limit=1").json()["incidents"]) == 1
    assert client.get("/v1/agents").json() == {"agents": [{"agent": "support"}]}


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1001", "1.5"])
def test_a_bad_limit_is_said(client: TestClient, limit: str) -> None:
    assert client.get(f"/v1/incidents?limit={limit}").status_code == 400


def test_an_incident_now_and_then(client: TestClient) -> None:
    assert client.get("/v1/incidents/INC-0").json() == {"incident_id": "INC-0", "at": None}
    for at in ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00+00:00", "2026-03-01T12:00:00%2B00:00"):
        assert client.get(f"/v1/incidents/INC-0?at={at}").json()["at"] == "2026-03-01T12:00:00+00:00"
    assert client.get("/v1/incidents/INC-0?at=yesterday").status_code == 400
    assert client.get("/v1/incidents/INC-0?at=2026-03-01T12:00:00").status_code == 400


def test_errors_are_one_line_of_json(client: TestClient, bearer: dict[str, str]) -> None:
    missing = client.get("/v1/incidents/INC-7")
    assert (missing.status_code, missing.json()["error"]) == (404, "no_incident")
    refused = client.post("/v1/incidents/INC-7/resolve", headers=bearer)
    assert (refused.status_code, refused.json()["detail"]) == (409, "it is resolved already")
    for answer in (missing, refused, client.get("/v2"), client.delete("/v1/incidents")):
        assert set(answer.json()) == {"error", "detail"}
        assert "\n" not in answer.json()["detail"]


@pytest.mark.parametrize("incident_id", ["INC%00", "x" * 257, "%0a"])
def test_what_cannot_be_an_id_is_not_looked_for(
    client: TestClient, parts: Remembering, bearer: dict[str, str], incident_id: str
) -> None:
    assert client.get(f"/v1/incidents/{incident_id}").status_code == 404
    answer = client.post(f"/v1/incidents/{incident_id}/ack", headers=bearer)
    assert (answer.status_code, parts.done) == (404, [])


def test_acknowledge_and_resolve(client: TestClient, parts: Remembering, bearer: dict[str, str]) -> None:
    assert client.post("/v1/incidents/INC-0/ack", headers=bearer).json() == {"state": "acknowledged"}
    client.post("/v1/incidents/INC-0/resolve", json={"person": "ada"}, headers=bearer)
    assert parts.done == [("ack", "INC-0", "http"), ("resolve", "INC-0", "ada")]


@pytest.mark.parametrize(
    ("body", "order"),
    [
        (HALT, ControlOrder("halt", Target(agent="support"), STOPPED, "halt by hand")),
        (
            {"action": "resume", "target": "acme/support/s-1", "reason": "fixed"},
            ControlOrder("resume", Target(tenant="acme", agent="support", session="s-1"), None, "fixed"),
        ),
        (
            {"action": "degrade", "target": {"agent": "a/b"}, "ladder": "rag"},
            ControlOrder(
                "degrade", Target(agent="a/b"), ControlState(mode="degrade", ladder="rag"), "degrade by hand"
            ),
        ),
        ({"action": "halt", "target": "*"}, ControlOrder("halt", Target(agent="*"), STOPPED, "halt by hand")),
        (
            {"action": "throttle", "target": "support", "calls_per_minute": 0},
            ControlOrder(
                "throttle",
                Target(agent="support"),
                ControlState(mode="throttle", calls_per_minute=0),
                "throttle by hand",
            ),
        ),
        (
            {"action": "revoke", "target": "support", "tools": ["mail", "db"]},
            ControlOrder("revoke", Target(agent="support"), without_tools(["db", "mail"]), "revoke by hand"),
        ),
        (
            {"action": "budget", "target": "support/s/1", "usd": 5, "steps": 15},
            ControlOrder(
                "budget",
                Target(tenant="support", agent="s", session="1"),
                within_budget(cost_usd=5.0, steps=15),
                "budget by hand",
            ),
        ),
        (
            {"action": "require_approval", "target": "support"},
            ControlOrder(
                "require_approval",
                Target(agent="support"),
                ControlState(mode="require_approval"),
                "require_approval by hand",
            ),
        ),
    ],
)
def test_control_by_hand(
    client: TestClient,
    parts: Remembering,
    bearer: dict[str, str],
    body: dict[str, Any],
    order: ControlOrder,
) -> None:
    answer = client.post("/v1/control", json={**body, "person": "ada"}, headers=bearer)
    assert answer.status_code == 202
    assert parts.done == [(order, "ada")]


@pytest.mark.parametrize(
    "change",
    [
        {"action": "explode"},
        {"action": None},
        {"action": ["halt"]},
        {"target": None},
        {"target": ""},
        {"target": {"agent": "*", "session": "s"}},
        {"target": {"agent": 3}},
        {"action": "degrade"},
        {"action": "degrade", "ladder": "full"},
        {"action": "degrade", "ladder": ["rag"]},
        {"ladder": "rag"},
        {"action": "throttle"},
        {"action": "throttle", "calls_per_minute": -1},
        {"action": "throttle", "calls_per_minute": True},
        {"action": "throttle", "calls_per_minute": 1.5},
        {"action": "throttle", "calls_per_minute": 5, "usd": 1},
        {"action": "revoke"},
        {"action": "revoke", "tools": []},
        {"action": "revoke", "tools": "mail"},
        {"action": "revoke", "tools": [""]},
        {"action": "revoke", "tools": ["mail"] * 513},
        {"action": "budget"},
        {"action": "budget", "usd": "5"},
        {"action": "budget", "usd": -1},
        {"action": "budget", "tokens": 1.5},
        {"action": "budget", "steps": 10**15},
        {"tools": ["mail"]},
        {"reason": ""},
        {"reason": "x" * 1_025},
        {"person": ""},
        {"person": "a\x00b"},
        {"target": {"agent": "a\x00b"}},
    ],
)
def test_a_bad_order_changes_nothing(
    client: TestClient, parts: Remembering, bearer: dict[str, str], change: dict[str, Any]
) -> None:
    assert client.post("/v1/control", json={**HALT, **change}, headers=bearer).status_code == 400
    assert parts.done == []


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"action": "explode"}, "bad_action", "throttle, revoke, budget"),
        ({"calls_per_minute": 5}, "bad_calls_per_minute", "goes with throttle only"),
        ({"action": "budget"}, "bad_budget", "usd, tokens or steps"),
        ({"action": "revoke"}, "bad_tools", "a list of names"),
        ({"action": "throttle"}, "bad_calls_per_minute", "throttle needs calls_per_minute"),
        ({"tenant": "acme"}, "unknown_field", "no 'tenant': halt takes target, reason, person"),
        ({"action": "budget", "steps": 5, "cost_usd": 1}, "unknown_field", "budget takes usd, tokens, steps"),
    ],
)
def test_a_bad_order_is_told_what_to_say(
    client: TestClient, bearer: dict[str, str], change: dict[str, Any], error: str, says: str
) -> None:
    answer = client.post("/v1/control", json={**HALT, **change}, headers=bearer).json()
    assert answer["error"] == error
    assert says in answer["detail"]


def test_allow_passes_whom_it_is_about(client: TestClient, parts: Remembering) -> None:
    answer = client.get("/v1/allow?agent=support&session=s-1&tool=email.send&tenant=acme")
    assert (answer.status_code, answer.json()["allowed"]) == (200, True)
    assert answer.headers["cache-control"] == "no-store"
    client.get("/v1/allow?agent=support&effect=db.delete&targets=20&irreversible=true&approval=ap-1")
    assert parts.decided == [
        ("acme", "support", "s-1", Call("email.send")),
        ("default", "support", None, Call(None, "db.delete", 20, approval="ap-1", irreversible=True)),
    ]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_proxy_that_appends_the_agents_own_path_says_it_in_headers(
    client: TestClient, parts: Remembering, method: str
) -> None:
    headers = {"X-Watchkeeper-Agent": "support", "X-Watchkeeper-Session": "s-1", "X-Watchkeeper-Tool": "mail"}
    answer = client.request(method, "/v1/allow/tools/mail?agent=other&tool=search", headers=headers)
    assert answer.status_code == 200
    assert client.get("/v1/allow?agent=support", headers={"X-Watchkeeper-Agent": "other"}).status_code == 200
    assert parts.decided == [
        ("default", "support", "s-1", Call("mail")),
        ("default", "support", None, Call()),
    ]


def test_who_is_named_twice_is_not_guessed_at(client: TestClient, parts: Remembering) -> None:
    assert client.get("/v1/allow?agent=support&agent=other").status_code == 400
    twice = [("X-Watchkeeper-Agent", "support"), ("X-Watchkeeper-Agent", "other")]
    assert client.get("/v1/allow/", headers=twice).status_code == 400
    assert client.get("/v1/allow/?agent=support").status_code == 400
    assert parts.decided == []


@pytest.mark.parametrize("query", ["targets=-1", "targets=many", "targets=²", "irreversible=maybe"])
def test_allow_refuses_what_it_cannot_read(client: TestClient, query: str) -> None:
    assert client.get(f"/v1/allow?agent=support&{query}").status_code == 400


def test_what_cannot_be_taken_back_needs_an_approval_at_the_proxy_too() -> None:
    decider = WantedDecider(WantedState(TrustedKeys({}), enforcement_point="test"))
    drop = Call("drop_table", irreversible=True)
    assert decider.decide("default", "support", "s", drop).denied == "irreversible"
    assert decider.decide("default", "support", "s", drop._replace(approval="ap-1")).allowed


def test_a_denial_says_why_and_when(client: TestClient, parts: Remembering) -> None:
    parts.decision = Decision(False, "throttle", "full", "throttle", "too fast", "cmd-1", 2_400.0)
    answer = client.get("/v1/allow?agent=support")
    assert (answer.status_code, answer.headers["retry-after"]) == (403, "2")
    assert answer.headers["x-watchkeeper-denied"] == "throttle"
    assert answer.json() == {
        "allowed": False,
        "mode": "throttle",
        "ladder": "full",
        "denied": "throttle",
        "reason": "too fast",
        "command_id": "cmd-1",
    }


def test_allow_needs_an_agent(client: TestClient) -> None:
    for query in ("", "?agent=", "?tool=x", f"?agent={'x' * 257}"):
        assert client.get(f"/v1/allow{query}").status_code == 400


@pytest.mark.parametrize(("mode", "before", "after"), [("open", True, True), ("closed", False, True)])
def test_the_fail_mode_holds_while_control_is_not_heard(mode: Any, before: bool, after: bool) -> None:
    clock = [0.0]
    state = WantedState(TrustedKeys({}), enforcement_point="test")
    decider = WantedDecider(state, mode, 1_000, now_ms=lambda: 0.0, elapsed_ms=lambda: clock[0])
    assert decider.decide("default", "support", None, Call()).allowed is before
    decider.heard()
    assert decider.decide("default", "support", None, Call()).allowed is after
    clock[0] = 1_001.0
    assert decider.decide("default", "support", None, Call()).allowed is before


def test_health(client: TestClient, parts: Remembering) -> None:
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200
    parts.to_mend["policy"] = "policy.toml:3: paging.channels: wrong"
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["notices"]) == (200, parts.to_mend)
    parts.wrong["kafka"] = "no broker at 127.0.0.1:9092"
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["problems"]) == (503, parts.wrong)
    client.get("/v1/allow?agent=support")
    shown = client.get("/metrics").text
    assert 'watchkeeper_http_allow_total{decision="allowed"} 1.0' in shown
