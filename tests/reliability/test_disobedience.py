"""Reliability test 24: an agent ignores its halt, or acknowledges it and goes on.

Within 30 s the point outside the agent denies its calls, and within 45 s the incident says so on a
page of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import pytest

from tests.integration.parts.engine import UpEngine
from watchkeeper_client import Watchkeeper

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(240)]

DENIED_WITHIN_S = 30.0
ESCALATED_WITHIN_S = 45.0
PATIENCE_S = 120.0
CALL_EVERY_S = 0.5
QUIET_S = 15.0
"""After so long without a detection an order would be proved."""
T = TypeVar("T")


def until(look: Callable[[], T | None], what: str) -> T:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {PATIENCE_S:.0f} s in vain for {what}")


@contextmanager
def going_on(engine: UpEngine, agent: str, *, obey: bool) -> Iterator[Watchkeeper]:
    """An agent that never asks its gate, and calls for ever; with ``obey`` its client still acknowledges."""
    stop = threading.Event()

    def work(keeper: Watchkeeper) -> None:
        with keeper.session(f"{agent}-1") as session:
            number = 0
            while not stop.wait(CALL_EVERY_S):
                number += 1
                session.tool_call("delete_mail", {"id": number}, result={"deleted": number}, duration_ms=1.0)

    with Watchkeeper(bootstrap=engine.kafka, agent=agent, keys=engine.trusted_keys, obey=obey) as keeper:
        if obey:
            assert keeper.wait_heard(30)
        thread = threading.Thread(target=work, args=(keeper,), daemon=True)
        thread.start()
        try:
            yield keeper
        finally:
            stop.set()
            thread.join(5)


def allowed(engine: UpEngine, agent: str) -> bool:
    asked = {"agent": agent, "session": f"{agent}-1", "tool": "delete_mail"}
    return httpx.get(f"{engine.http}/v1/allow", params=asked, timeout=10).status_code == 200


def seen(engine: UpEngine, incident_id: str) -> dict[str, Any]:
    view: dict[str, Any] = httpx.get(f"{engine.http}/v1/incidents/{incident_id}", timeout=10).json()
    return view


def disobeyed(engine: UpEngine, incident_id: str) -> dict[str, Any] | None:
    """The incident, once a page of its own has said that the order is not obeyed."""
    view = seen(engine, incident_id)
    told = [page for page in view["pages"] if page["page"].startswith("disobeyed:")]
    return view if told and told[0]["state"] == "delivered" else None


def seconds(held: dict[str, Any], until_at: str) -> float:
    """From the order to a moment."""
    issued = datetime.fromisoformat(held["issued_at"])
    return (datetime.fromisoformat(until_at) - issued).total_seconds()


@pytest.fixture
def engine(database: str, tmp_path: Path) -> Iterator[UpEngine]:
    with UpEngine(tmp_path / "engine", environment={"WATCHKEEPER_DATABASE__URL": database}) as running:
        yield running


def test_who_goes_on_is_denied_from_outside_and_escalated(engine: UpEngine, tmp_path: Path) -> None:
    with going_on(engine, "deaf", obey=False), going_on(engine, "liar", obey=True) as liar:
        for agent in ("deaf", "liar"):
            until(lambda agent=agent: allowed(engine, agent), "calls to be allowed")
        ordered: dict[str, tuple[str, float]] = {}
        for agent in ("deaf", "liar"):
            done = engine.json("halt", f"default/{agent}")
            ordered[agent] = done["incident_id"], time.monotonic()
        for agent, (_, since) in ordered.items():
            until(lambda agent=agent: not allowed(engine, agent), "the outside to deny")
            assert time.monotonic() - since <= DENIED_WITHIN_S
        assert not liar.gate.allowed(session="liar-1").allowed, "its own gate would have denied it"
        for agent, (incident_id, _) in ordered.items():
            view = until(lambda found=incident_id: disobeyed(engine, found), f"the escalation of {agent}")
            (held,) = view["containments"]
            told = next(page for page in view["pages"] if page["page"].startswith("disobeyed:"))
            assert seconds(held, held["disobeyed_at"]) <= ESCALATED_WITHIN_S
            assert seconds(held, told["delivered_at"]) <= ESCALATED_WITHIN_S
            assert (held["applied_at"] is not None) is (agent == "liar")
            assert view["containment"] == "disobeyed"
            assert not allowed(engine, agent)


def test_nothing_is_proved_while_nobody_looks(engine: UpEngine) -> None:
    """The stream worker is frozen when the agent acknowledges and goes on."""
    (worker,) = [
        each
        for each in psutil.Process(engine.process.pid).children(recursive=True)
        if each.cmdline()[-1:] == ["stream"]
    ]
    with going_on(engine, "liar", obey=True):
        until(lambda: allowed(engine, "liar"), "calls to be allowed")
        worker.suspend()
        try:
            incident_id = engine.json("halt", "default/liar")["incident_id"]
            until(lambda: seen(engine, incident_id)["containment"] == "applied", "the acknowledgement")
            time.sleep(QUIET_S)
            assert seen(engine, incident_id)["containment"] == "applied"
        finally:
            worker.resume()
        until(lambda: disobeyed(engine, incident_id), "the escalation")
        assert "containment_verified" not in [event["type"] for event in seen(engine, incident_id)["log"]]
