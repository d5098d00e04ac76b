"""ping_pong: agents of a session send messages round and round, and none of them gets any further.

Statistic: a directed cycle of up to six agents in which every edge (sender, receiver) was used at least r
times since either of the two made progress; r = max(2, ceil(8 / cycle length)), so about eight to twelve
messages show it. Unit: messages. Without any content: a clarification is never progress; nor is a message
whose content hash came before, or a request or delegation without a hash. An answer or result that is new, or
a tool call of the agent with a new result, is progress: it clears the agent's edges. A new request is
neither.

Derivation: a healthy exchange ends in an answer; eight questions in turn without one is more than field
practice lets pass (R 4, Analyzer and Verifier asking each other for 11 days: halt both within ten exchanges).
All agents of the cycle are reported, each with its own halt. The state keeps 24 edges and 64 hashes.

>>> from detectors.testing import events, run
>>> ask = dict(type="message", agent="analyzer", to_agent="verifier", intent="clarification")
>>> back = dict(ask, agent="verifier", to_agent="analyzer")
>>> run(PingPong(), events([ask, back] * 6))
[('critical', 'e7', 8.0), ('critical', 'e7', 8.0)]
>>> run(PingPong(), events([ask, dict(back, intent="answer")] * 20))
[]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from detectors.base import HALT, NOTHING, Beginning, SessionContext, name_hash
from detectors.bounded import add_recent, find_recent, remember
from schemas.detection import Detection
from schemas.event import Message, ToolCall

MAX_EDGES = 24
MAX_CYCLE = 6
MAX_KNOWN = 64
MAX_REPORTED = 32


class Edge(msgspec.Struct, array_like=True):
    """Messages from one agent to another since either made progress."""

    sender: str
    receiver: str
    since: Beginning
    count: int = 0


@dataclass(frozen=True, slots=True)
class PingPong:
    """`messages` is how many messages, over all edges of a cycle, make it one."""

    messages: int = 8

    name: ClassVar[str] = "ping_pong"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("message", "tool.call")

    class State(msgspec.Struct):
        """Edges, least recent first; hashes of results and contents seen, and of reported cycles, joined."""

        edges: list[Edge] = []
        known: bytes = b""
        reported: bytes = b""

    def update(self, state: State, event: Message | ToolCall, context: SessionContext) -> Iterable[Detection]:
        if isinstance(event, ToolCall):
            if state.edges and event.status == "ok":
                call = (event.agent, event.tool, event.arguments_hash, event.result_hash)
                if _is_new(state, *call):
                    _progress(state, event.agent)
            return NOTHING
        content = event.content_hash
        new = content is not None and _is_new(state, content)
        if event.intent in {"answer", "result"}:
            if new or content is None:
                _progress(state, event.agent)
                return NOTHING
        elif event.intent != "clarification" and new:
            return NOTHING
        ends = (event.agent, event.to_agent)
        edge = find_recent(state.edges, lambda edge: (edge.sender, edge.receiver) == ends)
        if edge is None:
            edge = add_recent(state.edges, Edge(*ends, context.here()), MAX_EDGES)
        edge.count += 1
        cycle = self._cycle(state.edges, edge)
        return self._report(state, cycle, event, context) if cycle else NOTHING

    def _cycle(self, edges: list[Edge], last: Edge) -> list[Edge]:
        """The shortest worn cycle through `last`, its edges in order; empty if there is none."""
        paths = [[last]]
        for length in range(1, MAX_CYCLE + 1):
            needed = max(2, -(-self.messages // length))
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
            ][:MAX_EDGES]
        return []

    def _report(
        self, state: State, cycle: list[Edge], event: Message, context: SessionContext
    ) -> Iterable[Detection]:
        agents = sorted(edge.sender for edge in cycle)
        names = ", ".join(agents)
        known = name_hash(names)
        if known in state.reported:
            return NOTHING
        state.reported = remember(state.reported, known, MAX_REPORTED)
        count = sum(edge.count for edge in cycle)
        return [
            context.detection(
                self,
                agent=agent,
                trigger=f"{names}/{agent}",
                severity="critical",
                metric="messages_without_progress",
                observed=count,
                threshold=self.messages,
                sample_size=count,
                since=min((edge.since for edge in cycle), key=lambda begun: begun.offset),
                event_ids=(*(edge.since.event_id for edge in cycle), event.event_id),
                summary=f"{names} sent each other {count} messages in circles; none has got any further.",
                suggested=HALT,
            )
            for agent in agents
        ]


def _progress(state: PingPong.State, agent: str) -> None:
    state.edges = [edge for edge in state.edges if agent not in {edge.sender, edge.receiver}]


def _is_new(state: PingPong.State, *what: str | None) -> bool:
    digest = name_hash(repr(what))
    if digest in state.known:
        return False
    state.known = remember(state.known, digest, MAX_KNOWN)
    return True
