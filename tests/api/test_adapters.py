"""The API on a real responder and an SQLite store: what a request changes is what the next one reads."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from api.adapters import ResponderActions, StoreIncidents
from api.app import Parts, make_app
from api.health import HealthBoard
from api.security import Access
from config.settings import Settings
from responders.actions import connect
from responders.handle import Responder
from schemas.health import HEALTH, AgentHealth
from tests.api.conftest import TOKEN, Remembering

OPENED = datetime(2026, 3, 1, 12, tzinfo=UTC)
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def responder(tmp_path: Path) -> Iterator[Responder]:
    found = connect(Settings(data_dir=tmp_path))
    seconds = count()
    found.clock = lambda: OPENED + timedelta(seconds=next(seconds))
    yield found
    found.store.close()


@pytest.fixture
def client(responder: Responder) -> TestClient:
    actions, rest = ResponderActions(responder), Remembering()
    parts = Parts(StoreIncidents(responder.store), actions, rest, rest, rest, rest)
    return TestClient(make_app(parts, Access(TOKEN, loopback_only=True)), base_url="http://127.0.0.1")


def halted(client: TestClient) -> str:
    body = {"action": "halt", "target": "acme/support", "reason": "it deletes", "person": "ada"}
    answer = client.post("/v1/control", json=body, headers=BEARER)
    assert answer.status_code == 202
    return str(answer.json()["incident_id"])


def test_a_halt_by_hand_opens_an_incident_that_can_be_read(client: TestClient) -> None:
    incident_id = halted(client)
    assert [row["incident_id"] for row in client.get("/v1/incidents").json()["incidents"]] == [incident_id]
    shown = client.get(f"/v1/incidents/{incident_id}").json()
    assert "ada" in shown["opened_by"].values()
    assert shown["containments"][0]["wanted"]["mode"] == "halt"
    (agent,) = client.get("/v1/agents").json()["agents"]
    assert (agent["tenant"], agent["agent"], agent["open_incidents"]) == ("acme", "support", [incident_id])
    assert agent["health"] is None


def test_agents_are_listed_with_health_whether_or_not_they_ever_had_an_incident(responder: Responder) -> None:
    board, actions, rest = HealthBoard(), ResponderActions(responder), Remembering()
    for agent, state in (("support", "unhealthy"), ("billing", "healthy")):
        board.take(HEALTH.dump_json(AgentHealth(tenant="acme", agent=agent, time=OPENED, state=state)))
    parts = Parts(StoreIncidents(responder.store, board), actions, rest, rest, rest, rest)
    client = TestClient(make_app(parts, Access(TOKEN, loopback_only=True)), base_url="http://127.0.0.1")
    incident_id = halted(client)
    billing, support = client.get("/v1/agents").json()["agents"]
    assert (billing["agent"], billing["open_incidents"], billing["health"]["state"]) == (
        "billing",
        [],
        "healthy",
    )
    assert (support["open_incidents"], support["health"]["state"]) == ([incident_id], "unhealthy")


def test_the_newest_health_counts_and_what_cannot_be_read_is_passed_over() -> None:
    board = HealthBoard()
    newest = AgentHealth(agent="a", time=OPENED + timedelta(hours=1), state="degraded", score=40.0)
    for health in (AgentHealth(agent="a", time=OPENED, state="healthy"), newest):
        board.take(HEALTH.dump_json(health))
    for value in (HEALTH.dump_json(AgentHealth(agent="a", time=OPENED, state="healthy")), b"{", None):
        board.take(value)
    assert board.all() == {("default", "a"): newest}


def test_acknowledge_resolve_and_the_past(client: TestClient) -> None:
    incident_id = halted(client)
    assert client.post(f"/v1/incidents/{incident_id}/ack", headers=BEARER).json()["state"] == "acknowledged"
    assert client.post(f"/v1/incidents/{incident_id}/resolve", headers=BEARER).json()["state"] == "resolved"
    shown = client.get(f"/v1/incidents/{incident_id}").json()
    opened_at = shown["log"][0]["time"]  # who halts by hand is on it
    then = client.get(f"/v1/incidents/{incident_id}", params={"at": opened_at}).json()
    assert (shown["state"], then["state"]) == ("resolved", "acknowledged")
    before = client.get(f"/v1/incidents/{incident_id}", params={"at": "2020-01-01T00:00:00Z"})
    assert before.status_code == 404


def test_resume_says_whom_it_is_about(client: TestClient) -> None:
    halted(client)
    answer = client.post("/v1/control", json={"action": "resume", "target": "acme/support"}, headers=BEARER)
    assert answer.json() == {"targets": [{"tenant": "acme", "agent": "support"}], "still_held_by": []}
    client.post("/v1/control", json={"action": "halt", "target": "acme/*"}, headers=BEARER)
    again = client.post("/v1/control", json={"action": "resume", "target": "acme/support"}, headers=BEARER)
    assert again.json() == {"targets": [], "still_held_by": [{"tenant": "acme", "agent": "*"}]}


def test_degrade_sets_the_rung(client: TestClient) -> None:
    body = {"action": "degrade", "target": "support", "ladder": "keyword"}
    incident_id = client.post("/v1/control", json=body, headers=BEARER).json()["incident_id"]
    wanted = client.get(f"/v1/incidents/{incident_id}").json()["containments"][0]["wanted"]
    assert (wanted["mode"], wanted["ladder"]) == ("degrade", "keyword")


def test_orders_add_up_until_one_takes_them_back(client: TestClient) -> None:
    orders: list[dict[str, object]] = [
        {"action": "throttle", "calls_per_minute": 6},
        {"action": "revoke", "tools": ["send_email"]},
        {"action": "budget", "usd": 5},
        {"action": "require_approval"},
    ]
    for order in orders:
        answer = client.post("/v1/control", json={"target": "support", **order}, headers=BEARER)
        assert answer.status_code == 202, answer.text
    held = client.get(f"/v1/incidents/{answer.json()['incident_id']}").json()["containments"][0]
    wanted = held["wanted"]
    assert (wanted["mode"], wanted["calls_per_minute"]) == ("require_approval", 6)
    assert (wanted["revoked_tools"], wanted["budget"]["cost_usd"]) == (["send_email"], 5.0)
    client.post("/v1/control", json={"action": "resume", "target": "support"}, headers=BEARER)
    shown = client.get(f"/v1/incidents/{answer.json()['incident_id']}").json()
    assert shown["containments"][0]["state"] == "released"


def test_what_is_not_there_is_said(client: TestClient) -> None:
    answer = client.get("/v1/incidents/INC-NONE")
    assert (answer.status_code, answer.json()["error"]) == (404, "no_incident")
    answer = client.post("/v1/incidents/INC-NONE/ack", headers=BEARER)
    assert (answer.status_code, answer.json()["error"]) == (404, "no_incident")


def test_a_store_that_is_gone_is_503(client: TestClient, tmp_path: Path, responder: Responder) -> None:
    responder.store.close()
    (tmp_path / "watchkeeper.db").unlink()
    (tmp_path / "watchkeeper.db").mkdir()
    answer = client.get("/v1/incidents")
    assert (answer.status_code, answer.json()["error"]) == (503, "store_unavailable")
