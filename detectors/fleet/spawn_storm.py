"""spawn_storm: sessions start sessions start sessions, and nobody holds them.

Statistic: three, of the tree `parent_session` spans over all partitions. Sessions started one by another in a
row, each within `hop_ms` of the one before; children of one session; sessions started in a tree in a minute
of event time. Units: sessions. Source: R 29, A spawns B spawns A until the invoice.

Derivation: work that is split up grows wide, not deep: an orchestrator and its workers are one deep, a team
of teams two or three. Five in a row of which one agent started three is recursion without a bottom, and so
are ten of any agents: critical, for every agent in the row. 100 children or 60 in a minute are a warning, as
a large batch looks the same; 500 and 300 are critical. Each is reported once a tree. The state keeps the 448
newest sessions, and of those before them some trees. Of the outermost session only the name is known: its
agent is not stopped unless it comes again below.

>>> from detectors.testing import fact, run_facts
>>> chain = [fact(n, session=f"s{n + 1}", parent_session=f"s{n}", agent="BA"[n % 2]) for n in range(9)]
>>> [(one.severity, one.agent, one.observed) for one in run_facts(SpawnStorm(), chain)]
[('critical', 'A', 5.0), ('critical', 'B', 5.0)]
>>> run_facts(SpawnStorm(), [fact(n, parent_session="root", agent="worker") for n in range(20)])
[]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import msgspec
from xxhash import xxh64_digest

from detectors.base import HALT, NOTHING, Beginning, FleetContext
from detectors.bounded import put, remember
from detectors.fleet.tree import Node, plant, row_of
from detectors.summary import Fact
from schemas.detection import Detection

MAX_PARENTS = 512
MAX_TREES = 64
MAX_REPORTED = 128
MINUTE_MS = 60_000
REPEATS = 3


@dataclass(frozen=True, slots=True)
class SpawnStorm:
    """Sessions in a row, with and without an agent that comes again; for a warning and for critical."""

    recursion: int = 5
    depth: int = 10
    breadth: tuple[int, int] = (100, 500)
    rate: tuple[int, int] = (60, 300)
    hop_ms: int = 30 * 60_000

    name: ClassVar[str] = "spawn_storm"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("spawn",)

    class State(msgspec.Struct):
        """By session (a hash) those started and the children; by root and minute, the sessions started."""

        nodes: dict[bytes, Node] = {}
        children: dict[bytes, int] = {}
        minutes: dict[str, int] = {}
        reported: bytes = b""

    def update(self, state: State, fact: Fact, context: FleetContext) -> Iterable[Detection]:
        session, parent = _hash(fact.session), _hash(fact.parent_session or "")
        if session in state.nodes or session == parent:
            return NOTHING
        plant(state.nodes, session, Node(parent, fact.agent, fact.time_ms), self.hop_ms)
        children = state.children.pop(parent, 0) + 1
        put(state.children, parent, children, MAX_PARENTS)
        row = row_of(state.nodes, session, self.hop_ms)
        root = state.nodes[row[-1]].parent.hex()
        minute = f"{root}/{fact.time_ms // MINUTE_MS}"
        started = state.minutes.pop(minute, 0) + 1
        put(state.minutes, minute, started, MAX_TREES)
        found = self._judge_row(state, row, context)
        if session in state.children:
            # It came after its children: the rows below have become longer.
            for below in list(state.nodes):
                row = row_of(state.nodes, below, self.hop_ms)
                if session in row[1:]:
                    found += self._judge_row(state, row, context)
        if children in self.breadth:
            said = f"Session {fact.parent_session} has started {children} others, the last for {fact.agent}."
            found += self._report(state, f"breadth/{parent.hex()}", children, self.breadth, said, context)
        if started in self.rate:
            said = f"{started} sessions of one tree were started in a minute, the last for {fact.agent}."
            found += self._report(state, f"rate/{root}", started, self.rate, said, context)
        return found

    def _judge_row(self, state: State, row: list[bytes], context: FleetContext) -> list[Detection]:
        nodes = [state.nodes[session] for session in row]
        agents = Counter(node.agent for node in nodes)
        limit = self.recursion if max(agents.values()) >= REPEATS else self.depth
        root = nodes[-1].parent
        if len(row) < limit or any(session in state.reported for session in (root, *row)):
            return []
        # The root stands for the branches beside this one, the last for when the root has been forgotten.
        state.reported = remember(state.reported, root + row[0], MAX_REPORTED)
        names = ", ".join(sorted(agents))
        return [
            context.detection(
                self,
                agent=agent,
                trigger=f"row/{root.hex()}/{agent}",
                severity="critical",
                metric="sessions_in_a_row",
                observed=len(row),
                threshold=limit,
                sample_size=len(row),
                since=Beginning(context.event_id, nodes[-1].time_ms, context.source.offset),
                summary=f"{names} have started {len(row)} sessions one from another, and nothing ends it.",
                suggested=HALT,
            )
            for agent in sorted(agents)
        ]

    def _report(
        self, state: State, what: str, count: int, limits: tuple[int, int], said: str, context: FleetContext
    ) -> list[Detection]:
        critical = count == limits[1]
        mark = _hash(f"{what}/{critical}")
        if mark in state.reported:
            return []
        state.reported = remember(state.reported, mark, MAX_REPORTED)
        found = context.detection(
            self,
            trigger=what,
            severity="critical" if critical else "warning",
            metric="sessions_started",
            observed=count,
            threshold=count,
            sample_size=count,
            summary=said,
            suggested=HALT if critical else None,
        )
        return [found]


def _hash(name: str) -> bytes:
    return xxh64_digest(name.encode())
