"""Sessions that started each other."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Final

import msgspec

DEEP: Final = 16
MAX_RECENT: Final = 448
MAX_SESSIONS: Final = 640


class Node(msgspec.Struct, array_like=True):
    """A session that was spawned: by which (a hash), for which agent, when, in the tree of which root as far
    as that is known, and when the last below it was.
    """

    parent: bytes
    agent: str
    time_ms: int
    root: bytes = b""
    heard_ms: int = 0


def row_of(
    nodes: Mapping[bytes, Node], session: bytes, hop_ms: float, most: int = MAX_SESSIONS
) -> list[bytes]:
    """The session and those above it, as far as they are known and each came within `hop_ms` of the one
    before, at `most` so many.

    >>> nodes = {b"c": Node(b"b", "agent", 90), b"b": Node(b"a", "agent", 60), b"a": Node(b"r", "agent", 0)}
    >>> row_of(nodes, b"c", 50), row_of(nodes, b"c", 60)
    ([b'c', b'b'], [b'c', b'b', b'a'])
    """
    row: dict[bytes, None] = {}
    below_ms: float | None = None
    node = nodes.get(session)
    while node is not None and session not in row and len(row) < most:
        if below_ms is not None and below_ms - node.time_ms > hop_ms:
            break
        row[session] = None
        session, below_ms = node.parent, node.time_ms
        node = nodes.get(session)
    return list(row)


def plant(nodes: dict[bytes, Node], session: bytes, node: Node, hop_ms: float) -> None:
    """Add a session that was spawned, which makes those above it as new as itself. Where there are too many,
    the newest stay, and of those before them whole trees, those of the smallest roots: else a row whose hops
    lie far apart in a busy fleet would be forgotten from one to the next. One that was cut begins a new tree
    where it goes on, and as it does not end, it is sooner or later one of those that stay.
    """
    above = nodes.get(node.parent)
    node.root = node.parent if above is None else above.root
    nodes[session] = node
    for each in reversed(row_of(nodes, session, hop_ms, DEEP)):
        above = nodes[each] = nodes.pop(each)
        above.heard_ms = max(above.heard_ms, node.time_ms)
    for below in nodes.values():
        if below.root == session:
            below.root = node.root
    if len(nodes) > MAX_SESSIONS:
        before = list(islice(nodes.items(), len(nodes) - MAX_RECENT))
        gone = next((one for one, each in before if each.heard_ms < node.time_ms - hop_ms), None)
        del nodes[gone or max(before, key=lambda each: each[1].root)[0]]
