"""unconfirmed_effect: a call returned ok, and what it was to bring about did not happen, or nobody said so.

Statistic: event time from a call to its `effect` event. Unit: milliseconds. Source: R 14 (200 OK,
provisioning behind it failed, task called complete); the contract of `effect`: `confirmed` is what
downstream says became of the call that `ref` names.

Denied: downstream said false. The agent may notice and try again or say that it failed, so the denial alone
is a warning; it is critical when the session is called completed and no later call with the same effect was
confirmed.

Silent: confirmations are expected of an effect once one has been seen in the session, and of `expected`.
Such a call that is not confirmed within `timeout_ms` of the watermark after it is a warning, critical when
the session was called completed. Where nobody ever confirms, nothing is expected.

The four most recent calls with an effect are followed; each is reported once, at each severity.

>>> from detectors.testing import events, run
>>> call = dict(type="tool.call", tool="up", arguments_hash="a", status="ok", effect="vm.create")
>>> done = dict(type="session.end", outcome="completed")
>>> no = dict(type="effect", ref="e0", confirmed=False)
>>> run(UnconfirmedEffect(), events([call, no, done]))
[('warning', 'e1', 1000.0), ('critical', 'e2', 2000.0)]
>>> yes = dict(type="effect", ref="e0", confirmed=True)
>>> run(UnconfirmedEffect(), events([call, yes, call, done]), finish=True)
[('critical', 'e2', 300000.0)]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

import msgspec

from detectors.base import NOTHING, Beginning, SessionContext, SessionFacts, name_hash
from detectors.bounded import add_recent, put, remember
from schemas.detection import Detection, Severity
from schemas.event import Effect, SessionEnd, ToolCall

MAX_CALLS: Final = 4
MAX_KINDS: Final = 8


class Call(msgspec.Struct, array_like=True):
    """A call whose effect is not confirmed; `told` is what has been reported of it."""

    at: Beginning
    watermark_ms: float
    agent: str
    effect: str
    denied: bool = False
    told: Severity | None = None


@dataclass(frozen=True, slots=True)
class UnconfirmedEffect:
    """`timeout_ms` is how long a confirmation may take, `expected` the effects of which one is always due."""

    timeout_ms: int = 300_000
    expected: frozenset[str] = frozenset()

    name: ClassVar[str] = "unconfirmed_effect"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("tool.call", "effect", "session.end")

    class State(msgspec.Struct, omit_defaults=True):
        """`confirmed` is the hashes of effects that were; `early` is effects that came before their call."""

        calls: list[Call] = []
        confirmed: bytes = b""
        early: dict[bytes, bool] = {}

    def update(
        self, state: State, event: ToolCall | Effect | SessionEnd, context: SessionContext
    ) -> Iterable[Detection]:
        if event.type == "tool.call":
            if event.effect is None or event.status != "ok":
                return NOTHING
            call = Call(context.here(), context.watermark_ms, event.agent, event.effect)
            add_recent(state.calls, call, MAX_CALLS)
            context.wake_at(context.watermark_ms + self.timeout_ms)
            early = state.early.pop(name_hash(event.event_id), None) if state.early else None
            return NOTHING if early is None else self._settle(state, call, early, context)
        if event.type == "effect":
            found = next((call for call in state.calls if call.at.event_id == event.ref), None)
            if found is None:
                put(state.early, name_hash(event.ref), event.confirmed, MAX_CALLS)
                return NOTHING
            return self._settle(state, found, event.confirmed, context)
        if event.outcome != "completed":
            return NOTHING
        return [one for call in state.calls if call.denied for one in self._tell(call, "critical", context)]

    def due_ms(self, state: State, facts: SessionFacts) -> float | None:
        due_ms = [call.watermark_ms + self.timeout_ms for call in state.calls if self._is_due(state, call)]
        return min(due_ms, default=None)

    def on_timer(self, state: State, context: SessionContext) -> Iterable[Detection]:
        severity: Severity = "critical" if context.facts.outcome == "completed" else "warning"
        for call in state.calls[:]:
            if self._is_due(state, call) and call.watermark_ms + self.timeout_ms <= context.watermark_ms:
                state.calls.remove(call)
                yield self._detection(call, severity, self.timeout_ms, context)

    def _is_due(self, state: State, call: Call) -> bool:
        return not call.denied and (call.effect in self.expected or name_hash(call.effect) in state.confirmed)

    def _settle(
        self, state: State, call: Call, confirmed: bool, context: SessionContext
    ) -> Iterable[Detection]:
        if confirmed:
            kind, effect = name_hash(call.effect), call.effect
            if kind not in state.confirmed:
                state.confirmed = remember(state.confirmed, kind, MAX_KINDS)
                context.wake_at(min(one.watermark_ms for one in state.calls) + self.timeout_ms)
            settled = [one for one in state.calls if one is call or (one.denied and one.effect == effect)]
            state.calls = [one for one in state.calls if one not in settled]
            return NOTHING
        call.denied = True
        completed = context.facts.outcome == "completed"
        return [*self._tell(call, "critical" if completed else "warning", context)]

    def _tell(self, call: Call, severity: Severity, context: SessionContext) -> Iterable[Detection]:
        if call.told in {severity, "critical"}:
            return NOTHING
        call.told = severity
        return (self._detection(call, severity, max(0.0, context.time_ms - call.at.time_ms), context),)

    def _detection(
        self, call: Call, severity: Severity, observed_ms: float, context: SessionContext
    ) -> Detection:
        seconds = self.timeout_ms / 1_000
        what = "it did not happen" if call.denied else f"nothing confirmed it within {seconds:g} s"
        ending = "; the task was called complete" if severity == "critical" else ""
        return context.detection(
            self,
            trigger=call.at.event_id,
            severity=severity,
            metric="unconfirmed_ms",
            observed=observed_ms,
            threshold=None if call.denied else self.timeout_ms,
            sample_size=1,
            agent=call.agent,
            time_ms=call.at.time_ms + observed_ms,
            since=call.at,
            event_ids=None if call.denied else [call.at.event_id],
            summary=f"{call.agent} called for {call.effect}, and {what}{ending}.",
        )
