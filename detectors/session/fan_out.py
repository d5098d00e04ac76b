"""fan_out: a session reaches more recipients, rows or files than anyone meant it to.

Statistic: targets reached (`targets`, one where a call does not say) by tool or effect. Unit: targets.
Source: R 13, 10,000 mails to all users after one network blip, of which 20 may go out.

Declared: `budget.fan_out` of `session.start` caps the targets of a tool or an effect; one more is critical.
A call that the gate denied to a capped tool for want of budget (the client reports it as a heartbeat)
reached nobody: a warning.

Undeclared: what goes out (an effect that ends in send, reply, forward, notify, invite, announce or
broadcast) and what cannot be undone may reach `limit` targets at once, and `per_hour` from then on: a leaky
bucket (Turner, "New Directions in Communications", IEEE Communications Magazine, 1986), so that a session
that answers mail all day stays below it. After a failure only half of that until the bucket would be empty
again: whoever tries again has as many targets as before. What a person approved is not counted.

Each tool or effect is reported once a session. Twelve caps are kept, and in a session of more nothing else is
judged. Of what has no cap three are counted apart and all others together, with one limit.

>>> from detectors.testing import events, run
>>> mail = dict(type="tool.call", tool="mail", arguments_hash="a1", status="ok", effect="email.send")
>>> run(FanOut(), events([mail] * 20 + [dict(mail, targets=10_000)]))
[('critical', 'e20', 10020.0)]
>>> run(FanOut(), events([mail, dict(mail, status="error")] + [mail] * 19))
[('critical', 'e11', 11.0)]
>>> run(FanOut(), events([mail] * 99, gap_ms=60_000))
[]
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

import msgspec

from detectors.base import HALT, NOTHING, SessionContext, name_hash
from detectors.targets import Sent, sent_by
from schemas.detection import Detection, Severity
from schemas.event import Heartbeat, SessionStart, ToolCall

MAX_CAPS: Final = 12
_OUT: Final = re.compile(r"(.*[._:/-])?(send|reply|forward|notify|invite|announce|broadcast)", re.I)
_HOUR_MS: Final = 3_600_000.0


@dataclass(frozen=True, slots=True)
class FanOut:
    """`limit` targets at once and `per_hour` from then on, where the session declares no cap."""

    limit: int = 20
    per_hour: int = 60

    name: ClassVar[str] = "fan_out"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("session.start", "tool.call", "heartbeat")

    class State(msgspec.Struct, omit_defaults=True):
        """`caps`, and targets reached where there is one, by the hash of a tool's or an effect's name."""

        caps: dict[bytes, int] = {}
        reached: dict[bytes, int] = {}
        sent: list[Sent] = []

    def update(
        self, state: State, event: SessionStart | ToolCall | Heartbeat, context: SessionContext
    ) -> Iterable[Detection]:
        if event.type == "tool.call":
            goes_out = event.effect is not None and _OUT.fullmatch(event.effect) is not None
            out = (goes_out or event.irreversible) and not event.approval and len(state.caps) < MAX_CAPS
            if not (out or state.caps):
                return NOTHING
            found: list[Detection] = []
            what = event.effect or event.tool
            for name in {what: None, event.tool: None}:
                cap = state.caps.get(name_hash(name))
                if cap is not None or (out and name == what):
                    found += self._count(state, name, cap, event, context)
            return found
        if event.type == "session.start":
            for name, cap in ((event.budget and event.budget.fan_out) or {}).items():
                if len(state.caps) < MAX_CAPS:
                    state.caps[name_hash(name)] = cap
            return NOTHING
        if event.attributes is None or event.attributes.get("watchkeeper.denied") != "budget":
            return NOTHING
        tool = str(event.attributes.get("watchkeeper.tool"))
        cap = state.caps.get(name_hash(tool))
        if cap is None:
            return NOTHING
        sent, _ = sent_by(state.sent, tool, state.caps, context)
        sent.total = state.reached.get(name_hash(tool), 0)
        return self._report(sent, "warning", tool, cap, context)

    def _count(
        self, state: State, name: str, cap: int | None, event: ToolCall, context: SessionContext
    ) -> Iterable[Detection]:
        sent, name = sent_by(state.sent, name, state.caps, context)
        drained = max(0.0, context.time_ms - sent.at_ms) * self.per_hour / _HOUR_MS
        sent.level = max(0.0, sent.level - drained)
        sent.at_ms = max(sent.at_ms, context.time_ms)
        if event.status == "error":
            sent.careful_until_ms = sent.at_ms + self.limit / self.per_hour * _HOUR_MS
            return NOTHING
        targets = 1 if event.targets is None else event.targets
        sent.total += targets
        sent.level += targets
        if cap is not None:
            key = name_hash(name)
            sent.total = state.reached[key] = state.reached.get(key, 0) + targets
            return self._report(sent, "critical", name, cap, context) if sent.total > cap else NOTHING
        limit = self.limit / 2 if context.time_ms < sent.careful_until_ms else self.limit
        return self._report(sent, "critical", name, limit, context) if sent.level > limit else NOTHING

    def _report(
        self, sent: Sent, severity: Severity, name: str, limit: float, context: SessionContext
    ) -> Iterable[Detection]:
        if sent.reported in {severity, "critical"}:
            return NOTHING
        sent.reported, denied = severity, severity == "warning"
        what = "was denied a call by its budget" if denied else f"reached {sent.total} targets"
        return (
            context.detection(
                self,
                trigger=name,
                severity=severity,
                metric="targets",
                observed=sent.total,
                threshold=limit,
                sample_size=sent.total,
                since=sent.since,
                summary=f"{context.agent} {what} with {name}, which may reach {limit:g}.",
                suggested=None if denied else HALT,
            ),
        )
