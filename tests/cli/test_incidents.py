"""`watchkeeper incidents`: what an on-call person sees of what waits for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.adapters import StoreIncidents
from config.settings import Settings
from responders import actions, policy
from responders.handle import Responder
from responders.slack.commands import carry_out
from responders.slack.slash import Order
from responders.store.event_store import Store
from tests.cli.invoke import invoke
from tests.responders.world import Clock, detection

ASKING = policy.parse("[containment]\notherwise = 'approve'\nrules = []\n").with_channels("terminal")


class World:
    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder, self.clock = store, folder, Clock()
        self.responder = Responder(store, ASKING, self.clock)

    def run(self, *arguments: str) -> str:
        done = invoke(*arguments, "--data-dir", str(self.folder))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def listed(self) -> list[dict[str, Any]]:
        """The same by the command line and by the HTTP API."""
        rows: list[dict[str, Any]] = json.loads(self.run("incidents", "--json"))
        assert StoreIncidents(self.store).incidents(10) == rows
        return rows


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    invoke("db", "upgrade", "--data-dir", str(tmp_path))
    store = Store.open(Settings(data_dir=tmp_path).database_url)
    yield World(store, tmp_path)
    store.close()


def test_what_waits_for_an_approval_is_shown_and_until_when(world: World) -> None:
    asked = world.responder.detection(detection())
    assert asked is not None
    (row,) = world.listed()
    (approval,) = row["approvals"]
    assert approval["proposal"]["mode"] == "halt"
    assert approval["target"] == {"tenant": "default", "agent": "billing", "session": "s-1"}
    assert (approval["until"], approval["unanswered_at"]) == ("2026-03-01T03:15:00Z", None)
    assert "waits for approval: halt (default/billing/s-1), until 03-01 03:15:00" in world.run("incidents")
    assert "03:15:00.000 answer due" in world.run("incident", asked.incident_id)
    said = carry_out(world.responder, Order("status"), "ana").text
    assert "(triggered, waits for approval until 03-01 03:15 UTC, 0.0 s old)" in said


def test_a_time_out_is_not_a_denial_and_is_shown_as_what_it_is(world: World) -> None:
    asked = world.responder.detection(detection())
    assert asked is not None
    world.clock.pass_seconds(15 * 60)
    world.responder.fire_timers()
    (row,) = world.listed()
    assert row["approvals"][0]["unanswered_at"] == "2026-03-01T03:15:00Z"
    assert "waits for approval: halt (default/billing/s-1), which nobody has answered" in world.run(
        "incidents"
    )
    assert "answer due" not in world.run("incident", asked.incident_id)


@pytest.mark.parametrize("answer", ["approve", "deny", "resolve"])
def test_what_is_answered_or_over_waits_no_more(world: World, answer: str) -> None:
    asked = world.responder.detection(detection())
    assert asked is not None
    getattr(actions, answer)(world.responder, asked.incident_id, "ana")
    (row,) = world.listed()
    assert row["approvals"] == []
    assert "waits for approval" not in world.run("incidents")


def test_an_answer_about_another_target_says_what_is_asked(world: World) -> None:
    asked = world.responder.detection(detection())
    assert asked is not None
    done = invoke("approve", asked.incident_id, "--target", "billing", "--data-dir", str(world.folder))
    assert done.returncode == 1
    assert done.stderr == (
        f"watchkeeper: {asked.incident_id} asks nothing about default/billing:"
        " it does about default/billing/s-1\n"
    )


def test_without_anything_to_ask_nothing_waits(world: World) -> None:
    world.responder.detection(detection(suggested=None))
    (row,) = world.listed()
    assert row["approvals"] == []
