"""Signed commands and the keys they are signed with, as the tests need them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from watchkeeper_client.control import Command, TrustedKeys, Verified, public_key_base64, sign, verify

NOW_MS = 1_800_000_000_000.0
BEFORE = "2026-12-01T00:00:00Z"
PAST = "2027-01-01T00:00:00Z"
FUTURE = "2027-06-01T00:00:00.000Z"
LATER = "2027-07-01T00:00:00+02:00"


@dataclass(frozen=True)
class Signer:
    key_id: str
    role: str
    # Fixed, so that a failing example is the same in every run.
    key: Ed25519PrivateKey = field(default_factory=lambda: Ed25519PrivateKey.from_private_bytes(bytes(32)))

    @property
    def entry(self) -> dict[str, str]:
        return {"public_key": public_key_base64(self.key), "role": self.role}


ENGINE = Signer("engine-1", "engine")
OPERATOR = Signer("operator-1", "operator", Ed25519PrivateKey.from_private_bytes(b"o" * 32))
STRANGER = Signer("stranger", "operator", Ed25519PrivateKey.from_private_bytes(b"s" * 32))
KEYS = TrustedKeys.from_mapping({signer.key_id: signer.entry for signer in (ENGINE, OPERATOR)})


def fields(
    *,
    epoch: int = 1,
    mode: str = "halt",
    agent: str = "shop",
    tenant: str = "default",
    session: str | None = None,
    expires_at: str | None = None,
    **state: object,
) -> dict[str, object]:
    """An unsigned command; further arguments go into its state."""
    target = {"tenant": tenant, "agent": agent}
    command: dict[str, object] = {
        "command_id": f"c{epoch}",
        "epoch": epoch,
        "target": target if session is None else {**target, "session": session},
        "state": {"mode": mode, **state},
        "reason": "tool_loop on search",
        "issued_at": BEFORE,
        "issuer": "responder",
    }
    return command if expires_at is None else {**command, "expires_at": expires_at}


def signed(command: dict[str, object], by: Signer = ENGINE) -> dict[str, object]:
    return sign(command, by.key, by.key_id)


def raw(command: dict[str, object], by: Signer = ENGINE) -> bytes:
    """The command as it lies on the topic."""
    return json.dumps(signed(command, by)).encode()


def verified(command: dict[str, object], by: Signer = OPERATOR) -> Command:
    found = verify(signed(command, by), KEYS, NOW_MS)
    assert isinstance(found, Verified), found
    return found.command
