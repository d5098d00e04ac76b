"""truncation: answers are cut off by the token limit, and the agent goes on with what is left of them.

Statistic: cut-off answers among the answered model calls of a session, and tool calls made right after one
by the agent that got it. Unit: calls. Source: R 51, the token budget as a cause (`finish_reasons` says
`length`); the three that make a warning, a fifth of the calls, are a choice: one long answer cut off is
ordinary, a habit is not. Derivation of the second rule: the arguments of a call that comes out of a cut-off
answer were cut off too, or are left from it; the first is a warning, the third critical.

A call that was allowed sixteen tokens or fewer is cut off on purpose (a label, a yes or no) and not
counted.

>>> from detectors.testing import events, run
>>> cut = dict(type="llm.call", request_model="m", input_tokens=9, output_tokens=4096, status="ok",
...            finish_reasons=["length"])
>>> call = dict(type="tool.call", tool="write", arguments_hash="a1", status="ok")
>>> run(Truncation(), events([cut, cut, cut]))
[('warning', 'e2', 3.0)]
>>> run(Truncation(), events([cut, call] * 3))
[('warning', 'e1', 1.0), ('warning', 'e4', 3.0), ('critical', 'e5', 3.0)]
>>> run(Truncation(), events([dict(cut, output_tokens=1)] * 9))
[]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

import msgspec

from detectors.base import NOTHING, Beginning, SessionContext, name_hash
from detectors.bounded import remember
from schemas.detection import Detection, Severity
from schemas.event import LlmCall, ToolCall

MAX_PENDING: Final = 16
LIMIT_REASONS: Final = frozenset(
    {"length", "max_tokens", "max_output_tokens", "max_completion_tokens", "model_length", "token_limit"}
)


@dataclass(frozen=True, slots=True)
class Truncation:
    """`cut_calls` and `cut_share` of the answers make a habit; `acted_on` tool calls after one are critical;
    answers of `intended_tokens` or fewer are meant to be short.
    """

    cut_calls: int = 3
    cut_share: float = 0.2
    acted_on: int = 3
    intended_tokens: int = 16

    name: ClassVar[str] = "truncation"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("llm.call", "tool.call")

    class State(msgspec.Struct, omit_defaults=True):
        """`pending` is hashes, joined, of the agents whose last answer was cut off, until their next call."""

        answers: int = 0
        cut: int = 0
        acted_on: int = 0
        pending: bytes = b""
        since: Beginning | None = None
        habit_reported: bool = False

    def update(self, state: State, event: LlmCall | ToolCall, context: SessionContext) -> Iterable[Detection]:
        if event.type == "tool.call":
            return self._act(state, event, context) if _forget(state, event.agent) else NOTHING
        if event.status != "ok" or event.finish_reasons is None:
            return NOTHING
        state.answers += 1
        if self._is_cut(event):
            return self._cut(state, event, context)
        _forget(state, event.agent)
        return NOTHING

    def _act(self, state: State, event: ToolCall, context: SessionContext) -> Iterable[Detection]:
        state.acted_on += 1
        if state.acted_on not in {1, self.acted_on}:
            return NOTHING
        severity: Severity = "critical" if state.acted_on == self.acted_on else "warning"
        what = f"called {event.tool} out of an answer that the token limit had cut off"
        return (self._detection("acted_on", severity, state.acted_on, what, state, context),)

    def _cut(self, state: State, event: LlmCall, context: SessionContext) -> Iterable[Detection]:
        state.cut += 1
        _forget(state, event.agent)
        state.pending = remember(state.pending, name_hash(event.agent), MAX_PENDING)
        state.since = state.since or context.here()
        if state.habit_reported or state.cut < self.cut_calls or state.cut < self.cut_share * state.answers:
            return NOTHING
        state.habit_reported = True
        what = f"was cut off by its token limit in {state.cut} of {state.answers} answers"
        return (self._detection("cut_off", "warning", state.cut, what, state, context),)

    def _is_cut(self, event: LlmCall) -> bool:
        reasons = event.finish_reasons or ()
        return event.output_tokens > self.intended_tokens and any(
            reason.lower() in LIMIT_REASONS for reason in reasons
        )

    def _detection(
        self,
        trigger: str,
        severity: Severity,
        observed: int,
        what: str,
        state: State,
        context: SessionContext,
    ) -> Detection:
        return context.detection(
            self,
            trigger=trigger,
            severity=severity,
            metric=f"{trigger}_calls",
            observed=observed,
            threshold=self.cut_calls
            if trigger == "cut_off"
            else 1
            if severity == "warning"
            else self.acted_on,
            sample_size=state.answers,
            since=state.since,
            summary=f"{context.agent} {what}.",
        )


def _forget(state: Truncation.State, agent: str) -> bool:
    """The agent goes on; whether its last answer was cut off."""
    if not state.pending:
        return False
    before, found, after = state.pending.partition(name_hash(agent))
    state.pending = before + after
    return bool(found)
