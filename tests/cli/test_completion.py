"""TAB offers what can be typed next, and does nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import Settings
from responders import actions
from responders.handle import Responder
from responders.policy import DEFAULT
from responders.store.event_store import Store
from tests.cli.invoke import invoke
from tests.responders.world import Clock, detection


def offered(*words: str) -> list[str]:
    """What is offered for the last of the words."""
    done = invoke(
        env={
            "_WATCHKEEPER_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(("watchkeeper", *words)),
            "COMP_CWORD": str(len(words)),
        }
    )
    assert done.stderr == ""
    return done.stdout.split()


class World:
    def __init__(self, folder: Path) -> None:
        self.data = ("--data-dir", str(folder))
        invoke("db", "upgrade", *self.data)
        store = Store.open(Settings(data_dir=folder).database_url)
        responder = Responder(store, DEFAULT.with_channels("terminal"), Clock())
        found = [
            responder.detection(detection()),
            responder.detection(detection("d-2", agent="desk", tenant="acme", session="s-2")),
        ]
        self.over, self.open = [each.incident_id for each in found if each is not None]
        actions.resolve(responder, self.over, "ana")
        self.silence = actions.silence(responder, "acme/desk", "ana", 30).silence_id
        store.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("store"))


def test_incidents_are_offered_where_they_can_be_used(world: World) -> None:
    assert sorted(offered("incident", *world.data, "INC-")) == sorted((world.over, world.open))
    for command in ("ack", "resolve", "approve", "deny"):
        assert offered(command, *world.data, "INC-") == [world.open]
    assert offered("incident", *world.data, world.over[:8]) == [world.over]


def test_agents_and_then_their_sessions_are_offered(world: World) -> None:
    for command in ("halt", "resume", "degrade", "throttle", "revoke", "budget", "require-approval"):
        assert offered(command, *world.data, "b") == ["billing"]
    assert offered("halt", *world.data, "acme/") == ["acme/desk"]
    assert offered("halt", *world.data, "acme/desk/") == ["acme/desk/s-2"]
    assert offered("degrade", *world.data, "billing", "k") == ["keyword"]


def test_silences_are_offered_to_be_ended(world: World) -> None:
    assert offered("unsilence", *world.data, "sil-") == [world.silence]
    assert offered("silence", *world.data, "--detector", "tool_") == ["tool_loop"]
    assert set(offered("silence", *world.data, "")) >= {world.open, "acme/desk"}


def test_names_that_need_no_store_are_offered(tmp_path: Path) -> None:
    assert offered("runbook", "tool_") == ["tool_loop"]
    assert offered("policy", "explain", "ping") == ["ping_pong"]
    assert offered("drill", "file") == ["file-listing"]


def test_without_a_store_nothing_is_offered_made_or_said(tmp_path: Path) -> None:
    nowhere = tmp_path / "data"
    for words in (("halt",), ("incident",), ("unsilence",)):
        assert offered(*words, "--data-dir", str(nowhere), "") == []
    assert not nowhere.exists()
    (tmp_path / "watchkeeper.db").write_text("no database")
    assert offered("incident", "--data-dir", str(tmp_path), "INC") == []
    assert offered("incident", "--config", str(tmp_path / "none.toml"), "INC") == []


def test_what_is_closed_is_read_without_a_trace(world: World) -> None:
    folder = Path(world.data[1])
    before = sorted(file.name for file in folder.iterdir())
    assert offered("incident", *world.data, "INC-")
    assert sorted(file.name for file in folder.iterdir()) == before


def test_a_store_in_use_is_read_as_it_is(world: World) -> None:
    store = Store.open(Settings(data_dir=Path(world.data[1])).database_url)
    try:
        responder = Responder(store, DEFAULT.with_channels("terminal"), Clock())
        new = responder.detection(detection("d-3", agent="newest", session="s-3"))
        assert new is not None
        assert new.incident_id in offered("ack", *world.data, "INC-")
    finally:
        store.close()
