"""Cycles among agents that send each other messages: the shortest one of which every edge is worn."""

from __future__ import annotations

import msgspec

from detectors.base import Beginning

MAX_CYCLE = 24
MAX_PATHS = 24


class Edge(msgspec.Struct, array_like=True):
    """Messages from one agent to another, counted since something began; `again`: there had been some."""

    sender: str
    receiver: str
    since: Beginning
    count: int = 0
    again: bool = False

    def once(self) -> bool:
        """Whether there has been one message so far."""
        return self.count <= 1 and not self.again


def worn_cycle(edges: list[Edge], last: Edge, messages: int) -> list[Edge]:
    """The shortest cycle of at most 24 agents through `last` whose edges all have their share of `messages`,
    at least two, in order; empty if there is none.
    """
    paths = [[last]]
    for length in range(1, MAX_CYCLE + 1):
        needed = max(2, -(-messages // length))
        for path in paths:
            if path[-1].receiver == last.sender and all(edge.count >= needed for edge in path):
                return path
        paths = [
            [*path, edge]
            for path in paths
            for edge in edges
            if edge.count >= 2
            and edge.sender == path[-1].receiver
            and all(edge.receiver != taken.receiver for taken in path)
        ][:MAX_PATHS]
    return []
