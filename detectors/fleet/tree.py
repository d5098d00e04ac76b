"""Sessions that started each other."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Node(msgspec.Struct, array_like=True):
    """A session that was spawned: by which (a hash), for which agent, and when."""

    parent: bytes
    agent: str
    time_ms: int


def row_of(nodes: Mapping[bytes, Node], session: bytes, hop_ms: float) -> list[bytes]:
    """The session and those above it, as far as they are known and each came within `hop_ms` of the one
    before.

    >>> nodes = {b"c": Node(b"b", "agent", 90), b"b": Node(b"a", "agent", 60), b"a": Node(b"r", "agent", 0)}
    >>> row_of(nodes, b"c", 50), row_of(nodes, b"c", 60)
    ([b'c', b'b'], [b'c', b'b', b'a'])
    """
    row: dict[bytes, None] = {}
    below_ms: float | None = None
    node = nodes.get(session)
    while node is not None and session not in row:
        if below_ms is not None and below_ms - node.time_ms > hop_ms:
            break
        row[session] = None
        session, below_ms = node.parent, node.time_ms
        node = nodes.get(session)
    return list(row)
