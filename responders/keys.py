"""The keys that sign control commands, in ``<data_dir>/keys``: the engine's, an operator's, and who is
trusted.

``engine.key`` and ``operator.key`` are private (base64, readable by their owner only); ``trusted.json`` is
what an enforcement point needs and may be copied anywhere. During a rotation two keys of a role are trusted:
:func:`rotate` has the new one sign, :func:`retire` ends the trust in the old one. A process that runs takes
up either without a restart. ``engine.next.key`` is one that is trusted and does not sign yet.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Iterator
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
from watchkeeper_client.trusted import TrustedKeysFile

_ROLES: Final[tuple[Role, ...]] = ("engine", "operator")


class KeyFileError(CorrectableError):
    """A key cannot be used; the message is one line that says what to do."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, the id that commands name it by, and since when its file is there. Shows only the id."""

    key_id: str
    private_key: Ed25519PrivateKey
    since_ms: int = 0

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

    def trusted(self) -> TrustedKeysFile:
        """Whose commands are obeyed, followed from now on. Raises KeyFileError."""
        try:
            return TrustedKeysFile(self.trusted_file)
        except UnusableKeyError as error:
            raise KeyFileError(str(error)) from None

    def current(self) -> Keys:
        """The keys as they are now: these, unless one has been rotated. Raises KeyFileError."""
        folder = self.trusted_file.parent
        if all(_since_ms(folder / f"{role}.key") == self.for_role(role).since_ms for role in _ROLES):
            return self
        return load(folder.parent)


@dataclass(frozen=True, slots=True)
class Rotation:
    """What has become of the keys of a role. ``signs`` is the id of the one that signs now."""

    role: Role
    signs: str
    trusted: tuple[str, ...]
    """Every key of the role that is trusted, the one that signs included."""
    prepared: str | None = None
    """Trusted, and to sign after the next rotation."""


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
        raise KeyFileError(f"no trusted keys at {trusted}: make them with watchkeeper keys create")
    engine, operator = (_read(folder / f"{role}.key", role) for role in _ROLES)
    return Keys(engine, operator, trusted)


def rotate(data_dir: Path, role: Role, *, only_prepare: bool = False) -> Rotation:
    """A new key signs for the role; the one before it stays trusted until it is retired.

    ``only_prepare`` makes a key and trusts it, for the next rotation to take: so that copies of
    ``trusted.json`` know it before it signs. What was interrupted is finished by rotating again.

    Raises:
        KeyFileError: the keys cannot be read or written.
    """
    folder = folder_of(data_dir)
    upcoming = folder / f"{role}.next.key"
    with _changing(folder):
        load(data_dir)
        if not upcoming.exists():
            _create(upcoming, private_key_base64(Ed25519PrivateKey.generate()) + "\n", 0o600)
        new = _read(upcoming, role)
        entries = _entries(folder)
        entries[new.key_id] = {"public_key": public_key_base64(new.private_key), "role": role}
        # Trusted before it signs: nobody who reads this file sees a command of a key that is not in it.
        _replace(folder / "trusted.json", entries)
        if not only_prepare:
            # Anew, so that the time of the file is that from which on the key signs.
            os.utime(upcoming)
            upcoming.replace(folder / f"{role}.key")
        return _rotation(data_dir, role, new.key_id if only_prepare else None)


def retire(data_dir: Path, key_id: str) -> Rotation:
    """Ends the trust in a key: what it signs from now on is refused, and reported, wherever this is known.

    Raises:
        KeyFileError: nobody trusts the key, it is the one that signs, or the keys cannot be read or written.
    """
    folder = folder_of(data_dir)
    with _changing(folder):
        keys = load(data_dir)
        entries = _entries(folder)
        if key_id not in entries:
            raise KeyFileError(f"{key_id} is not trusted: see watchkeeper keys show")
        role: Role = "operator" if entries[key_id]["role"] == "operator" else "engine"
        if key_id == keys.for_role(role).key_id:
            raise KeyFileError(f"{key_id} signs: first run watchkeeper keys rotate {role}")
        del entries[key_id]
        _replace(folder / "trusted.json", entries)
        upcoming = folder / f"{role}.next.key"
        if upcoming.exists() and _read(upcoming, role).key_id == key_id:
            upcoming.unlink()
        return _rotation(data_dir, role, None)


def _rotation(data_dir: Path, role: Role, prepared: str | None) -> Rotation:
    signs, entries = load(data_dir).for_role(role).key_id, _entries(folder_of(data_dir))
    trusted = tuple(sorted(key_id for key_id, entry in entries.items() if entry["role"] == role))
    return Rotation(role, signs, trusted, prepared)


@contextlib.contextmanager
def _changing(folder: Path) -> Iterator[None]:
    """Nobody else changes the keys meanwhile; what the file system refuses ends in one line."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        raise KeyFileError(f"no keys in {folder}: make them with watchkeeper keys create") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    except OSError as error:
        raise KeyFileError(
            f"cannot change the keys in {folder} ({error.strerror}): run it as their owner"
        ) from None
    finally:
        os.close(descriptor)


def _entries(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / "trusted.json"
    try:
        TrustedKeys.from_file(path)
    except UnusableKeyError as error:
        raise KeyFileError(str(error)) from None
    entries: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    return entries


def _replace(path: Path, entries: dict[str, dict[str, str]]) -> None:
    """Another file in its place, whole: who reads meanwhile sees the one or the other."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    _create(draft, json.dumps(entries, indent=2, sort_keys=True) + "\n", stat.S_IMODE(path.stat().st_mode))
    draft.replace(path)


def _since_ms(path: Path) -> int:
    """When the file was made, in epoch milliseconds; 0 when it is not there."""
    try:
        return path.stat().st_mtime_ns // 1_000_000
    except OSError:
        return 0


def _read(path: Path, role: Role) -> SigningKey:
    since_ms = _since_ms(path)
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
    return SigningKey(f"{role}-{digest[:12]}", key, since_ms)


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
