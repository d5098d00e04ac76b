"""Keys are rotated while the engine runs: nobody held gets loose, and nobody who runs is held again."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import orjson
import pytest

from responders import actions, keys
from responders.control import ControlPublisher
from responders.effects import Retryable, Role
from responders.handle import Responder
from responders.keys import KeyFileError
from responders.policy import DEFAULT
from responders.store.event_store import Store
from schemas.base import epoch_ms
from tests.cli.invoke import invoke
from tests.responders.world import Clock, KeptBus
from watchkeeper_client import TrustedKeysFile, WantedState
from watchkeeper_client.spending import Call

ROLES: tuple[Role, ...] = ("engine", "operator")


class Engine:
    """A store, a publisher and a bus that keeps every record, as a topic that was never compacted."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock()
        self.responder = Responder(store, DEFAULT.with_channels("desk"), self.clock)
        self.bus = KeptBus()
        self.publisher = ControlPublisher(self.responder, self.bus, keys.load_or_create(folder))

    def gate(self, commands: list[dict[str, Any]] | None = None) -> WantedState:
        """A gate that has just started and read the topic."""
        trusted = TrustedKeysFile(self.folder / "keys" / "trusted.json")
        state = WantedState(trusted, enforcement_point="test")
        for command in self.bus.commands() if commands is None else commands:
            state.apply(orjson.dumps(command), epoch_ms(self.clock()))
        return state

    def allows(self, state: WantedState, agent: str) -> bool:
        return state.decide("default", agent, "s", Call(), epoch_ms(self.clock())).allowed


@pytest.fixture
def engine(sqlite_store: Store, tmp_path: Path) -> Engine:
    return Engine(sqlite_store, tmp_path)


@pytest.mark.parametrize("role", ROLES)
def test_a_new_key_signs_and_the_old_one_is_trusted_until_it_is_retired(tmp_path: Path, role: Role) -> None:
    old = keys.load_or_create(tmp_path).for_role(role)
    done = keys.rotate(tmp_path, role)
    new = keys.load(tmp_path).for_role(role)
    assert (done.signs, set(done.trusted)) == (new.key_id, {old.key_id, new.key_id})
    assert old.key_id != new.key_id
    trusted = keys.load(tmp_path).trusted()
    for key_id in (old.key_id, new.key_id):
        found = trusted.get(key_id)
        assert found is not None
        assert found.role == role
    assert keys.retire(tmp_path, old.key_id).trusted == (new.key_id,)
    assert trusted.get(old.key_id) is None
    assert trusted.get(new.key_id) is not None
    folder = tmp_path / "keys"
    assert sorted(path.name for path in folder.iterdir()) == ["engine.key", "operator.key", "trusted.json"]
    assert stat.S_IMODE((folder / f"{role}.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "trusted.json").stat().st_mode) == 0o644


def test_a_key_that_is_prepared_is_trusted_before_it_signs(tmp_path: Path) -> None:
    old = keys.load_or_create(tmp_path).engine.key_id
    prepared = keys.rotate(tmp_path, "engine", only_prepare=True)
    assert prepared.signs == old
    assert prepared.prepared in prepared.trusted
    assert keys.rotate(tmp_path, "engine", only_prepare=True) == prepared
    assert keys.rotate(tmp_path, "engine").signs == prepared.prepared
    unused = keys.rotate(tmp_path, "engine", only_prepare=True).prepared
    assert unused is not None
    keys.retire(tmp_path, unused)
    assert keys.rotate(tmp_path, "engine").signs != unused


def test_the_key_that_signs_is_not_retired_nor_one_that_nobody_knows(tmp_path: Path) -> None:
    made = keys.load_or_create(tmp_path)
    for key_id, says in ((made.operator.key_id, "keys rotate operator"), ("engine-none", "keys show")):
        with pytest.raises(KeyFileError, match=says):
            keys.retire(tmp_path, key_id)
    with pytest.raises(KeyFileError, match="keys create"):
        keys.rotate(tmp_path / "elsewhere", "engine")


async def test_who_is_held_stays_held_and_who_runs_runs_on(engine: Engine) -> None:
    actions.halt(engine.responder, "held", "alice")
    actions.halt(engine.responder, "freed", "alice")
    await engine.publisher.run_once()
    actions.resume(engine.responder, "freed", "alice")
    await engine.publisher.run_once()
    watching = engine.gate()
    old = keys.load(engine.folder)
    for role in ROLES:
        keys.rotate(engine.folder, role)
    before = len(engine.bus.records)
    await engine.publisher.run_once()
    again = engine.bus.commands()[before:]
    assert {command["target"]["agent"] for command in again} == {"held", "freed"}
    assert old.operator.key_id not in {command["key_id"] for command in again}
    for role in ROLES:
        keys.retire(engine.folder, old.for_role(role).key_id)
    for command in again:
        ack = watching.apply(orjson.dumps(command), epoch_ms(engine.clock()))
        assert ack["result"] == "applied", "it is the same command"
    for state in (watching, engine.gate()):
        assert not engine.allows(state, "held")
        assert engine.allows(state, "freed")
    # What only the retired keys signed counts for nothing.
    assert engine.allows(engine.gate(engine.bus.commands()[:before]), "held")


async def test_a_rotation_while_the_engine_was_down_is_made_up_for_at_its_start(engine: Engine) -> None:
    actions.halt(engine.responder, "freed", "alice")
    await engine.publisher.run_once()
    actions.resume(engine.responder, "freed", "alice")
    await engine.publisher.run_once()
    old = keys.load(engine.folder)
    keys.rotate(engine.folder, "operator")
    again = ControlPublisher(engine.responder, engine.bus, keys.load_or_create(engine.folder))
    engine.bus.outcomes = [Retryable("no broker")]
    assert await again.announce() == 0
    await again.run_once()
    keys.retire(engine.folder, old.operator.key_id)
    assert engine.allows(engine.gate(), "freed")


async def test_a_key_that_cannot_be_used_leaves_the_engine_signing_as_before(engine: Engine) -> None:
    before = keys.load(engine.folder).operator.key_id
    path = engine.folder / "keys" / "operator.key"
    path.chmod(0o644)
    os.utime(path, (1, 1))
    actions.halt(engine.responder, "held", "alice")
    await engine.publisher.run_once()
    assert [command["key_id"] for command in engine.bus.commands()] == [before]


def test_the_command_line_rotates_and_retires(tmp_path: Path) -> None:
    at = ("--data-dir", str(tmp_path))
    old = keys.load_or_create(tmp_path).engine.key_id
    done = json.loads(invoke("keys", "rotate", *at, "--json").stdout)
    assert set(done["trusted"]) == {old, done["signs"]}
    assert "signs on" in invoke("keys", "rotate", "operator", "--prepare", *at).stdout
    shown = json.loads(invoke("keys", "show", *at).stdout)
    assert {entry["role"] for entry in shown.values()} == set(ROLES)
    refused = invoke("keys", "retire", done["signs"], *at)
    assert refused.returncode == 1
    assert "first run watchkeeper keys rotate engine" in refused.stderr
    assert invoke("keys", "retire", old, *at).returncode == 0
    assert old not in json.loads(invoke("keys", "show", *at).stdout)
