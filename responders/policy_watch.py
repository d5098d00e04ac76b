"""The policy file while the engine runs: what is changed in it counts from then on, what is wrong does not.

A new file is taken whole or not at all: parsed, and held against the channels that are set up, before it is
used. Whatever was under way goes on with the time it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from config.settings import Settings
from responders.channels import opening as channels
from responders.handle import Responder
from responders.metrics import POLICY_REFUSED, POLICY_TAKEN
from responders.policy import Policy, PolicyError, parse

LOOK_EVERY_S: Final = 2.0
_log = structlog.get_logger(__name__)


class PolicyWatch:
    """The settings' policy file, and the responders that go by it.

    ``problem`` is why the file as it is now is not used; empty when it is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._path = settings.policy
        self._stamp: tuple[int, int, int] | None = self._seen()
        self._text = self._read()
        self._followers: list[Callable[[Policy], None]] = []
        self.problem = ""

    def follow(self, responder: Responder) -> None:
        """The responder decides by every new policy."""
        self.tell(lambda policy: setattr(responder, "policy", policy))

    def tell(self, follower: Callable[[Policy], None]) -> None:
        """``follower`` is called with every new policy."""
        self._followers.append(follower)

    def look(self, *, even_if_unchanged: bool = False) -> Policy | None:
        """Takes the file if it has changed; the new policy, or None when everything stays as it is."""
        stamp = self._seen()
        if self._path is None or (stamp == self._stamp and not even_if_unchanged):
            return None
        self._stamp, text = stamp, self._read()
        if text == self._text and not even_if_unchanged:
            return None
        self._text = text
        try:
            policy = self._checked(text)
        except PolicyError as error:
            if str(error) != self.problem:
                _log.error("the policy stays as it was", reason=str(error))
            self.problem = str(error)
            POLICY_REFUSED.set(1)
            return None
        self.problem = ""
        POLICY_REFUSED.set(0)
        POLICY_TAKEN.inc()
        for follower in self._followers:
            follower(policy)
        _log.info("the policy is as in its file now", file=str(self._path))
        return policy

    def _checked(self, text: str | None) -> Policy:
        if text is None:
            raise PolicyError(f"{self._path}: cannot be read: put it back, or restart without it")
        policy = parse(text, str(self._path)).with_channels(*channels.defaults(self._settings))
        channels.must_know(policy, self._settings)
        return policy

    def _seen(self) -> tuple[int, int, int] | None:
        """What tells one state of the file from another without reading it."""
        try:
            found = None if self._path is None else self._path.stat()
        except OSError:
            return None
        return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)

    def _read(self) -> str | None:
        try:
            return None if self._path is None else self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None
