"""disobeyed_control: an agent that was told to stop goes on.

Statistic: none; an invariant. No call of a model or a tool may begin later than `grace_ms` after the agent's
own gate has said that it obeys a halt; nor, where no gate has said so, later than `unheard_ms` after the halt
was issued. Unit: milliseconds. Source: R 27, 10,000 mails deleted by an agent told to stop, because the stop
was a prompt; R 69, a halt that is not obeyed escalates.

Derivation. The gate is asked before each call, so a call that begins after it has heard the halt did not ask;
the grace is for calls between asking and beginning, and for a second process that hears a little later. The
begin of a call is its time less its duration. It is held against the gate's own time, for both are the
agent's clock; without an acknowledgement against the engine's, and then the watermark stands in for a clock
that is ahead, while an agent whose clock is behind is noticed later by as much. Reported once for each
command, agent and session, with the calls since the order or the gate's word, and again whenever they have
doubled.

>>> from detectors.control import Held
>>> from detectors.offline import Engine
>>> from detectors.testing import START_MS, brief, events
>>> engine = Engine([DisobeyedControl()], ())
>>> engine.halts.put(("default", "agent", None), Held("c1", START_MS, float("inf")))
>>> engine.halts.applied("c1", "default", "agent", START_MS + 1_000)
>>> call = dict(type="tool.call", tool="delete_mail", arguments_hash="a1", status="ok")
>>> brief(engine.run(events([call] * 10)))
[('critical', 'e7', 6000.0)]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from detectors.base import HALT, NOTHING, SessionContext, name_hash
from detectors.bounded import put, remember
from schemas.detection import Detection
from schemas.event import LlmCall, ToolCall

MAX_REPORTED = 16
MAX_GOING_ON = 2
MAX_NAMED = 6
NAME_CHARS = 64
OTHERS = "others"


class GoingOn(msgspec.Struct):
    """The calls since one order by one agent, by tool, and how many had been told when it was last told."""

    calls: dict[str, int] = msgspec.field(default_factory=dict)
    told: int = 0


@dataclass(frozen=True, slots=True)
class DisobeyedControl:
    """How long after a halt, acknowledged or not, a call may still begin."""

    grace_ms: float = 5_000
    unheard_ms: float = 20_000

    name: ClassVar[str] = "disobeyed_control"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("tool.call", "llm.call")

    class State(msgspec.Struct):
        """Hashes of command and agent reported, joined; and by such a hash, in hex, the calls since."""

        reported: bytes = b""
        since: dict[str, GoingOn] = msgspec.field(default_factory=dict)

    def update(self, state: State, event: ToolCall | LlmCall, context: SessionContext) -> Iterable[Detection]:
        held = context.held
        if held is None:
            return NOTHING
        begun_ms = context.time_ms - (event.duration_ms or 0.0)
        known_ms = min(begun_ms, context.watermark_ms - (event.duration_ms or 0.0))
        if begun_ms >= held.until_ms:
            return NOTHING
        late_ms, allowed_ms = known_ms - held.issued_ms, self.unheard_ms
        if held.applied_ms is not None and begun_ms > held.applied_ms + self.grace_ms:
            late_ms, allowed_ms = begun_ms - held.applied_ms, self.grace_ms
        if late_ms <= 0.0:
            return NOTHING
        subject = name_hash(f"{held.command_id}/{event.agent}")
        going_on = _counted(state, subject.hex(), event)
        count, known = sum(going_on.calls.values()), subject in state.reported
        if late_ms <= allowed_ms or (known and count < 2 * going_on.told):
            return NOTHING
        state.reported = state.reported if known else remember(state.reported, subject, MAX_REPORTED)
        going_on.told = count
        trigger = f"{held.command_id}/{event.agent}"
        found = context.detection(
            self,
            trigger=f"{trigger}/{count.bit_length()}" if known else trigger,
            severity="critical",
            metric="begun_after_halt_ms",
            observed=late_ms,
            threshold=allowed_ms,
            sample_size=count,
            summary=_sentence(event.agent, going_on.calls, late_ms, held.applied_ms is not None),
            suggested=HALT,
        )
        evidence = found.evidence.model_copy(update={"counts": dict(going_on.calls)})
        return (found.model_copy(update={"evidence": evidence}),)


def _counted(state: DisobeyedControl.State, subject: str, event: ToolCall | LlmCall) -> GoingOn:
    """The calls since, with this one; those of the agent that went on first are forgotten first."""
    if subject not in state.since:
        put(state.since, subject, GoingOn(), MAX_GOING_ON)
    going_on = state.since[subject]
    name = event.tool[:NAME_CHARS] if event.type == "tool.call" else event.type
    if name not in going_on.calls and len(going_on.calls) >= MAX_NAMED:
        name = OTHERS
    going_on.calls[name] = going_on.calls.get(name, 0) + 1
    return going_on


def _sentence(agent: str, calls: dict[str, int], late_ms: float, obeyed: bool) -> str:
    heard = "its gate had stopped it" if obeyed else "the order to stop"
    often = sorted(calls.items(), key=lambda each: -each[1])
    count, named = sum(calls.values()), ", ".join(f"{number} {name}" for name, number in often[:4])
    return (
        f"{agent} goes on: {count:,} call{'s' if count > 1 else ''} since the stop ({named}), the last of"
        f" them {late_ms / 1000:,.1f} s after {heard}. Stop it from outside: its proxy, its credentials, its"
        " process."
    )
