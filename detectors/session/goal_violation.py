"""goal_violation: an agent does what its goal does not allow, or gives itself another goal.

Statistic: none; invariants, checked on the event itself. Unit: calls. Source: the contract of
`session.start`, whose `allowed_effects` are all that may come of the session, and whose `goal` is what was
asked for.

Outside the goal: a call has an effect that no agent's first start of the session allowed, by name or by
``family.*``. R 11, a file rewritten to have something to commit: the goal allowed no writing. R 20,
outliers cleaned away: the goal allowed a report, not a change of the data. Critical when it was done, a
warning when it failed.

Redefined: an agent starts the session it is in again, with another goal or with effects it did not have,
and nobody has asked it for anything since (no request, delegation or answer to it came): a warning. The
wider effects are not granted.

What this cannot see without content: whether an allowed write was needed, or an allowed report honest. A
session that declares neither goal nor effects is not judged. Each effect and each agent is reported once a
session, of 32 agents; 128 allowed effects or more allow all.

>>> from detectors.testing import events, run
>>> start = dict(type="session.start", goal="review", allowed_effects=["report.*"])
>>> call = dict(type="tool.call", tool="edit", arguments_hash="a", status="ok", effect="file.write")
>>> run(GoalViolation(), events([start, dict(call, effect="report.write"), call, call]))
[('critical', 'e2', 1.0)]
>>> run(GoalViolation(), events([start, start, dict(start, goal="look_busy")]))
[('warning', 'e2', 1.0)]
>>> ask = dict(type="message", agent="user", to_agent="agent", intent="request")
>>> run(GoalViolation(), events([start, ask, dict(start, goal="summary")]))
[]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final

import msgspec

from detectors.base import HALT, NOTHING, SessionContext, name_hash
from detectors.bounded import remember
from schemas.detection import Detection, Severity
from schemas.event import Message, SessionStart, ToolCall

HASH_BYTES: Final = 3
MAX_ALLOWED_BYTES: Final = HASH_BYTES * 128
MAX_KEPT: Final = 8
MAX_MANDATES: Final = 32


class Mandate(msgspec.Struct, array_like=True):
    """What an agent said it was asked for when it started; `asked` is whether it was asked again since."""

    goal: bytes | None
    asked: bool = False
    reported: bool = False


@dataclass(frozen=True, slots=True)
class GoalViolation:
    """Has no parameters."""

    name: ClassVar[str] = "goal_violation"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("session.start", "tool.call", "message")

    class State(msgspec.Struct, omit_defaults=True):
        """`allowed` is the hashes of effects and families, joined; None while nobody has declared any."""

        allowed: bytes | None = None
        mandates: dict[bytes, Mandate] = {}
        reported: bytes = b""

    def update(
        self, state: State, event: SessionStart | ToolCall | Message, context: SessionContext
    ) -> Iterable[Detection]:
        if event.type == "tool.call":
            if event.effect is None or state.allowed is None or _allows(state.allowed, event.effect):
                return NOTHING
            return self._outside(state, event, event.effect, context)
        if event.type == "session.start":
            return self._start(state, event, context)
        if event.intent != "clarification" and state.mandates:
            mandate = state.mandates.get(name_hash(event.to_agent))
            if mandate is not None and event.agent != event.to_agent:
                mandate.asked = True
        return NOTHING

    def _outside(
        self, state: State, event: ToolCall, effect: str, context: SessionContext
    ) -> Iterable[Detection]:
        failed = event.status == "error"
        kind = name_hash(f"{effect}\x1f{event.status}")
        if kind in state.reported:
            return NOTHING
        state.reported = remember(state.reported, kind, MAX_KEPT)
        what = f"tried {effect}" if failed else f"did {effect} with {event.tool}"
        severity: Severity = "warning" if failed else "critical"
        return self._detection(effect, severity, f"{what}, which the session's goal does not allow", context)

    def _start(self, state: State, event: SessionStart, context: SessionContext) -> Iterable[Detection]:
        agent = name_hash(event.agent)
        mandate = state.mandates.get(agent)
        effects = event.allowed_effects
        goal = None if event.goal is None else name_hash(event.goal)
        if mandate is None or mandate.asked:
            if mandate is not None or len(state.mandates) < MAX_MANDATES:
                state.mandates[agent] = Mandate(goal, reported=mandate is not None and mandate.reported)
            if effects is not None:
                known = state.allowed or b""
                new = sorted({one for effect in effects if (one := _hash(effect)) not in known})
                state.allowed = (known + b"".join(new))[:MAX_ALLOWED_BYTES]
            return NOTHING
        other = goal is not None and mandate.goal is not None and goal != mandate.goal
        wider = effects is not None and not all(_allows(state.allowed or b"", effect) for effect in effects)
        if mandate.reported or not (other or wider):
            return NOTHING
        mandate.reported = True
        what = "gave itself another goal" if other else "allowed itself further effects"
        return self._detection(event.agent, "warning", f"{what} in the middle of the session", context)

    def _detection(
        self, trigger: str, severity: Severity, what: str, context: SessionContext
    ) -> Iterable[Detection]:
        return (
            context.detection(
                self,
                trigger=trigger,
                severity=severity,
                metric="violations",
                observed=1,
                expected=0,
                threshold=0,
                sample_size=context.facts.events,
                summary=f"{context.agent} {what}.",
                suggested=HALT if severity == "critical" else None,
            ),
        )


def _allows(allowed: bytes, effect: str) -> bool:
    family = f"{effect.partition('.')[0]}.*"
    return len(allowed) >= MAX_ALLOWED_BYTES or _hash(effect) in allowed or _hash(family) in allowed


@lru_cache(maxsize=1_024)
def _hash(effect: str) -> bytes:
    """Three bytes: two effects taken for one, a pair in sixteen million, would only hide a violation."""
    return name_hash(effect)[:HASH_BYTES]
