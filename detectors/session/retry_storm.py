"""retry_storm: a failing call is made again although nothing has changed.

Statistic: failures in a row of one call by one agent, and the time they took. Units: calls, milliseconds.
Source: R 15 and R 30; three kinds, by `error_type`.
Credentials refused: no retry can help, whatever the arguments. Critical at the third failure of a tool.
Overload or rate limit: a retry is right if it waits. A client with the usual exponential backoff and full
jitter, from `backoff_ms` doubling up to 30 s, waits in the mean half of the schedule's sum before its n-th
try (Brooker, "Exponential Backoff And Jitter", AWS, 2015). Critical from the fifth failure on, if less time
than that has passed; the remedy is to throttle, not to stop, as where a model's provider fails.
Anything else: the same arguments failed three times in a row is a warning, six times critical. Where other
tool calls of the agent worked between them, what made it fail may have changed: then six times is a warning,
and after a call that had an effect (a file edited, tests run again) the count begins anew. A success ends the
run. The state keeps the eight most recent runs of a session.

>>> from detectors.testing import events, run
>>> call = dict(type="tool.call", tool="deploy", arguments_hash="a1", status="error", error_type="401")
>>> run(RetryStorm(), events([call] * 4))
[('critical', 'e2', 3.0)]
>>> run(RetryStorm(), events([dict(call, error_type="rate_limit")] * 8, gap_ms=30_000))
[]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import msgspec
import xxhash

from detectors.base import HALT, NOTHING, Beginning, SessionContext, name_hash
from detectors.bounded import add_recent, find_recent
from detectors.failures import Kind, is_the_others, kind_of, patience_ms
from schemas.control import ControlState
from schemas.detection import Detection, Severity
from schemas.event import LlmCall, ToolCall

MAX_RUNS = 8


class Run(msgspec.Struct, array_like=True):
    """Failures in a row of one call; `straight`: with no tool call of its agent (two bytes) that worked."""

    key: int
    kind: Kind
    since: Beginning
    failures: int = 0
    reported: Severity | None = None
    agent: bytes = b""
    straight: int = 0


@dataclass(frozen=True, slots=True)
class RetryStorm:
    """Parameters are failures in a row, except `backoff_ms`, the first wait of a well-behaved client."""

    credential_failures: int = 3
    overload_failures: int = 5
    warning_failures: int = 3
    critical_failures: int = 6
    backoff_ms: int = 500
    throttled_calls_per_minute: int = 6

    name: ClassVar[str] = "retry_storm"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("tool.call", "llm.call")

    class State(msgspec.Struct):
        runs: list[Run] = []

    def update(self, state: State, event: ToolCall | LlmCall, context: SessionContext) -> Iterable[Detection]:
        if event.status == "ok":
            if state.runs:
                self._end_runs(state, event)
            return NOTHING
        kind = kind_of(event.error_type or "")
        key = _key(event, kind)
        run = find_recent(state.runs, lambda run: run.key == key)
        if run is None:
            run = add_recent(
                state.runs, Run(key, kind, context.here(), agent=name_hash(event.agent)[:2]), MAX_RUNS
            )
        elif not run.failures:
            run.since = context.here()
        run.failures += 1
        run.straight += 1
        severity = self._judge(run, context.time_ms)
        if severity is None or run.reported in {severity, "critical"}:
            return NOTHING
        run.reported = severity
        return (self._detection(run, severity, event, context),)

    def _end_runs(self, state: State, event: ToolCall | LlmCall) -> None:
        """The call has worked. That it was reported is remembered: one call, one detection a session."""
        ended = {_key(event, kind) for kind in ("credentials", "overload", "other")}
        called = event.type == "tool.call"
        effect = getattr(event, "effect", None)
        state.runs = [run for run in state.runs if run.key not in ended or run.reported]
        for run in state.runs:
            if run.key in ended:
                run.failures = run.straight = 0
            elif called and run.kind == "other" and run.agent == name_hash(event.agent)[:2]:
                run.straight = 0
                run.failures = 0 if effect else run.failures

    def _judge(self, run: Run, time_ms: float) -> Severity | None:
        if run.kind == "overload" and time_ms - run.since.time_ms >= patience_ms(
            self.backoff_ms, run.failures
        ):
            return None
        if (run.straight if run.kind == "other" else run.failures) >= self._limit(run.kind, "critical"):
            return "critical"
        tried = run.straight >= self.warning_failures or run.failures >= self.critical_failures
        return "warning" if run.kind == "other" and tried else None

    def _limit(self, kind: Kind, severity: Severity) -> int:
        limits = {"credentials": self.credential_failures, "overload": self.overload_failures}
        return self.warning_failures if severity == "warning" else limits.get(kind, self.critical_failures)

    def _detection(
        self, run: Run, severity: Severity, event: ToolCall | LlmCall, context: SessionContext
    ) -> Detection:
        # A model that fails is its provider's affair; a tool may be broken by what was done to it.
        busy = run.kind == "overload" or (event.type == "llm.call" and is_the_others(event.error_type or ""))
        slower = ControlState(mode="throttle", calls_per_minute=self.throttled_calls_per_minute)
        return context.detection(
            self,
            trigger=f"{run.key:x}",
            severity=severity,
            metric="failures_in_a_row",
            observed=run.failures,
            threshold=self._limit(run.kind, severity),
            sample_size=run.failures,
            since=run.since,
            summary=f"{event.agent} tried {_callee(event)} {run.failures} times and it failed each time "
            f"({event.error_type or 'no error type'}).",
            suggested=None if severity != "critical" else slower if busy else HALT,
        )


def _callee(event: ToolCall | LlmCall) -> str:
    return event.tool if event.type == "tool.call" else event.request_model


def _key(event: ToolCall | LlmCall, kind: str) -> int:
    """Arguments tell calls apart only where another argument might have helped."""
    arguments = event.arguments_hash if kind == "other" and event.type == "tool.call" else ""
    call = (event.agent, event.type, _callee(event), kind, arguments)
    return xxhash.xxh64_intdigest("\x1f".join(call).encode())
