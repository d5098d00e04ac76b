"""``agent.control/1`` on the wire: canonical bytes, signing, and checking who may say what.

This is the one place where a control command is canonicalised, signed and verified: the engine signs with it,
the gate verifies with it. Nothing here raises on what arrives from outside: :func:`verify` answers
:class:`Verified` or :class:`Refused`.

For any language: take every field of the command but ``signature``, write them as RFC 8785 canonical JSON
(keys sorted by UTF-16 code unit, no white space, ECMAScript numbers, UTF-8), sign those bytes with Ed25519,
and put the 64 bytes as padded standard base64 into ``signature``.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, NoReturn, TypeVar, cast, get_args

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

CONTROL_SCHEMA: Final = "agent.control/1"
CONTROL_TOPIC: Final = "agent.control"
TRUSTED_KEYS_VARIABLE: Final = "WATCHKEEPER_TRUSTED_KEYS"

Mode = Literal["run", "throttle", "degrade", "require_approval", "halt"]
Ladder = Literal["full", "rag", "keyword", "static"]
Role = Literal["engine", "operator"]
RefusalReason = Literal[
    "malformed",
    "unknown_key",
    "bad_signature",
    "not_operator",
    "expired",
    "older_epoch",
    "conflicting_epoch",
    "lifts_without_operator",
]

MODES: Final[tuple[Mode, ...]] = get_args(Mode)
"""From the laxest to the strictest."""
LADDER: Final[tuple[Ladder, ...]] = get_args(Ladder)
"""From the laxest to the strictest."""
ROLES: Final[tuple[Role, ...]] = get_args(Role)

MAX_COMMAND_BYTES: Final = 64 * 1024
MAX_NESTING: Final = 32
MAX_NODES: Final = 8_192
MAX_COUNT: Final = 2**53 - 1
_MAX_NAME_CHARS = 256
_MAX_REASON_CHARS = 1_024
_MAX_NAMES = 512
_SIGNATURE_BYTES = 64
_Choice = TypeVar("_Choice", bound=str)
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)


class CanonicalError(ValueError):
    """The fields cannot be written as RFC 8785 canonical JSON."""


class UnusableKeyError(ValueError):
    """A key or a key file that cannot be used; the message is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Caps; None is not capped. ``fan_out`` is targets of a tool or an effect; a call has at least one."""

    tokens: int | None = None
    steps: int | None = None
    cost_usd: float | None = None
    wall_ms: float | None = None
    fan_out: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """A control command whose every field has been checked. Times are epoch milliseconds."""

    command_id: str
    epoch: int
    tenant: str
    agent: str
    session: str | None
    mode: Mode
    ladder: Ladder
    revoked_tools: frozenset[str]
    calls_per_minute: int | None
    budget: Budget | None
    reason: str
    incident_id: str | None
    issued_at_ms: float
    expires_at_ms: float | None
    issuer: str
    key_id: str
    canonical: bytes
    """The signed bytes: two commands are the same when these are."""

    @property
    def scope(self) -> tuple[str, str, str | None]:
        """What the epoch counts for. A tuple, because names may contain the ``/`` of the Kafka key."""
        return self.tenant, self.agent, self.session

    @property
    def target_key(self) -> str:
        """The Kafka key: ``tenant/agent[/session]``."""
        base = f"{self.tenant}/{self.agent}"
        return base if self.session is None else f"{base}/{self.session}"


@dataclass(frozen=True, slots=True)
class Verified:
    """A command that is genuine, whole and in force, and the role of the key that signed it."""

    command: Command
    role: Role


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a command is not obeyed. ``detail`` names the field or limit and never quotes its value."""

    reason: RefusalReason
    detail: str


@dataclass(frozen=True, slots=True)
class TrustedKey:
    public_key: Ed25519PublicKey
    role: Role


class TrustedKeys:
    """The public keys whose commands are obeyed, by key id; as many as are live (two during a rotation).

    The file form is ``{key_id: {"public_key": base64 of 32 bytes, "role": "engine" | "operator"}}``.
    """

    def __init__(self, keys: Mapping[str, TrustedKey]) -> None:
        self._keys = dict(keys)

    @classmethod
    def from_mapping(cls, entries: Mapping[str, object]) -> TrustedKeys:
        """From the parsed file form.

        Raises:
            UnusableKeyError: an entry is not a public key with a role.
        """
        return cls({key_id: _trusted_key(key_id, entry) for key_id, entry in entries.items()})

    @classmethod
    def from_json(cls, text: str) -> TrustedKeys:
        """From the file form as text. Raises UnusableKeyError."""
        try:
            entries = json.loads(text, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise UnusableKeyError(
                f"trusted keys are not JSON ({error}); write them with watchkeeper keys"
            ) from None
        if not isinstance(entries, dict):
            raise UnusableKeyError('trusted keys must be a JSON object {key_id: {"public_key", "role"}}')
        return cls.from_mapping(entries)

    @classmethod
    def from_file(cls, path: Path | str) -> TrustedKeys:
        """From the file at ``path``. Raises UnusableKeyError."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UnusableKeyError(
                f"cannot read trusted keys at {path} ({error}); give a readable file"
            ) from None
        return cls.from_json(text)

    @classmethod
    def from_env(cls, variable: str = TRUSTED_KEYS_VARIABLE) -> TrustedKeys:
        """From an environment variable: the JSON itself or the file's path. Raises UnusableKeyError."""
        value = os.environ.get(variable, "").strip()
        if not value:
            raise UnusableKeyError(f"set {variable} to the trusted keys file or its JSON")
        return cls.from_json(value) if value.startswith("{") else cls.from_file(value)

    def get(self, key_id: str) -> TrustedKey | None:
        return self._keys.get(key_id)

    def __len__(self) -> int:
        return len(self._keys)


class _MalformedError(ValueError):
    """Internal: a field is not what the contract says."""


def canonical(fields: Mapping[str, object]) -> bytes:
    """The bytes that are signed: RFC 8785 canonical JSON of all ``fields`` but ``signature``.

    Raises:
        CanonicalError: not JSON, nested deeper than 32, more than 8,192 values, not finite, or an integer
            beyond 2**53 - 1.
    """
    unsigned = {key: value for key, value in fields.items() if key != "signature"}
    _check_size(unsigned)
    try:
        return rfc8785.dumps(cast("dict[str, rfc8785._impl._Value]", unsigned))
    except (ValueError, TypeError, RecursionError) as error:
        raise CanonicalError(f"not canonical JSON: {type(error).__name__}") from None


def sign(fields: Mapping[str, object], private_key: Ed25519PrivateKey, key_id: str) -> dict[str, object]:
    """``fields`` with ``schema``, ``key_id`` and ``signature`` filled in.

    Times must already be the RFC 3339 strings that will be sent: what is signed is what is sent.

    Raises:
        CanonicalError: the fields are not plain JSON.
    """
    command: dict[str, object] = {"schema": CONTROL_SCHEMA, **fields, "key_id": key_id}
    command["signature"] = base64.b64encode(private_key.sign(canonical(command))).decode("ascii")
    return command


def parse(raw: bytes) -> dict[str, object] | Refused:
    """The JSON object in ``raw``; refuses duplicate keys, NaN, over 64 KiB, and anything not JSON."""
    if len(raw) > MAX_COMMAND_BYTES:
        return Refused("malformed", f"larger than {MAX_COMMAND_BYTES} bytes")
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        return Refused("malformed", f"nested deeper than {MAX_NESTING}")
    except (ValueError, _MalformedError) as error:
        return Refused(
            "malformed", f"not JSON: {error}" if isinstance(error, _MalformedError) else "not JSON"
        )
    if not isinstance(value, dict):
        return Refused("malformed", "not a JSON object")
    return value


def verify(command: object, keys: TrustedKeys, now_ms: float) -> Verified | Refused:
    """Whether ``command`` (a parsed JSON object) may be obeyed at ``now_ms`` (epoch milliseconds).

    Checks, in this order: that it can be canonicalised, that the key is trusted, the signature, every field,
    that ``run`` is signed by an operator, and the expiry. Epochs and what else counts as lifting containment
    need the present state and are :class:`watchkeeper_client.wanted.WantedState`'s. Never raises.
    """
    try:
        return _verify(command, keys, now_ms)
    except (_MalformedError, CanonicalError) as error:
        return Refused("malformed", str(error))


def _verify(command: object, keys: TrustedKeys, now_ms: float) -> Verified | Refused:
    if not isinstance(command, Mapping):
        raise _MalformedError("not a JSON object")
    signed = canonical(command)
    key_id = _name(command, "key_id")
    signature = _signature(command)
    key = keys.get(key_id)
    if key is None:
        return Refused("unknown_key", "key_id is not among the trusted keys")
    try:
        key.public_key.verify(signature, signed)
    except InvalidSignature:
        return Refused("bad_signature", "the signature does not match the fields")
    checked = _command(command, key_id, signed)
    if checked.mode == "run" and key.role != "operator":
        return Refused("not_operator", "mode run must be signed by an operator key")
    if checked.expires_at_ms is not None and checked.expires_at_ms <= now_ms:
        return Refused("expired", "expires_at has passed")
    return Verified(checked, key.role)


def _command(fields: Mapping[str, object], key_id: str, signed: bytes) -> Command:
    if fields.get("schema") != CONTROL_SCHEMA:
        raise _MalformedError(f"schema is not {CONTROL_SCHEMA}")
    target = _object(fields, "target")
    state = _object(fields, "state")
    issued_at_ms = _time_ms(fields, "issued_at")
    if issued_at_ms is None:
        raise _MalformedError("issued_at is missing")
    return Command(
        command_id=_name(fields, "command_id"),
        epoch=_required(_count(fields, "epoch"), "epoch"),
        tenant=_optional_name(target, "tenant") or "default",
        agent=_name(target, "agent"),
        session=_optional_name(target, "session"),
        mode=_choice(state, "mode", MODES, None),
        ladder=_choice(state, "ladder", LADDER, "full"),
        revoked_tools=_names(state, "revoked_tools"),
        calls_per_minute=_count(state, "calls_per_minute"),
        budget=_budget(state),
        reason=_text(fields, "reason"),
        incident_id=_optional_name(fields, "incident_id"),
        issued_at_ms=issued_at_ms,
        expires_at_ms=_time_ms(fields, "expires_at"),
        issuer=_name(fields, "issuer"),
        key_id=key_id,
        canonical=signed,
    )


def private_key_from_base64(text: str) -> Ed25519PrivateKey:
    """The Ed25519 private key in ``text``: base64 of its 32 raw bytes. Raises UnusableKeyError."""
    try:
        return Ed25519PrivateKey.from_private_bytes(base64.b64decode(text.strip(), validate=True))
    except (ValueError, binascii.Error):
        raise UnusableKeyError(
            "not an Ed25519 private key (base64 of 32 bytes); make one with watchkeeper keys"
        ) from None


def private_key_base64(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.private_bytes_raw()).decode("ascii")


def public_key_base64(key: Ed25519PrivateKey) -> str:
    """The public half of ``key`` as the trusted keys file holds it."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode("ascii")


def _trusted_key(key_id: str, entry: object) -> TrustedKey:
    if not key_id or len(key_id) > _MAX_NAME_CHARS:
        raise UnusableKeyError(f"a trusted key id must have 1 to {_MAX_NAME_CHARS} characters")
    if not isinstance(entry, Mapping):
        raise UnusableKeyError(
            f'trusted key {key_id}: give {{"public_key": base64, "role": "engine" or "operator"}}'
        )
    role = entry.get("role")
    if role not in ROLES:
        raise UnusableKeyError(f"trusted key {key_id}: role must be engine or operator")
    encoded = entry.get("public_key")
    try:
        raw = base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else b""
        return TrustedKey(Ed25519PublicKey.from_public_bytes(raw), cast("Role", role))
    except (ValueError, binascii.Error):
        raise UnusableKeyError(f"trusted key {key_id}: public_key must be base64 of 32 bytes") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _MalformedError("duplicate key")
    return fields


def _refuse_constant(_name: str) -> NoReturn:
    raise _MalformedError("not a finite number")


def _check_size(value: object) -> None:
    """Bounds depth and size first, so that neither a cycle nor a bomb reaches the recursive writer."""
    level: list[object] = [value]
    nodes = 0
    for _ in range(MAX_NESTING + 1):
        inner: list[object] = []
        for item in level:
            if isinstance(item, Mapping):
                inner.extend(item.values())
            elif isinstance(item, (list, tuple)):
                inner.extend(item)
            nodes += 1
            if nodes + len(inner) > MAX_NODES:
                raise CanonicalError(f"more than {MAX_NODES} values")
        if not inner:
            return
        level = inner
    raise CanonicalError(f"nested deeper than {MAX_NESTING}")


def _required(value: int | None, field: str) -> int:
    if value is None:
        raise _MalformedError(f"{field} is missing")
    return value


def _object(fields: Mapping[str, object], field: str) -> Mapping[str, object]:
    value = fields.get(field)
    if not isinstance(value, Mapping):
        raise _MalformedError(f"{field} is not an object")
    return value


def _name(fields: Mapping[str, object], field: str) -> str:
    value = fields.get(field)
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_NAME_CHARS:
        raise _MalformedError(f"{field} is not a string of 1 to {_MAX_NAME_CHARS} characters")
    return value


def _optional_name(fields: Mapping[str, object], field: str) -> str | None:
    return None if fields.get(field) is None else _name(fields, field)


def _text(fields: Mapping[str, object], field: str) -> str:
    value = fields.get(field)
    if not isinstance(value, str) or len(value) > _MAX_REASON_CHARS:
        raise _MalformedError(f"{field} is not a string of at most {_MAX_REASON_CHARS} characters")
    return value


def _count(fields: Mapping[str, object], field: str) -> int | None:
    value = fields.get(field)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
        raise _MalformedError(f"{field} is not an integer of 0 to 2**53 - 1")
    return value


def _amount(fields: Mapping[str, object], field: str) -> float | None:
    value = fields.get(field)
    if value is None:
        return None
    # Finite already: what is not finite has no canonical form.
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value < 0:
        raise _MalformedError(f"{field} is not a number of 0 or more")
    return float(value)


def _names(fields: Mapping[str, object], field: str) -> frozenset[str]:
    value = fields.get(field)
    if value is None:
        return frozenset()
    if not isinstance(value, (list, tuple)) or len(value) > _MAX_NAMES:
        raise _MalformedError(f"{field} is not a list of at most {_MAX_NAMES} names")
    return frozenset(_name({field: name}, field) for name in value)


def _choice(
    fields: Mapping[str, object], field: str, choices: tuple[_Choice, ...], default: _Choice | None
) -> _Choice:
    value = fields.get(field)
    if value is None and default is not None:
        return default
    for choice in choices:
        if value == choice:
            return choice
    raise _MalformedError(f"{field} is not one of {', '.join(choices)}")


def _budget(state: Mapping[str, object]) -> Budget | None:
    return None if state.get("budget") is None else parse_budget(_object(state, "budget"))


def parse_budget(caps: Mapping[str, object]) -> Budget:
    """The caps, every figure checked. Raises ValueError, whose message names the field."""
    fan_out = {} if caps.get("fan_out") is None else _object(caps, "fan_out")
    if len(fan_out) > _MAX_NAMES:
        raise _MalformedError(f"fan_out has more than {_MAX_NAMES} tools")
    return Budget(
        tokens=_count(caps, "tokens"),
        steps=_count(caps, "steps"),
        cost_usd=_amount(caps, "cost_usd"),
        wall_ms=_amount(caps, "wall_ms"),
        fan_out=tuple(sorted(_fan_out(tool, calls) for tool, calls in fan_out.items())),
    )


def _fan_out(tool: str, calls: object) -> tuple[str, int]:
    return _name({"fan_out": tool}, "fan_out"), _required(_count({"fan_out": calls}, "fan_out"), "fan_out")


def _time_ms(fields: Mapping[str, object], field: str) -> float | None:
    value = fields.get(field)
    if value is None:
        return None
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise _MalformedError(f"{field} is not an RFC 3339 time with an offset")
    try:
        return datetime.fromisoformat(value).timestamp() * 1000
    except (ValueError, OverflowError):
        raise _MalformedError(f"{field} is not a time that exists") from None


def _signature(fields: Mapping[str, object]) -> bytes:
    value = fields.get("signature")
    try:
        raw = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except (ValueError, binascii.Error):
        raw = b""
    # One spelling only: base64 ignores the last character's spare bits; a signature must not be rewritable.
    if len(raw) != _SIGNATURE_BYTES or base64.b64encode(raw).decode("ascii") != value:
        raise _MalformedError("signature is not padded base64 of 64 bytes")
    return raw
