"""undeclared_tool: an agent calls a tool that its session did not declare.

Statistic: none; an invariant, checked on the call itself. Unit: calls. Source: the contract of
`session.start`: what `declared_tools` names, by any agent that starts the session, is all there is (R 9, an
invented tool called with invented parameters). A session that declares nothing is not judged. Each tool is
reported once a session.

>>> from detectors.testing import events, run
>>> start = dict(type="session.start", declared_tools=["search"])
>>> call = dict(type="tool.call", tool="search", arguments_hash="a1", status="ok")
>>> run(UndeclaredTool(), events([start, call, dict(call, tool="summon"), dict(call, tool="summon")]))
[('critical', 'e2', 1.0)]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from detectors.base import HALT, NOTHING, SessionContext, name_hash
from detectors.bounded import tell
from schemas.detection import Detection
from schemas.event import ToolCall

MAX_REPORTED = 32


@dataclass(frozen=True, slots=True)
class UndeclaredTool:
    """Has no parameters."""

    name: ClassVar[str] = "undeclared_tool"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("tool.call",)

    class State(msgspec.Struct):
        """Hashes of the names reported, joined; after 32 only an agent's first is worth saying."""

        reported: bytes = b""

    def update(self, state: State, event: ToolCall, context: SessionContext) -> Iterable[Detection]:
        if context.facts.declared_tools is None or context.facts.declares(event.tool):
            return NOTHING
        tool = name_hash(event.tool)
        told = tell(state.reported, tool, MAX_REPORTED, name_hash(event.agent))
        if told is None:
            return NOTHING
        state.reported = told
        return (
            context.detection(
                self,
                trigger=event.tool,
                severity="critical",
                metric="undeclared_calls",
                observed=1,
                expected=0,
                threshold=0,
                sample_size=context.facts.tool_calls,
                summary=f"{event.agent} called {event.tool}, a tool that its session did not declare.",
                suggested=HALT,
            ),
        )
