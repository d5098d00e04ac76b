"""Targets that a session reaches by its tools or effects, one by one as far as there is room."""

from __future__ import annotations

from collections.abc import Container
from typing import Final

import msgspec

from detectors.base import Beginning, SessionContext, name_hash
from detectors.bounded import find_recent
from schemas.detection import Severity

MAX_SENT: Final = 3
OTHERS: Final = "other tools"
IDLE_MS: Final = 1_200_000.0
"""In which what fits into a bucket has drained from it."""


class Sent(msgspec.Struct, array_like=True):
    """The targets of one tool or effect: all of them, and those still in the bucket at `at_ms`."""

    key: bytes
    since: Beginning
    at_ms: float
    total: int = 0
    level: float = 0.0
    careful_until_ms: float = 0.0
    reported: Severity | None = None


def sent_by(kept: list[Sent], name: str, caps: Container[bytes], context: SessionContext) -> tuple[Sent, str]:
    """The targets of a tool or effect, and under which name. Where there is no room for one more, it is
    counted with the others: were the least recent forgotten, of many in turns none would be counted at all.
    One that has a cap needs no room, for its total is kept apart.
    """
    key, others = name_hash(name), name_hash(OTHERS)
    sent = find_recent(kept, lambda one: one.key == key)
    if sent is not None:
        return sent, name
    made = Sent(key, context.here(), context.time_ms)
    if sum(one.key != others for one in kept) >= MAX_SENT:
        idle_ms = context.time_ms - IDLE_MS
        gone = next((one for one in kept if one.key in caps or one.at_ms < idle_ms), None)
        if gone is None and key in caps:
            return made, name
        if gone is None:
            made.key, name = others, OTHERS
            known = find_recent(kept, lambda one: one.key == others)
            if known is not None:
                return known, name
        else:
            kept.remove(gone)
    kept.append(made)
    return made, name
