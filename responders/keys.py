"""The keys that sign control commands, in ``<data_dir>/keys``: the engine's, an operator's, and who is
trusted.

``engine.key`` and ``operator.key`` are private (base64, readable by their owner only); ``trusted.json`` is
what an enforcement point needs and may be copied anywhere.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from config.errors import CorrectableError
from responders.effects import Role
from watchkeeper_client.control import (
    TrustedKeys,
    UnusableKeyError,
    private_key_base64,
    private_key_from_base64,
    public_key_base64,
)

_ROLES: Final[tuple[Role, ...]] = ("engine", "operator")


class KeyFileError(CorrectableError):
    """A key cannot be used; the message is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and the id that commands name it by. Shows only the id."""

    key_id: str
    private_key: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id})"


@dataclass(frozen=True, slots=True)
class Keys:
    """A signing key for each role. Only ``operator`` may lift containment."""

    engine: SigningKey
    operator: SigningKey
    trusted_file: Path

    def for_role(self, role: Role) -> SigningKey:
        return self.engine if role == "engine" else self.operator

    def trusted(self) -> TrustedKeys:
        """Raises KeyFileError."""
        try:
            return TrustedKeys.from_file(self.trusted_file)
        except UnusableKeyError as error:
            raise KeyFileError(str(error)) from None


def folder_of(data_dir: Path) -> Path:
    return data_dir / "keys"


def load_or_create(data_dir: Path) -> Keys:
    """The keys under ``data_dir``; what is missing is made. Several processes may do so at once.

    Raises:
        KeyFileError: a file or folder cannot be read or written, others can read a private key, or it is no
        key.
    """
    folder = folder_of(data_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for role in _ROLES:
            path = folder / f"{role}.key"
            if not path.exists():
                _create(path, private_key_base64(Ed25519PrivateKey.generate()) + "\n", 0o600)
    except OSError as error:
        raise KeyFileError(
            f"cannot make keys in {folder} ({error.strerror}): give a writable --data-dir"
        ) from None
    keys = load(data_dir, need_trusted=False)
    entries = {
        each.key_id: {"public_key": public_key_base64(each.private_key), "role": role}
        for role, each in (("engine", keys.engine), ("operator", keys.operator))
    }
    if not keys.trusted_file.exists():
        _create(keys.trusted_file, json.dumps(entries, indent=2, sort_keys=True) + "\n", 0o644)
    trusted = keys.trusted()
    missing = [key_id for key_id in entries if trusted.get(key_id) is None]
    if missing:
        raise KeyFileError(
            f"{keys.trusted_file} does not trust {', '.join(missing)}: add it, or remove the file"
        )
    return keys


def load(data_dir: Path, need_trusted: bool = True) -> Keys:
    """The keys under ``data_dir``. Raises KeyFileError."""
    folder = folder_of(data_dir)
    trusted = folder / "trusted.json"
    if need_trusted and not trusted.is_file():
        raise KeyFileError(f"no trusted keys at {trusted}: make them with watchkeeper keys")
    engine, operator = (_read(folder / f"{role}.key", role) for role in _ROLES)
    return Keys(engine, operator, trusted)


def _read(path: Path, role: Role) -> SigningKey:
    try:
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise KeyFileError(f"{path} can be read by others: chmod 600 {path}")
        key = private_key_from_base64(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        raise KeyFileError(f"no {role} key at {path}: make it with watchkeeper keys") from None
    except (OSError, UnicodeDecodeError, UnusableKeyError) as error:
        raise KeyFileError(f"{path} is not a usable key ({error}): replace it") from None
    digest = sha256(key.public_key().public_bytes_raw()).hexdigest()
    return SigningKey(f"{role}-{digest[:12]}", key)


def _create(path: Path, text: str, mode: int) -> None:
    """Whole or not at all, and never over a file that another process has just made."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    draft = Path(name)
    try:
        os.fchmod(descriptor, mode)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
