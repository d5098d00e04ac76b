"""Containment by hand, from the command line to a gate: what is ordered is what the gate does."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.acting import NOT_TAKEN, responder_of, taken_up
from cli.common import settings_from
from responders import actions, keys
from responders.control import ControlPublisher
from responders.store.migrations import upgrade
from schemas.control import Target
from tests.cli.invoke import Invoked, invoke
from tests.responders.world import KeptBus
from watchkeeper_client import Gate, TrustedKeysFile, WantedState

AGENT = "acme/shop"


@dataclass
class Desk:
    """A data directory, orders given in it, and the gate of an agent that hears them."""

    data_dir: Path
    now_ms: float = 0.0

    def __post_init__(self) -> None:
        self.now_ms = time.time() * 1000 + 60_000
        self.state: WantedState | None = None

    def order(self, *arguments: str) -> Invoked:
        done = invoke(*arguments, "--data-dir", str(self.data_dir))
        assert done.returncode == 0, done.stderr
        self.published: list[dict[str, Any]] = asyncio.run(self._publish())
        return done

    async def _publish(self) -> list[dict[str, Any]]:
        """What the responder that runs beside would put onto the bus."""
        made, bus = keys.load_or_create(self.data_dir), KeptBus()
        responder = actions.connect(settings_from(None, self.data_dir))
        try:
            await ControlPublisher(responder, bus, made).run_once()
        finally:
            responder.store.close()
        if self.state is None:
            self.state = WantedState(TrustedKeysFile(made.trusted_file), enforcement_point="test")
        for command in bus.commands():
            ack = self.state.apply(json.dumps(command).encode(), self.now_ms)
            assert ack["result"] == "applied", ack
        return bus.commands()

    def gate(self, agent: str = "shop", tenant: str = "acme") -> Gate:
        assert self.state is not None
        return Gate(self.state, agent=agent, tenant=tenant, clock=lambda: self.now_ms)


@pytest.fixture
def desk(migrated: Path, tmp_path: Path) -> Desk:
    (tmp_path / "watchkeeper.db").write_bytes(migrated.read_bytes())
    return Desk(tmp_path)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No responder runs beside these commands: none is waited for."""
    monkeypatch.setattr("cli.acting._TAKEN_UP_WITHIN_S", 0.0)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "store.db"
    upgrade(f"sqlite:///{path}")
    return path


def test_a_throttled_agent_has_its_rate_and_no_more(desk: Desk) -> None:
    assert "throttle, 6 calls a minute" in desk.order("throttle", AGENT, "6").stdout
    gate = desk.gate()
    assert gate.allowed(session="s").allowed
    denied = gate.allowed(session="other")
    assert (denied.denied, denied.retry_after_ms) == ("throttle", 10_000)
    desk.now_ms += 10_000
    assert gate.allowed(session="s").allowed
    desk.order("throttle", AGENT, "0")
    desk.now_ms += 3_600_000
    assert gate.allowed(session="s").denied == "throttle"


def test_an_agent_that_must_ask_is_denied_what_nobody_approved(desk: Desk) -> None:
    done = desk.order("require-approval", AGENT)
    assert done.stdout.startswith("acme/shop is to ask before each action (INC-")
    gate = desk.gate()
    assert gate.allowed(tool="mail", session="s").denied == "approval"
    assert gate.allowed(tool="mail", session="s", approval="A-17").allowed
    desk.order("resume", AGENT)
    assert desk.gate().allowed(tool="mail", session="s").allowed


def test_a_revoked_tool_is_denied_and_the_others_go_on(desk: Desk) -> None:
    desk.order("revoke", AGENT, "mail", "pay")
    gate = desk.gate()
    assert [gate.allowed(tool=tool, session="s").denied for tool in ("mail", "pay")] == ["revoked_tool"] * 2
    decision = gate.allowed(tool="search", session="s")
    assert (decision.allowed, decision.ladder) == (True, "full")


@pytest.mark.parametrize(
    ("caps", "calls"),
    [
        (("--steps", "3"), [{}] * 3),
        (("--tokens", "1000"), [{"tokens": 600}, {"tokens": 400}]),
        (("--usd", "0.5"), [{"cost_usd": 0.3}, {"cost_usd": 0.2}]),
    ],
)
def test_each_session_has_its_budget(desk: Desk, caps: tuple[str, ...], calls: list[dict[str, Any]]) -> None:
    desk.order("budget", AGENT, *caps)
    gate = desk.gate()
    for session in ("s", "t"):
        for call in calls:
            assert gate.allowed(session=session, **call).allowed
        assert gate.allowed(session=session, **calls[-1]).denied == "budget"


def test_an_agent_steps_down_and_stops(desk: Desk) -> None:
    desk.order("degrade", AGENT, "keyword")
    decision = desk.gate().allowed(session="s")
    assert (decision.allowed, decision.mode, decision.ladder) == (True, "degrade", "keyword")
    desk.order("halt", f"{AGENT}/s")
    assert desk.gate().allowed(session="s").denied == "halt"
    assert desk.gate().allowed(session="t").allowed


def test_orders_add_up_and_resume_takes_all_of_them_back(desk: Desk) -> None:
    for order in (("throttle", "60"), ("revoke", "mail"), ("revoke", "pay"), ("budget", "--steps", "5")):
        desk.order(order[0], AGENT, *order[1:])
    last = json.loads(desk.order("degrade", AGENT, "rag", "--json").stdout)["wanted"]
    assert last["mode"] == "degrade"
    assert (last["ladder"], last["calls_per_minute"], last["budget"]["steps"]) == ("rag", 60, 5)
    assert last["revoked_tools"] == ["mail", "pay"]
    desk.order("halt", AGENT)
    desk.order("throttle", AGENT, "600")
    assert desk.gate().allowed(session="s").denied == "halt", "no other order lifts a halt"
    done = desk.order("resume", AGENT, "--json")
    assert json.loads(done.stdout)["targets"] == [{"tenant": "acme", "agent": "shop"}]
    assert {command["key_id"].split("-")[0] for command in desk.published} == {"operator"}
    for tool in ("mail", None):
        assert desk.gate().allowed(tool=tool, session="s").mode == "run"


@pytest.mark.parametrize(
    ("tenant", "stopped"),
    [("acme", {("acme", "shop"), ("acme", "desk")}), ("*", {("acme", "shop"), ("acme", "desk"), ("b", "x")})],
)
def test_the_global_stop_is_a_tenants_or_everybodys(
    desk: Desk, tenant: str, stopped: set[tuple[str, str]]
) -> None:
    done = json.loads(desk.order("halt", "--all", "--tenant", tenant, "--json").stdout)
    assert done["target"] == {"tenant": tenant, "agent": "*"}
    everybody = {("acme", "shop"), ("acme", "desk"), ("b", "x")}
    denied = {who for who in everybody if desk.gate(who[1], who[0]).allowed(session="s").denied == "halt"}
    assert denied == stopped
    assert done["incident_id"] in invoke("incidents", "--data-dir", str(desk.data_dir)).stdout
    desk.order("resume", f"{tenant}/*")
    assert all(desk.gate(agent, tenant).allowed(session="s").allowed for tenant, agent in everybody)


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (("budget", AGENT), "say how much", 1),
        (("degrade", AGENT, "full"), "is not a level", 1),
        (("halt",), "say whom", 1),
        (("halt", AGENT, "--all"), "say whom", 1),
        (("halt", ""), "is not a target", 1),
        (("halt", "--all", "--tenant", ""), "is not a target", 1),
        (("halt", "--all", "--tenant", "a/b"), "--tenant takes a tenant's name", 1),
        (("halt", AGENT, "--tenant", "acme"), "--tenant takes a tenant's name", 1),
        (("throttle", "a//b", "5"), "is not a target", 1),
        (("require-approval", "a//b"), "is not a target", 1),
        (("require-approval",), "", 2),
        (("throttle", AGENT, "-5"), "", 2),
        (("throttle", AGENT, "few"), "", 2),
        (("revoke", AGENT), "", 2),
    ],
)
def test_what_cannot_be_ordered_says_so(desk: Desk, arguments: tuple[str, ...], says: str, code: int) -> None:
    done = invoke(*arguments[:1], "--data-dir", str(desk.data_dir), *arguments[1:])
    assert done.returncode == code
    assert says in done.stderr
    assert done.stdout == ""


def test_resume_says_what_it_let_go_and_what_holds_it_still(desk: Desk) -> None:
    nobody = desk.order("resume", AGENT)
    assert nobody.stdout == "nothing held acme/shop; it is told once more that it may run\n"
    desk.order("halt", f"{AGENT}/s")
    desk.order("halt", "--all", "--tenant", "acme")
    assert desk.order("resume", AGENT).stdout == (
        "acme/shop/s is let go, but acme/* is still held, and it with that: watchkeeper resume 'acme/*'\n"
    )
    done = json.loads(desk.order("resume", AGENT, "--json").stdout)
    assert (done["targets"], done["still_held_by"]) == ([], [{"tenant": "acme", "agent": "*"}])
    assert desk.order("resume", "acme/*").stdout == "acme/* may run again\n"


def test_resolve_says_what_stays_held(desk: Desk) -> None:
    incident_id = json.loads(desk.order("halt", AGENT, "--json").stdout)["incident_id"]
    done = desk.order("resolve", incident_id.removeprefix("INC-").lower())
    assert done.stdout == (
        f"{incident_id} is resolved; still held, let it run with: watchkeeper resume acme/shop\n"
    )


def test_an_order_that_nobody_carries_out_says_so(desk: Desk) -> None:
    done = invoke("halt", AGENT, "--json", "--data-dir", str(desk.data_dir))
    assert done.returncode == 0
    assert json.loads(done.stdout)["on_the_bus"] is False
    assert done.stderr == f"{NOT_TAKEN}\n"
    desk.order("throttle", AGENT, "6")
    with responder_of(None, desk.data_dir) as responder:
        assert taken_up(responder, [Target(tenant="acme", agent="shop")])


@pytest.mark.parametrize(
    "command", [("incidents",), ("halt", AGENT), ("resume", AGENT), ("ack", "INC-AAAAAAAAAA"), ("agents",)]
)
def test_no_command_makes_a_store_of_its_own(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = invoke(*command, "--data-dir", str(tmp_path / "elsewhere"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        f"watchkeeper: no incident store in {tmp_path / 'elsewhere'}: give --data-dir"
    )
    assert not (tmp_path / "elsewhere").exists()


def test_a_policy_that_cannot_be_used_keeps_nobody_from_a_stop(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text("[paging]\nseverites = []\n")
    env = {"WATCHKEEPER_POLICY": str(tmp_path / "policy.toml")}
    done = invoke("halt", AGENT, "--json", "--data-dir", str(desk.data_dir), env=env)
    assert (done.returncode, json.loads(done.stdout)["wanted"]["mode"]) == (0, "halt")
    assert "did you mean severities?; until that is mended" in done.stderr.splitlines()[0]


def test_what_is_done_about_an_incident_is_one_document(desk: Desk) -> None:
    incident_id = json.loads(desk.order("halt", AGENT, "--json").stdout)["incident_id"]
    for command in (("ack", incident_id), ("resolve", incident_id, "--false-alarm")):
        said = json.loads(desk.order(*command, "--json").stdout)
        assert said.keys() == {"incident_id", "state", "severity", "containment"}
    assert said["state"] == "resolved"
    silence = json.loads(desk.order("silence", AGENT, "--minutes", "5", "--json").stdout)
    assert silence["silence_id"] in desk.order("silences").stdout
    again = invoke("ack", incident_id, "--json", "--data-dir", str(desk.data_dir))
    assert (again.returncode, again.stdout, len(again.stderr.splitlines())) == (1, "", 1)


def test_ids_are_whole_in_a_narrow_terminal(desk: Desk) -> None:
    done = json.loads(desk.order("halt", f"{AGENT}-with-a-name-that-is-long", "--json").stdout)
    shown = invoke("incidents", "--data-dir", str(desk.data_dir), env={"COLUMNS": "60"}).stdout
    assert done["incident_id"] in shown
    assert "acknowledged" in shown
    assert "acme/shop-with-a-name-" in "".join(shown.split())
