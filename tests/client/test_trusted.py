"""The trusted keys file is followed: keys come and go with it, and a broken file changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.control import CONTROL_ACK
from tests.client.commands import ENGINE, NOW_MS, OPERATOR, Signer, fields, raw
from watchkeeper_client import TrustedKeysFile, UnusableKeyError, WantedState, Watchkeeper
from watchkeeper_client.control import TRUSTED_KEYS_VARIABLE
from watchkeeper_client.spending import Call
from watchkeeper_client.trusted import trusted_from_env

NEW = Signer("engine-2", "engine", Ed25519PrivateKey.from_private_bytes(b"n" * 32))


def trust(path: Path, *signers: Signer) -> Path:
    path.write_text(json.dumps({signer.key_id: signer.entry for signer in signers}))
    return path


def answer(state: WantedState, command: bytes) -> str:
    ack = CONTROL_ACK.validate_python(state.apply(command, NOW_MS))
    return (ack.reason or ack.result).split(":")[0]


def halted(state: WantedState, agent: str = "shop") -> bool:
    return not state.decide("default", agent, "s", Call(), NOW_MS).allowed


def test_two_keys_live_side_by_side_until_one_is_retired(tmp_path: Path) -> None:
    path = trust(tmp_path / "trusted.json", ENGINE)
    state = WantedState(TrustedKeysFile(path), enforcement_point="test")
    assert answer(state, raw(fields(epoch=1), NEW)) == "unknown_key"
    trust(path, ENGINE, NEW)
    assert answer(state, raw(fields(epoch=1), NEW)) == "applied"
    assert answer(state, raw(fields(epoch=2), ENGINE)) == "applied"
    trust(path, NEW)
    assert answer(state, raw(fields(epoch=3), ENGINE)) == "unknown_key"
    assert answer(state, raw(fields(epoch=3), NEW)) == "applied"
    assert halted(state)


def test_a_command_may_come_again_signed_with_another_key_but_not_with_another_word(tmp_path: Path) -> None:
    keys = TrustedKeysFile(trust(tmp_path / "trusted.json", ENGINE, NEW, OPERATOR))
    state = WantedState(keys, enforcement_point="test")
    assert answer(state, raw(fields(), ENGINE)) == "applied"
    assert answer(state, raw(fields(), NEW)) == "applied"
    for changed in ({"reason": "else"}, {"state": {"mode": "throttle"}}, {"command_id": "c9"}):
        assert answer(state, raw({**fields(), **changed}, OPERATOR)) == "conflicting_epoch"
    assert halted(state)


@pytest.mark.parametrize("spoil", [lambda path: path.write_text("{"), lambda path: path.unlink()])
def test_a_file_that_breaks_leaves_the_keys_as_they_were(
    tmp_path: Path, spoil: object, caplog: pytest.LogCaptureFixture
) -> None:
    path = trust(tmp_path / "trusted.json", ENGINE)
    state = WantedState(TrustedKeysFile(path), enforcement_point="test")
    assert callable(spoil)
    spoil(path)
    assert [answer(state, raw(fields(epoch=epoch))) for epoch in (1, 2)] == ["applied", "applied"]
    assert len(caplog.records) == 1
    trust(path, NEW)
    assert answer(state, raw(fields(epoch=3))) == "unknown_key"


def test_a_file_must_be_there_unless_it_may_come_late(tmp_path: Path) -> None:
    path = tmp_path / "trusted.json"
    with pytest.raises(UnusableKeyError, match="cannot read trusted keys"):
        TrustedKeysFile(path)
    late = TrustedKeysFile(path, late=True)
    assert late.get(ENGINE.key_id) is None
    trust(path, ENGINE)
    assert late.get(ENGINE.key_id) is not None


def test_the_client_follows_the_file_it_is_given_or_finds_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = trust(tmp_path / "trusted.json", ENGINE)
    monkeypatch.setenv(TRUSTED_KEYS_VARIABLE, str(path))
    for keys in (path, str(path), None):
        trust(path, ENGINE)
        keeper = Watchkeeper(bootstrap="127.0.0.1:1", agent="shop", keys=keys, clock=lambda: NOW_MS)
        trust(path, NEW)
        assert answer(keeper._state, raw(fields(), ENGINE)) == "unknown_key"
        assert answer(keeper._state, raw(fields(), NEW)) == "applied"
    monkeypatch.setenv(TRUSTED_KEYS_VARIABLE, json.dumps({ENGINE.key_id: ENGINE.entry}))
    assert trusted_from_env().get(ENGINE.key_id) is not None
    monkeypatch.delenv(TRUSTED_KEYS_VARIABLE)
    with pytest.raises(UnusableKeyError, match=f"set {TRUSTED_KEYS_VARIABLE}"):
        trusted_from_env()
