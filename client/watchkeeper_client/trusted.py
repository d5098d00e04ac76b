"""The trusted keys file, followed: keys are rotated and retired while the process runs.

The file is looked at whenever a command is to be verified: in the background, never before an agent's call.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from watchkeeper_client.control import TRUSTED_KEYS_VARIABLE, TrustedKey, TrustedKeys, UnusableKeyError

log = logging.getLogger("watchkeeper")

_NO_FILE: Final = (0, 0, 0, 0)
_Stamp = tuple[int, int, int, int]


class TrustedKeysFile(TrustedKeys):
    """The keys in a file as it is now: one that is added is trusted, one that is taken out no longer is.

    While the file cannot be read, the keys last read stay trusted, and a line in the log says so.

    Args:
        path: the file, in the form of :class:`TrustedKeys`.
        late: whether the file may be made later; nobody is trusted until then.

    Raises:
        UnusableKeyError: the file cannot be read, unless it may come late.
    """

    def __init__(self, path: Path | str, *, late: bool = False) -> None:
        super().__init__({})
        self._path = Path(path)
        self._stamp: _Stamp | None = None
        try:
            self._read()
        except UnusableKeyError as error:
            if not late:
                raise
            log.warning("no commands are obeyed yet: %s", error)

    def get(self, key_id: str) -> TrustedKey | None:
        try:
            self._read()
        except UnusableKeyError as error:
            log.warning("the trusted keys stay as they were: %s", error)
        return super().get(key_id)

    def _read(self) -> None:
        """Reads the file if it has changed since the last look. Raises UnusableKeyError, once each."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        self._keys = TrustedKeys.from_file(self._path)._keys


def _stamp(path: Path) -> _Stamp:
    """Tells one state of a file from another: written again in place, or replaced by another."""
    try:
        found = path.stat()
    except OSError:
        return _NO_FILE
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def trusted_from_env(variable: str = TRUSTED_KEYS_VARIABLE, *, late: bool = False) -> TrustedKeys:
    """From an environment variable: the JSON itself, or a file's path, which is followed and may be ``late``.

    Raises:
        UnusableKeyError: the variable is not set, or what it holds cannot be read.
    """
    value = os.environ.get(variable, "").strip()
    if value and not value.startswith("{"):
        return TrustedKeysFile(value, late=late)
    return TrustedKeys.from_env(variable)
