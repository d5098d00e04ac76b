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
command, agent and session.

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
from detectors.bounded import remember
from schemas.detection import Detection
from schemas.event import LlmCall, ToolCall

MAX_REPORTED = 16


@dataclass(frozen=True, slots=True)
class DisobeyedControl:
    """How long after a halt, acknowledged or not, a call may still begin."""

    grace_ms: float = 5_000
    unheard_ms: float = 20_000

    name: ClassVar[str] = "disobeyed_control"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("tool.call", "llm.call")

    class State(msgspec.Struct):
        """Hashes of command and agent reported, joined."""

        reported: bytes = b""

    def update(self, state: State, event: ToolCall | LlmCall, context: SessionContext) -> Iterable[Detection]:
        held = context.held
        if held is None:
            return NOTHING
        begun_ms = context.time_ms - (event.duration_ms or 0.0)
        known_ms = min(begun_ms, context.watermark_ms - (event.duration_ms or 0.0))
        if begun_ms >= held.until_ms:
            return NOTHING
        if held.applied_ms is not None and begun_ms > held.applied_ms + self.grace_ms:
            late_ms, allowed_ms = begun_ms - held.applied_ms, self.grace_ms
        elif known_ms > held.issued_ms + self.unheard_ms:
            late_ms, allowed_ms = known_ms - held.issued_ms, self.unheard_ms
        else:
            return NOTHING
        subject = name_hash(f"{held.command_id}/{event.agent}")
        if subject in state.reported:
            return NOTHING
        state.reported = remember(state.reported, subject, MAX_REPORTED)
        heard = "its gate had stopped it" if held.applied_ms is not None else "the order to stop"
        return (
            context.detection(
                self,
                trigger=f"{held.command_id}/{event.agent}",
                severity="critical",
                metric="begun_after_halt_ms",
                observed=late_ms,
                threshold=allowed_ms,
                sample_size=1,
                summary=f"{event.agent} goes on: a call began {late_ms / 1000:,.1f} s after {heard}. Stop it "
                "from outside: its proxy, its credentials, its process.",
                suggested=HALT,
            ),
        )
