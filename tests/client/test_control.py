"""Signing and verifying: only what a trusted key signed, whole and in force, is a command."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.control import CONTROL
from tests.client.commands import (
    ENGINE,
    FUTURE,
    KEYS,
    NOW_MS,
    OPERATOR,
    PAST,
    STRANGER,
    Signer,
    fields,
    raw,
    signed,
)
from watchkeeper_client.control import (
    CanonicalError,
    Refused,
    TrustedKeys,
    UnusableKeyError,
    Verified,
    canonical,
    parse,
    private_key_base64,
    private_key_from_base64,
    verify,
)

COMMAND = signed(fields(expires_at=FUTURE, ladder="rag", revoked_tools=["mail"], budget={"cost_usd": 2.5}))
HOSTILE: list[Any] = [
    None,
    True,
    -1,
    0.5,
    2**53,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "x" * 5000,
    "\ud800",
    "\x00",
    [],
    {},
    [[[]]],
    {"": None},
    {1: 2},
    b"bytes",
    object(),
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def reason(found: Verified | Refused) -> str:
    return found.reason if isinstance(found, Refused) else "verified"


def test_a_signed_command_is_verified_with_every_field() -> None:
    found = verify(COMMAND, KEYS, NOW_MS)
    assert isinstance(found, Verified)
    command = found.command
    assert (found.role, command.epoch, command.target_key) == ("engine", 1, "default/shop")
    assert (command.mode, command.ladder, command.revoked_tools) == ("halt", "rag", frozenset({"mail"}))
    assert command.budget is not None
    assert command.budget.cost_usd == 2.5
    assert command.expires_at_ms == 1_811_808_000_000.0


def test_what_is_signed_fits_the_contract() -> None:
    assert CONTROL.validate_python(COMMAND).epoch == 1


def test_the_canonical_bytes_leave_out_the_signature_only_and_sort_keys_by_utf_16() -> None:
    assert canonical({"b": 1, "a": [1.0, 1e21, "é\n"], "signature": "x", "\U0001f600": 2, "\ufb01": 3}) == (
        '{"a":[1,1e+21,"é\\n"],"b":1,"\U0001f600":2,"\ufb01":3}'.encode()
    )


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2**53, 10**5000, "\ud800", object(), {1: 2}], ids=type
)
def test_what_has_no_canonical_form_is_not_signed(value: object) -> None:
    with pytest.raises(CanonicalError):
        signed({**fields(), "reason": value})


def test_a_bomb_or_a_cycle_has_no_canonical_form() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    cycle: dict[str, object] = {}
    cycle["a"] = cycle["b"] = cycle
    for value in (deep, cycle, [0] * 10_000):
        assert reason(verify({**COMMAND, "more": value}, KEYS, NOW_MS)) == "malformed"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (signed(fields(), STRANGER), "unknown_key"),
        ({**signed(fields(), STRANGER), "key_id": "engine-1"}, "bad_signature"),
        (signed(fields(expires_at=PAST)), "expired"),
        (signed(fields(mode="run")), "not_operator"),
        (signed(fields(mode="run"), OPERATOR), "verified"),
        (signed(fields(mode="pause")), "malformed"),
        (signed({**fields(), "epoch": 1.0}), "malformed"),
        (signed({**fields(), "epoch": True}), "malformed"),
        (signed({**fields(), "epoch": -1}), "malformed"),
        (signed({**fields(), "issued_at": "yesterday"}), "malformed"),
        (signed({**fields(), "issued_at": "2026-13-01T00:00:00Z"}), "malformed"),
        (signed({**fields(), "issued_at": "2026-12-01T00:00:00"}), "malformed"),
        (signed({**fields(), "schema": "agent.control/2"}), "malformed"),
        (signed(fields(session="")), "malformed"),
        (signed(fields(revoked_tools=["a", 1])), "malformed"),
        (signed(fields(budget={"fan_out": {"t" * 300: 1}})), "malformed"),
        ({**COMMAND, "signature": str(COMMAND["signature"]) + "\n"}, "malformed"),
        ([], "malformed"),
        (None, "malformed"),
    ],
)
def test_each_command_is_refused_for_its_own_reason(command: object, expected: str) -> None:
    assert reason(verify(command, KEYS, NOW_MS)) == expected


def test_a_signature_has_one_spelling() -> None:
    text = str(COMMAND["signature"])
    respelled = text[:-3] + chr(ord(text[-3]) + 1) + "=="
    assert base64.b64decode(respelled) == base64.b64decode(text)
    assert reason(verify({**COMMAND, "signature": respelled}, KEYS, NOW_MS)) == "malformed"


def test_a_refusal_never_quotes_what_was_sent() -> None:
    secret = "sk-live-1234"
    for name in COMMAND:
        found = verify({**COMMAND, name: secret}, KEYS, NOW_MS)
        assert isinstance(found, Refused)
        assert secret not in found.detail


@pytest.mark.parametrize("hostile", HOSTILE, ids=type)
def test_no_hostile_value_in_any_place_is_accepted_or_raises(hostile: object) -> None:
    for path in paths(COMMAND):
        changed = replaced(COMMAND, path, hostile)
        if changed != COMMAND:
            assert isinstance(verify(changed, KEYS, NOW_MS), Refused), path


@given(st.data(), json_values)
def test_no_changed_or_added_field_is_accepted(data: st.DataObject, value: object) -> None:
    path = data.draw(st.sampled_from([*paths(COMMAND), ("added",), ("state", "added")]))
    changed = replaced(COMMAND, path, value)
    found = verify(changed, KEYS, NOW_MS)
    assert isinstance(found, Refused) or same_json(changed, COMMAND)


@given(st.data())
def test_no_changed_byte_is_accepted(data: st.DataObject) -> None:
    good = raw(fields(expires_at=FUTURE))
    at = data.draw(st.integers(0, len(good) - 1))
    changed = good[:at] + bytes([data.draw(st.integers(0, 255))]) + good[at + 1 :]
    read = parse(changed)
    if isinstance(read, Refused):
        return
    assert isinstance(verify(read, KEYS, NOW_MS), Refused) or same_json(read, json.loads(good))


@given(json_values)
def test_verifying_anything_answers(value: object) -> None:
    assert isinstance(verify(value, KEYS, NOW_MS), Refused)


@given(st.binary(max_size=200))
def test_reading_anything_answers(data: bytes) -> None:
    assert isinstance(parse(data), (dict, Refused))


@pytest.mark.parametrize(
    "data",
    [
        b'{"epoch": 1, "epoch": 2}',
        b'{"state": {"mode": "halt", "mode": "run"}}',
        b'{"epoch": NaN}',
        b'{"epoch": -Infinity}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xff\xfe",
        '{"a": 1}'.encode("utf-16"),
        b"1" * 5_000,
        b" " * 70_000,
        b"null",
        b"",
    ],
    ids=lambda data: repr(data[:20]),
)
def test_what_is_not_one_json_object_is_refused(data: bytes) -> None:
    assert isinstance(parse(data), Refused)


def test_two_keys_can_be_live_and_one_be_withdrawn() -> None:
    new = Signer("engine-2", "engine", STRANGER.key)
    both = TrustedKeys.from_mapping({"engine-1": ENGINE.entry, "engine-2": new.entry})
    only_new = TrustedKeys.from_mapping({"engine-2": new.entry})
    old_command, new_command = signed(fields()), signed(fields(), new)
    assert [reason(verify(command, both, NOW_MS)) for command in (old_command, new_command)] == [
        "verified"
    ] * 2
    assert reason(verify(old_command, only_new, NOW_MS)) == "unknown_key"


def test_keys_come_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps({"engine-1": ENGINE.entry})
    path = tmp_path / "trusted.json"
    path.write_text(text)
    for value in (text, str(path)):
        monkeypatch.setenv("WATCHKEEPER_TRUSTED_KEYS", value)
        assert reason(verify(COMMAND, TrustedKeys.from_env(), NOW_MS)) == "verified"
    monkeypatch.delenv("WATCHKEEPER_TRUSTED_KEYS")
    with pytest.raises(UnusableKeyError, match="set WATCHKEEPER_TRUSTED_KEYS"):
        TrustedKeys.from_env()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"k": 1}',
        '{"k": {"public_key": "AAAA", "role": "engine"}}',
        '{"k": {"public_key": "' + "A" * 43 + '=", "role": "root"}}',
        '{"k": 1, "k": 2}',
    ],
)
def test_an_unusable_key_file_says_so_in_one_line(text: str) -> None:
    with pytest.raises(UnusableKeyError) as error:
        TrustedKeys.from_json(text)
    assert "\n" not in str(error.value)


def test_a_missing_key_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnusableKeyError, match="cannot read trusted keys"):
        TrustedKeys.from_file(tmp_path / "none.json")


def test_a_private_key_survives_its_text() -> None:
    text = private_key_base64(ENGINE.key)
    assert private_key_base64(private_key_from_base64(text + "\n")) == text
    with pytest.raises(UnusableKeyError):
        private_key_from_base64("é")


def paths(value: object, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The path of every field of a command, inner ones too."""
    if not isinstance(value, dict):
        return [above]
    found = [path for name, inner in value.items() for path in paths(inner, (*above, name))]
    return [above, *found] if above else found


def replaced(command: dict[str, Any], path: tuple[str, ...], value: object) -> dict[str, Any]:
    name, *rest = path
    inner = command.get(name)
    new = replaced(inner, tuple(rest), value) if rest and isinstance(inner, dict) else value
    return {**command, name: new}


def same_json(left: object, right: object) -> bool:
    """Whether two values are one in JSON, where 1 is 1.0 but not true."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_json(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_json, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and left == right
