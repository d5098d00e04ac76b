"""foreign_arguments: what a tool returned, not what was requested, steers a call.

Statistic: none; an invariant, checked on the call itself. Unit: calls. The flag is computed beside the agent,
where the content is (`watchkeeper_client.foreign`; how well is in docs/evaluation.md), or by any other
producer. Each agent and tool is reported once a session, and once more if it gets worse.

Derivation of the severity, from what the call can do and what the user asked for:
- outward (it has an effect, targets, cannot be undone, or by its name does more than read), unapproved, and
  the user asked for no such act: critical, halt;
- irreversible and unapproved although the user asked for such an act: critical, approval from here on; the
  act may be right while its object is not;
- anything else, as a page read because another page said so, or an approved act: a warning.
Source: the separation of control from retrieved data, Debenedetti et al., "Defeating Prompt Injections by
Design", arXiv 2503.18813 (R 31, a document steers a call).

>>> from detectors.testing import events, run
>>> call = dict(type="tool.call", tool="send_money", arguments_hash="a1", status="ok", effect="money.send")
>>> run(ForeignArguments(), events([call, dict(call, foreign_arguments=True)]))
[('critical', 'e1', 1.0)]
>>> run(ForeignArguments(), events([dict(call, foreign_arguments=True, approval="ap-7")]))
[('warning', 'e0', 1.0)]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

import msgspec

from detectors.base import HALT, NOTHING, SessionContext, name_hash
from detectors.bounded import tell
from schemas.control import ControlState
from schemas.detection import Detection, Severity
from schemas.event import ToolCall

# The client's attributes of a flagged call (watchkeeper_client.events); other producers may give them too.
ASKED: Final = "watchkeeper.foreign_asked"
WRITES: Final = "watchkeeper.foreign_writes"
REQUIRE_APPROVAL: Final = ControlState(mode="require_approval")
MAX_REPORTED = 16


@dataclass(frozen=True, slots=True)
class ForeignArguments:
    """Has no parameters."""

    name: ClassVar[str] = "foreign_arguments"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("tool.call",)

    class State(msgspec.Struct):
        """Calls flagged; hashes of what was reported, joined: after 16 only first criticals matter."""

        calls: int = 0
        reported: bytes = b""

    def update(self, state: State, event: ToolCall, context: SessionContext) -> Iterable[Detection]:
        if not event.foreign_arguments:
            return NOTHING
        state.calls += 1
        severity, suggested = _judge(event)
        if not _is_news(state, severity, event):
            return NOTHING
        act = event.effect or ("change" if severity == "critical" else "call")
        detection = context.detection(
            self,
            trigger=f"{event.agent}/{event.tool}",
            severity=severity,
            metric="foreign_calls",
            observed=state.calls,
            expected=0,
            threshold=0,
            score=1.0,
            sample_size=context.facts.tool_calls,
            summary=f"{event.agent} called {event.tool} ({act}) with a value that came from a tool's result, "
            "where it stands as an order, and not from the request. Look at what it read just before.",
            suggested=suggested,
        )
        return (detection,)


def _judge(event: ToolCall) -> tuple[Severity, ControlState | None]:
    told = event.attributes or {}
    outward = event.effect is not None or event.irreversible or event.targets or told.get(WRITES)
    if not outward or event.approval is not None:
        return "warning", None
    if told.get(ASKED) is not True:
        return "critical", HALT
    return ("critical", REQUIRE_APPROVAL) if event.irreversible else ("warning", None)


def _is_news(state: ForeignArguments.State, severity: Severity, event: ToolCall) -> bool:
    """A warning after a critical of the same agent and tool says nothing new."""
    critical = name_hash(f"critical/{event.agent}/{event.tool}")
    said = critical if severity == "critical" else name_hash(f"warning/{event.agent}/{event.tool}")
    urgent = name_hash(event.agent) if severity == "critical" else b""
    told = None if critical in state.reported else tell(state.reported, said, MAX_REPORTED, urgent)
    state.reported = told or state.reported
    return told is not None
