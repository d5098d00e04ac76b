"""tool_loop: an agent makes the same tool call, gets the same result, and makes it again.

Statistic: per agent, how often one (tool, arguments, result) came since the agent last got anything new: a
call it had not made or a result it had not had, or a new message to it. Unit: calls. A longer cycle of calls
counts too: none of its calls is new. Eight distinct calls are kept, and digests of 48.

Derivation of the thresholds. A deterministic tool tells nothing the second time; five in a row leave room for
a re-read and a re-check and are what the field caps at (R 5: 14,000 identical calls began with five). Waiting
looks the same but is paced: who polls a job leaves a gap, who loops calls again as fast as the model answers,
in 2 to 6 s. So gaps of `poll_interval_ms` or more between the calls make it a warning, and critical only
after `patient_repeats`; likewise where the result is not known. Eight of the last 32 calls, with other work
between them, are wasteful but not stuck: a warning. Failing calls: see `retry_storm`.

>>> from detectors.testing import events, run
>>> call = dict(type="tool.call", tool="list_files", arguments_hash="a1", result_hash="r1", status="ok")
>>> run(ToolLoop(), events([call] * 6))
[('critical', 'e4', 5.0)]
>>> run(ToolLoop(), events(dict(call, result_hash=f"r{turn}") for turn in range(50)))
[]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import msgspec
import xxhash

from detectors.base import HALT, NOTHING, Beginning, SessionContext
from detectors.bounded import DIGEST_BYTES, put
from detectors.returning import comes_again, found, keep
from schemas.detection import Detection, Severity
from schemas.event import Message, ToolCall

MAX_CALLS = 8
MAX_RECENT = 48
MAX_AGENTS = 8


class Repeated(msgspec.Struct, array_like=True):
    """One agent's distinct call: how often since the agent's last progress, and among the recent calls."""

    since: Beginning
    recent_from: int
    progress: int
    streak: int = 1
    recent: int = 1
    reported: Severity | None = None

    def once(self) -> bool:
        return self.streak == self.recent == 1


@dataclass(frozen=True, slots=True)
class ToolLoop:
    """Parameters are numbers of identical calls, except `poll_interval_ms`."""

    repeats: int = 5
    patient_repeats: int = 20
    interleaved_repeats: int = 8
    interleaved_calls: int = 32
    poll_interval_ms: int = 10_000

    name: ClassVar[str] = "tool_loop"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("tool.call", "message")

    class State(msgspec.Struct):
        """`progress` is the call at which each agent last got anything new, `heard` its last message."""

        calls: int = 0
        recent: bytes = b""
        repeated: dict[bytes, Repeated] = {}
        progress: dict[str, int] = {}
        heard: dict[str, str] = {}

    def update(self, state: State, event: ToolCall | Message, context: SessionContext) -> Iterable[Detection]:
        if event.type == "message":
            return self._hear(state, event)
        if event.status != "ok":
            return NOTHING
        state.calls += 1
        digest = _signature(event).to_bytes(8)[:DIGEST_BYTES]
        again, state.recent = comes_again(state.recent, digest, MAX_RECENT)
        known = found(state.repeated, digest)
        if known is not None:
            return self._repeat(state, known, event, context)
        if not again:
            put(state.progress, event.agent, state.calls, MAX_AGENTS)
        call = Repeated(context.here(), state.calls, state.progress.get(event.agent, 0), recent=1 + again)
        keep(state.repeated, digest, call, state.recent, MAX_CALLS, Repeated.once)
        return NOTHING

    def _hear(self, state: State, message: Message) -> Iterable[Detection]:
        """Something new was asked or answered: to make a call again may be right."""
        new, who = message.content_hash, message.to_agent
        if new is not None and message.intent != "clarification" and state.heard.get(who) != new:
            put(state.heard, who, new, MAX_AGENTS)
            put(state.progress, who, state.calls, MAX_AGENTS)
        return NOTHING

    def _repeat(
        self, state: State, call: Repeated, event: ToolCall, context: SessionContext
    ) -> Iterable[Detection]:
        progress = state.progress.get(event.agent, 0)
        if call.progress != progress:
            call.since, call.progress, call.streak = context.here(), progress, 0
        call.streak += 1
        call.recent += 1
        if state.calls - call.recent_from >= self.interleaved_calls:
            call.recent, call.recent_from = call.recent // 2, state.calls - self.interleaved_calls // 2
        severity = self._judge(call, event, context.time_ms)
        if severity is None or call.reported in {severity, "critical"}:
            return NOTHING
        call.reported = severity
        times = max(call.streak, call.recent)
        detection = context.detection(
            self,
            trigger=f"{_signature(event):x}",
            severity=severity,
            metric="identical_calls",
            observed=times,
            threshold=self.repeats,
            sample_size=state.calls,
            since=call.since,
            summary=f"{event.agent} called {event.tool} {times} times with the same arguments and result.",
            suggested=HALT if severity == "critical" else None,
        )
        return (detection,)

    def _judge(self, call: Repeated, event: ToolCall, time_ms: float) -> Severity | None:
        if call.streak >= self.patient_repeats:
            return "critical"
        if call.streak >= self.repeats:
            waits = time_ms - call.since.time_ms >= self.poll_interval_ms * (call.streak - 1)
            return "warning" if waits or _result(event) is None else "critical"
        return "warning" if call.recent >= self.interleaved_repeats else None


def _result(event: ToolCall) -> str | None:
    """The best that is known of the result; None if nothing is."""
    counts = (event.result_shape, event.result_items, event.result_total)
    return str(counts) if event.result_hash is None and counts != (None, None, None) else event.result_hash


def _signature(event: ToolCall) -> int:
    call = (event.agent, event.tool, event.arguments_hash, _result(event))
    return xxhash.xxh64_intdigest(repr(call).encode())
