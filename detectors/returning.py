"""Memory for what comes again, among much that comes once.

Were those forgotten that came longest ago, many in turns would push each other out before any of them came
again, and nothing would ever be seen to repeat. So it is a queue that a scan cannot flush (Johnson and
Shasha, "2Q: A Low Overhead High Performance Buffer Management Replacement Algorithm", VLDB 1994): of more
things than are kept, only a digest is remembered; what came once gives way first, and what keeps coming
keeps its place.

>>> kept: dict[bytes, str] = {}
>>> recent = b""
>>> for name in [b"one.", b"two.", b"one.", b"six.", b"ten.", b"one."]:
...     again, recent = comes_again(recent, name, 16)
...     if found(kept, name) is None:
...         keep(kept, name, "again" if again else "once", recent, 2, lambda what: what == "once")
...     elif again:
...         kept[name] = "again"
>>> kept
{b'ten.': 'once', b'one.': 'again'}
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from detectors.bounded import DIGEST_BYTES, remember

T = TypeVar("T")


def comes_again(recent: bytes, digest: bytes, limit: int) -> tuple[bool, bytes]:
    """Whether a digest is one of the `recent`, which are joined; and the recent ones with it as the last, at
    most `limit`.
    """
    at = _place(recent, digest)
    if at >= 0:
        recent = recent[:at] + recent[at + DIGEST_BYTES :]
    return at >= 0, remember(recent, digest, limit)


def found(kept: dict[bytes, T], digest: bytes) -> T | None:
    """What is kept under a digest, which is the one used last with that."""
    item = kept.pop(digest, None)
    if item is not None:
        kept[digest] = item
    return item


def keep(
    kept: dict[bytes, T], digest: bytes, item: T, recent: bytes, limit: int, once: Callable[[T], bool]
) -> None:
    """Keep one more, if there is room: what came `once` gives way, the least recent first, then what is not
    among the recent any more. There is none where all that is kept comes again and again.
    """
    if len(kept) >= limit:
        goes = next((each for each, known in kept.items() if once(known)), None)
        goes = goes or next((each for each in kept if _place(recent, each) < 0), None)
        if goes is None:
            return
        del kept[goes]
    kept[digest] = item


def _place(joined: bytes, digest: bytes) -> int:
    at = joined.find(digest)
    while at % DIGEST_BYTES and at >= 0:
        at = joined.find(digest, at + 1)
    return at
