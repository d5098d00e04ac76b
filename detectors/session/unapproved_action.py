"""unapproved_action: something that cannot be undone is done, or tried, without a person's approval.

Statistic: none; an invariant, checked on the call itself. Unit: calls. Source: R 12 (a schema change
dropped a critical column) and R 49; the contract of `tool.call`: `irreversible` says that it cannot be
undone, `approval` names who allowed it. A call that does not say is judged by its effect: to delete, drop,
truncate, purge, wipe or destroy what holds other people's data cannot be undone; to delete anything else (a
draft, a scratch file) may be an agent's ordinary work and is not judged.

Critical when it was done. A call that failed, or that the gate denied (which the client reports as a
heartbeat), did no harm and may be how an agent learns that it has to ask: a warning, and critical at the
third try of the same tool. Each tool is reported once a session at each severity; the eight
most recent are kept.

>>> from detectors.testing import events, run
>>> call = dict(type="tool.call", tool="migrate", arguments_hash="a1", status="ok", irreversible=True)
>>> run(UnapprovedAction(), events([dict(call, approval="alice-7"), call, call]))
[('critical', 'e1', 1.0)]
>>> told = {"watchkeeper.denied": "irreversible", "watchkeeper.tool": "migrate"}
>>> run(UnapprovedAction(), events([dict(type="heartbeat", attributes=told)] * 4))
[('warning', 'e0', 1.0), ('critical', 'e2', 3.0)]
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

import msgspec

from detectors.base import HALT, NOTHING, SessionContext, name_hash
from detectors.bounded import add_recent, find_recent
from schemas.detection import Detection, Severity
from schemas.event import Heartbeat, ToolCall

MAX_TOOLS: Final = 8
_IRREVERSIBLE: Final = re.compile(
    r"(db|database|schema|table|column|backup|snapshot|volume|bucket|cluster|collection|account|user|tenant"
    r"|customer|mailbox)s?[._:/-]([\w-]+[._:/-])*(delete|drop|truncate|purge|wipe|destroy)(_\w+)?",
    re.I,
)


class Tried(msgspec.Struct, array_like=True):
    """What one tool did, or tried, without approval."""

    tool: bytes
    tries: int = 0
    reported: Severity | None = None


@dataclass(frozen=True, slots=True)
class UnapprovedAction:
    """`tries` is how often a denied or failing call may be tried."""

    tries: int = 3

    name: ClassVar[str] = "unapproved_action"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("tool.call", "heartbeat")

    class State(msgspec.Struct, omit_defaults=True):
        tried: list[Tried] = []

    def update(
        self, state: State, event: ToolCall | Heartbeat, context: SessionContext
    ) -> Iterable[Detection]:
        if event.type == "tool.call":
            if event.approval is not None or not is_irreversible(event.irreversible, event.effect):
                return NOTHING
            return self._judge(state, event.tool, event.status == "ok", context)
        if event.attributes is None or event.attributes.get("watchkeeper.denied") != "irreversible":
            return NOTHING
        return self._judge(state, str(event.attributes.get("watchkeeper.tool", "")), False, context)

    def _judge(self, state: State, tool: str, done: bool, context: SessionContext) -> Iterable[Detection]:
        key = name_hash(tool)
        tried = find_recent(state.tried, lambda one: one.tool == key)
        if tried is None:
            tried = add_recent(state.tried, Tried(key), MAX_TOOLS)
        tried.tries += 1
        severity: Severity = "critical" if done or tried.tries >= self.tries else "warning"
        if tried.reported in {severity, "critical"}:
            return NOTHING
        tried.reported = severity
        what = "did something that cannot be undone" if done else "tried something that cannot be undone"
        return (
            context.detection(
                self,
                trigger=tool,
                severity=severity,
                metric="unapproved_calls",
                observed=tried.tries,
                expected=0,
                threshold=0 if done else self.tries,
                sample_size=tried.tries,
                summary=f"{context.agent} {what} with {tool or 'a call'}, and nobody had approved it"
                f"{'.' if done else '; it was denied or failed.'}",
                suggested=HALT if severity == "critical" else None,
            ),
        )


def is_irreversible(declared: bool | None, effect: str | None) -> bool:
    """What the call says of itself; where it says nothing, what its effect is."""
    return declared if declared is not None else effect is not None and bool(_IRREVERSIBLE.fullmatch(effect))
