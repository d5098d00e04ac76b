"""ping_pong: agents of a session send messages round and round, and none of them gets any further.

Statistic: a directed cycle of agents, up to 24, in which every edge (sender, receiver) was used at least r
times since either of the two made progress; r = max(2, ceil(8 / cycle length)), so about eight to twelve
messages show it. Unit: messages. Without any content: a clarification is never progress; nor is a message
whose content hash came before, or a request or delegation without a hash. An answer or result that is new, or
a tool call of the agent with a new result, is progress: it clears the agent's edges. A new request is
neither.

A task handed back and forth always brings new words. So a second count, a warning: how many requests,
delegations and results two agents exchanged in strict turns, no third one speaking, whatever they hold.

Derivation: a healthy exchange ends in an answer; eight questions in turn without one is more than field
practice lets pass (R 4, Analyzer and Verifier asking each other for 11 days: halt both within ten exchanges).
All agents of the cycle are reported, each with its own halt. Sixteen turns: eight results, none of which was
enough (measured on real runs that stalled: docs/evaluation.md). The state keeps 24 edges and
192 hashes.

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

from detectors.base import HALT, NOTHING, SessionContext, name_hash
from detectors.bounded import remember
from detectors.cycles import Edge, worn_cycle
from detectors.returning import comes_again, found, keep
from schemas.detection import Detection, Severity
from schemas.event import Message, ToolCall

MAX_EDGES = 24
MAX_KNOWN = 64
MAX_RECENT = 128
MAX_REPORTED = 32


@dataclass(frozen=True, slots=True)
class PingPong:
    """How many messages, over all edges of a cycle, make it one; how many turns make the second count."""

    messages: int = 8
    turns: int = 16

    name: ClassVar[str] = "ping_pong"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("message", "tool.call")

    class State(msgspec.Struct):
        """Edges by digest, least recent first; joined: digests of those used last, hashes of results and
        contents seen, and of reported cycles; the two agents that exchange turns, `count` of them.
        """

        edges: dict[bytes, Edge] = {}
        recent: bytes = b""
        known: bytes = b""
        reported: bytes = b""
        turns: Edge | None = None

    def update(self, state: State, event: Message | ToolCall, context: SessionContext) -> Iterable[Detection]:
        if event.type == "tool.call":
            if state.edges and event.status == "ok":
                call = (event.agent, event.tool, event.arguments_hash, event.result_hash)
                if _is_new(state, *call):
                    _progress(state, event.agent)
            return NOTHING
        handed = () if event.intent in {"clarification", "answer"} else self._hand(state, event, context)
        return (*handed, *self._circle(state, event, context))

    def _hand(self, state: State, event: Message, context: SessionContext) -> Iterable[Detection]:
        turns = state.turns
        if turns is None or (event.agent, event.to_agent) != (turns.receiver, turns.sender):
            turns = state.turns = Edge(event.agent, event.to_agent, context.here())
        turns.sender, turns.receiver = event.agent, event.to_agent
        turns.count += 1
        return self._report(state, [turns], "warning", context) if turns.count == self.turns else NOTHING

    def _circle(self, state: State, event: Message, context: SessionContext) -> Iterable[Detection]:
        content = event.content_hash
        new = content is not None and _is_new(state, content)
        if event.intent in {"answer", "result"}:
            if new or content is None:
                _progress(state, event.agent)
                return NOTHING
        elif event.intent != "clarification" and new:
            return NOTHING
        digest = name_hash(f"{event.agent}\x1f{event.to_agent}")
        again, state.recent = comes_again(state.recent, digest, MAX_RECENT)
        edge = found(state.edges, digest)
        if edge is None:
            edge = Edge(event.agent, event.to_agent, context.here(), again=again)
            keep(state.edges, digest, edge, state.recent, MAX_EDGES, Edge.once)
        edge.count += 1
        cycle = worn_cycle([*state.edges.values()], edge, self.messages)
        return self._report(state, cycle, "critical", context) if cycle else NOTHING

    def _report(
        self, state: State, edges: list[Edge], severity: Severity, context: SessionContext
    ) -> Iterable[Detection]:
        agents = sorted({edge.sender for edge in edges} | {edge.receiver for edge in edges})
        names = ", ".join(agents)
        worn = severity == "critical"
        known = name_hash(names if worn else f"turns/{names}")
        if known in state.reported:
            return NOTHING
        state.reported = remember(state.reported, known, MAX_REPORTED)
        count = sum(edge.count for edge in edges)
        how = "in circles; none has got any further." if worn else "in turns; no result has been enough."
        return [
            context.detection(
                self,
                agent=agent,
                trigger=f"{names}/{agent}",
                severity=severity,
                metric="messages_without_progress" if worn else "turns",
                observed=count,
                threshold=self.messages if worn else self.turns,
                sample_size=count,
                since=min((edge.since for edge in edges), key=lambda begun: begun.offset),
                event_ids=(*(edge.since.event_id for edge in edges), context.event_id),
                summary=f"{names} sent each other {count} messages {how}",
                suggested=HALT if worn else None,
            )
            for agent in (agents if worn else agents[:1])
        ]


def _progress(state: PingPong.State, agent: str) -> None:
    state.edges = {k: edge for k, edge in state.edges.items() if agent not in {edge.sender, edge.receiver}}


def _is_new(state: PingPong.State, *what: str | None) -> bool:
    digest = name_hash(repr(what))
    if digest in state.known:
        return False
    state.known = remember(state.known, digest, MAX_KNOWN)
    return True
