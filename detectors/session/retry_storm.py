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
run. The state keeps eight runs of a session, and digests of 32 calls.

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

from detectors.base import HALT, NOTHING, Beginning, SessionContext, name_hash
from detectors.failures import KINDS, Kind, call_of, callee, is_the_others, kind_of, patience_ms
from detectors.returning import comes_again, found, keep
from schemas.control import ControlState
from schemas.detection import Detection, Severity
from schemas.event import LlmCall, ToolCall

MAX_RUNS = 8
MAX_RECENT = 32


class Run(msgspec.Struct, array_like=True):
    """Failures in a row of one call; `straight`: with no call of a tool by its agent that worked."""

    kind: Kind
    since: Beginning
    failures: int = 0
    reported: Severity | None = None
    agent: bytes = b""
    straight: int = 0
    again: bool = False

    def once(self) -> bool:
        """Whether nothing is lost with it."""
        return self.failures <= 1 and not (self.again or self.reported)


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
        """By digests of the calls; `recent` are those of the last that failed."""

        runs: dict[bytes, Run] = {}
        recent: bytes = b""

    def update(self, state: State, event: ToolCall | LlmCall, context: SessionContext) -> Iterable[Detection]:
        if event.status == "ok":
            if state.runs:
                self._end_runs(state, event)
            return NOTHING
        kind = kind_of(event.error_type or "")
        key = name_hash(call_of(event, kind))
        again, state.recent = comes_again(state.recent, key, MAX_RECENT)
        run = found(state.runs, key)
        if run is None:
            run = Run(kind, context.here(), agent=name_hash(event.agent)[:2], again=again)
            keep(state.runs, key, run, state.recent, MAX_RUNS, Run.once)
        elif not run.failures:
            run.since = context.here()
        run.failures += 1
        run.straight += 1
        severity = self._judge(run, context.time_ms)
        if severity is None or run.reported in {severity, "critical"}:
            return NOTHING
        run.reported = severity
        return (self._detection(key, run, severity, event, context),)

    def _end_runs(self, state: State, event: ToolCall | LlmCall) -> None:
        """The call has worked. That it was reported is remembered: one call, one detection a session."""
        ended = {name_hash(call_of(event, kind)) for kind in KINDS}
        state.runs = {key: run for key, run in state.runs.items() if key not in ended or run.reported}
        agent = name_hash(event.agent)[:2] if event.type == "tool.call" else None
        for key, run in state.runs.items():
            if key in ended:
                run.failures = run.straight = 0
            elif run.kind == "other" and run.agent == agent:
                run.straight = 0
                run.failures = 0 if getattr(event, "effect", None) else run.failures

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
        self, key: bytes, run: Run, severity: Severity, event: ToolCall | LlmCall, context: SessionContext
    ) -> Detection:
        # A model that fails is its provider's affair; a tool may be broken by what was done to it.
        busy = run.kind == "overload" or (event.type == "llm.call" and is_the_others(event.error_type or ""))
        slower = ControlState(mode="throttle", calls_per_minute=self.throttled_calls_per_minute)
        return context.detection(
            self,
            trigger=key.hex(),
            severity=severity,
            metric="failures_in_a_row",
            observed=run.failures,
            threshold=self._limit(run.kind, severity),
            sample_size=run.failures,
            since=run.since,
            summary=f"{event.agent} tried {callee(event)} {run.failures} times and it failed each time "
            f"({event.error_type or 'no error type'}).",
            suggested=None if severity != "critical" else slower if busy else HALT,
        )
