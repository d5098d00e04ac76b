"""Who is to stand still, as session detectors read it: `context.held`, or None for an agent that may go on.

Only what is in force now is known, not what was: it comes over the compacted `agent.control`. It is
knowledge, not state, as `detectors.profile` is: a detection that rests on it needs a trigger made of the
command and the agent alone.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

EVERY: Final = "*"
MAX_COMMANDS: Final = 10_000
"""Commands whose acknowledgements are remembered, before or after the command itself."""

MAX_AGENTS: Final = 1_000
"""Agents whose acknowledgement of one command is remembered."""

Scope = tuple[str, str, str | None]
"""Tenant, agent and session; `*` for every one, None for all sessions."""


class Held(msgspec.Struct, frozen=True):
    """A halt as it concerns one agent. Times are epoch milliseconds.

    `issued_ms` is the engine's time; `applied_ms` is the agent's own, in which its gate said that it obeys,
    None while it has not. `until_ms` is when the halt ends by itself.
    """

    command_id: str
    issued_ms: float
    until_ms: float
    applied_ms: float | None = None


class Halts:
    """The halts in force, and which agents have acknowledged them. Records may come in any order."""

    def __init__(self) -> None:
        self._halts: dict[Scope, Held] = {}
        self._applied: OrderedDict[str, dict[tuple[str, str], float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._halts)

    def put(self, scope: Scope, held: Held) -> None:
        """What is wanted of a target is now this halt."""
        self._halts[scope] = held

    def lift(self, scope: Scope) -> None:
        """What is wanted of a target is something else than a halt."""
        self._halts.pop(scope, None)

    def applied(self, command_id: str, tenant: str, agent: str, at_ms: float) -> None:
        """An agent's own gate obeys the command. Of several gates of one agent the last to do so counts."""
        agents = self._applied.setdefault(command_id, {})
        self._applied.move_to_end(command_id)
        if len(self._applied) > MAX_COMMANDS:
            self._applied.popitem(last=False)
        who = (tenant, agent)
        if who in agents or len(agents) < MAX_AGENTS:
            agents[who] = max(at_ms, agents.get(who, at_ms))

    def of(self, tenant: str, agent: str, session: str) -> Held | None:
        """The halt in force for an agent in a session; of several the one issued first."""
        halts = self._halts
        if not halts:
            return None
        scopes: tuple[Scope, ...] = (
            (EVERY, EVERY, None),
            (tenant, EVERY, None),
            (tenant, agent, None),
            (tenant, EVERY, session),
            (tenant, agent, session),
        )
        found = [halts[scope] for scope in scopes if scope in halts]
        if not found:
            return None
        first = min(found, key=lambda held: held.issued_ms)
        applied_ms = self._applied.get(first.command_id, {}).get((tenant, agent))
        return first if applied_ms is None else msgspec.structs.replace(first, applied_ms=applied_ms)
