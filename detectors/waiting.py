"""Calls of which it is still to be heard what became of them: a few in full, more in thirteen bytes each.

>>> calls = Calls()
>>> for number in range(9):
...     calls.add(Call(Beginning(f"e{number}", 7_500.0, number), 7_500.0, "d", "up"), "abcd", lambda _: True)
>>> [call.at.event_id for call in calls.full], len(calls.waiting("abcd"))
(['e6', 'e7', 'e8'], 9)
>>> found = calls.find("e2", "abcd")
>>> found is not None and (found.watermark_ms, found.agent, found.hashed == name_hash("up"))
(8000, 'd', True)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from math import ceil
from typing import Final

import msgspec

from detectors.base import Beginning, name_hash
from detectors.bounded import add_recent
from schemas.detection import Severity

MAX_FULL: Final = 3
MAX_PACKED: Final = 17
MAX_LOST: Final = 8
_PACKED: Final = struct.Struct(">4s4sIB")
"""The hash of the event id, that of the effect, the watermark in seconds, and the agent's number."""


class Call(msgspec.Struct, array_like=True):
    """A call whose effect is not confirmed; `told` is what has been reported of it. Where the effect is not
    known by name any more, it is empty and `kind` is its hash.
    """

    at: Beginning
    watermark_ms: float
    agent: str
    effect: str
    denied: bool = False
    told: Severity | None = None
    kind: bytes = b""

    @property
    def hashed(self) -> bytes:
        return self.kind or name_hash(self.effect)


class Calls(msgspec.Struct, array_like=True, omit_defaults=True):
    """The most recent calls, those before them, packed, and the effects of calls there was no room for."""

    full: list[Call] = []
    packed: bytes = b""
    lost: list[bytes] = []

    def add(self, call: Call, agents: Sequence[str], expected: Callable[[bytes], bool]) -> None:
        """Follow one more, by one of the agents. Who was denied stays longest, and first goes one
        of whose effect no confirmation is expected.
        """
        self.full.append(call)
        if len(self.full) <= MAX_FULL:
            return
        old = next((one for one in self.full if not one.denied), self.full[0])
        self.full.remove(old)
        if old.denied:
            return
        seconds = ceil(old.watermark_ms / 1_000)
        number = agents.index(old.agent) if old.agent in agents else len(agents)
        self.packed += _PACKED.pack(name_hash(old.at.event_id), old.hashed, seconds, number)
        if len(self.packed) <= _PACKED.size * MAX_PACKED:
            return
        every = list(_PACKED.iter_unpack(self.packed))
        gone = next((one for one in every if not expected(one[1])), every[0])
        self._forget(gone)
        if gone[1] not in self.lost:
            add_recent(self.lost, gone[1], MAX_LOST)

    def find(self, event_id: str, agents: Sequence[str]) -> Call | None:
        """The call of that id. One that was packed is not followed any more with that."""
        found = next((call for call in self.full if call.at.event_id == event_id), None)
        if found is not None or not self.packed:
            return found
        digest = name_hash(event_id)
        packed = next((one for one in _PACKED.iter_unpack(self.packed) if one[0] == digest), None)
        if packed is None:
            return None
        self._forget(packed)
        return _unpacked(packed, event_id, agents)

    def settle(self, call: Call) -> None:
        """It is confirmed, and with it those denied before that had the same effect."""
        self.full = [
            one for one in self.full if one is not call and not (one.denied and one.hashed == call.hashed)
        ]

    def waiting(self, agents: Sequence[str]) -> list[Call]:
        """Those neither confirmed nor denied; of those that were packed the id is only known as a hash."""
        packed = [_unpacked(one, one[0].hex(), agents) for one in _PACKED.iter_unpack(self.packed)]
        return [*packed, *(call for call in self.full if not call.denied)]

    def discard(self, call: Call) -> None:
        """Follow one of the waiting no longer."""
        if call in self.full:
            self.full.remove(call)
            return
        digest = bytes.fromhex(call.at.event_id)
        self._forget(next(one for one in _PACKED.iter_unpack(self.packed) if one[0] == digest))

    def _forget(self, packed: tuple[bytes, bytes, int, int]) -> None:
        every = list(_PACKED.iter_unpack(self.packed))
        every.remove(packed)
        self.packed = b"".join(_PACKED.pack(*one) for one in every)


def _unpacked(packed: tuple[bytes, bytes, int, int], event_id: str, agents: Sequence[str]) -> Call:
    _, kind, seconds, agent = packed
    name = agents[agent] if agent < len(agents) else "an agent"
    return Call(Beginning(event_id, seconds * 1_000, 0), seconds * 1_000, name, "", kind=kind)
