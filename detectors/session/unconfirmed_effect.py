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
The 20 most recent calls with an effect are followed; that more wait is a warning.

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
from functools import partial
from typing import Any, ClassVar, Final

import msgspec

from detectors.base import NOTHING, Beginning, SessionContext, SessionFacts, name_hash
from detectors.bounded import put, remember
from detectors.waiting import Call, Calls
from schemas.detection import Detection, Severity
from schemas.event import Effect, ToolCall

MAX_EARLY: Final = 4
MAX_KINDS: Final = 8
DENIED: Final = "it did not happen"


@dataclass(frozen=True, slots=True)
class UnconfirmedEffect:
    """`timeout_ms` is how long a confirmation may take, `expected` the effects of which one is always due."""

    timeout_ms: int = 300_000
    expected: frozenset[str] = frozenset()

    name: ClassVar[str] = "unconfirmed_effect"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("tool.call", "effect", "session.end")

    class State(msgspec.Struct, omit_defaults=True):
        """Hashes of effects that were confirmed, effects that came early; whether too many was told."""

        calls: Calls = msgspec.field(default_factory=Calls)
        confirmed: bytes = b""
        early: dict[bytes, bool] = {}
        told: bool = False

    def update(self, state: State, event: Any, context: SessionContext) -> Iterable[Detection]:
        if event.type == "session.end":
            denied = [call for call in state.calls.full if call.denied and event.outcome == "completed"]
            return [one for call in denied for one in self._tell(call, "critical", context)]
        found = self._take(state, event, context)
        return [*found, *self._lost(state, context)] if state.calls.lost and not state.told else found

    def _take(self, state: State, event: ToolCall | Effect, context: SessionContext) -> Iterable[Detection]:
        if event.type == "tool.call":
            if event.effect is None or event.status != "ok":
                return NOTHING
            call = Call(context.here(), context.watermark_ms, event.agent, event.effect)
            state.calls.add(call, context.facts.agents, partial(self._expects, state))
            context.wake_at(context.watermark_ms + self.timeout_ms)
            early = state.early.pop(name_hash(event.event_id), None) if state.early else None
            return NOTHING if early is None else self._settle(state, call, early, context)
        found = state.calls.find(event.ref, context.facts.agents)
        if found is not None:
            return self._settle(state, found, event.confirmed, context)
        if event.confirmed or not state.calls.lost:
            put(state.early, name_hash(event.ref), event.confirmed, MAX_EARLY)
            return NOTHING
        begun = Beginning(event.ref, context.time_ms, context.here().offset)
        return self._tell(Call(begun, 0.0, event.agent, "", denied=True), "warning", context)

    def due_ms(self, state: State, facts: SessionFacts) -> float | None:
        waiting = [call for call in state.calls.waiting(facts.agents) if self._expects(state, call.hashed)]
        return min((call.watermark_ms + self.timeout_ms for call in waiting), default=None)

    def on_timer(self, state: State, context: SessionContext) -> Iterable[Detection]:
        severity: Severity = "critical" if context.facts.outcome == "completed" else "warning"
        for call in state.calls.waiting(context.facts.agents):
            late = call.watermark_ms + self.timeout_ms <= context.watermark_ms
            if late and self._expects(state, call.hashed):
                state.calls.discard(call)
                yield self._detection(call, severity, self.timeout_ms, context)

    def _expects(self, state: State, kind: bytes) -> bool:
        return kind in state.confirmed or kind in {name_hash(effect) for effect in self.expected}

    def _settle(self, state: State, call: Call, ok: bool, context: SessionContext) -> Iterable[Detection]:
        if ok:
            if call.hashed not in state.confirmed:
                state.confirmed = remember(state.confirmed, call.hashed, MAX_KINDS)
                context.wake_at(self.due_ms(state, context.facts) or context.watermark_ms)
            state.calls.settle(call)
            return NOTHING
        if call not in state.calls.full:
            state.calls.add(call, context.facts.agents, partial(self._expects, state))
        call.denied = True
        return self._tell(call, "critical" if context.facts.outcome == "completed" else "warning", context)

    def _lost(self, state: State, context: SessionContext) -> Iterable[Detection]:
        """That more calls wait than are followed is said once, where a confirmation is expected of them."""
        state.told = any(self._expects(state, kind) for kind in state.calls.lost)
        if not state.told:
            return NOTHING
        many = Call(context.here(), 0.0, context.agent, "more effects at once than can be followed")
        return (self._detection(many, "warning", 0.0, context),)

    def _tell(self, call: Call, severity: Severity, context: SessionContext) -> Iterable[Detection]:
        if call.told in {severity, "critical"}:
            return NOTHING
        call.told = severity
        return (self._detection(call, severity, max(0.0, context.time_ms - call.at.time_ms), context),)

    def _detection(
        self, call: Call, severity: Severity, observed_ms: float, context: SessionContext
    ) -> Detection:
        late = f"nothing confirmed it within {self.timeout_ms / 1_000:g} s" if not call.denied else DENIED
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
            event_ids=None if call.denied else [call.at.event_id] if call.effect else [],
            summary=f"{call.agent} called for {call.effect or 'an effect'}, and {late}{ending}.",
        )
