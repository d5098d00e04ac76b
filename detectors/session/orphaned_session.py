"""orphaned_session: a session was started, fell silent and was never ended.

Statistic: event time since the session's last event. Unit: milliseconds. Source: R 18, the user left and
state and commitments stayed. The timer counts from the partition's watermark after the last event, so neither
a skewed clock nor the moment of noticing matters; the detection is of the time at which it was due. A session
whose start was not seen is not judged: telemetry without session events never ends one. A session may say at
its start how long it may be silent. Reported once a session.

>>> from detectors.testing import events, run
>>> start = dict(type="session.start")
>>> run(OrphanedSession(), events([start]), finish=True)
[('warning', 'e0', 1800000.0)]
>>> run(OrphanedSession(), events([start, dict(type="session.end", outcome="completed")]), finish=True)
[]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec

from detectors.base import NOTHING, SessionContext, SessionFacts
from schemas.detection import Detection


@dataclass(frozen=True, slots=True)
class OrphanedSession:
    """`timeout_ms` is how long a session may be silent that does not say it, `shortest_ms` and `longest_ms`
    what it may say; under the pipeline's `forget_ms`.
    """

    timeout_ms: float = 30 * 60 * 1000
    shortest_ms: float = 1_000
    longest_ms: float = 5 * 3_600 * 1000

    name: ClassVar[str] = "orphaned_session"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ()

    class State(msgspec.Struct):
        reported: bool = False

    def update(self, state: State, event: Any, context: SessionContext) -> Iterable[Detection]:
        return NOTHING

    def due_ms(self, state: State, facts: SessionFacts) -> float | None:
        if state.reported or not facts.started or facts.outcome is not None:
            return None
        return facts.touched_ms + self._timeout_ms(facts)

    def on_timer(self, state: State, context: SessionContext) -> Iterable[Detection]:
        state.reported = True
        facts = context.facts
        timeout_ms = self._timeout_ms(facts)
        return (
            context.detection(
                self,
                trigger="silent",
                severity="warning",
                metric="idle_ms",
                observed=timeout_ms,
                threshold=timeout_ms,
                sample_size=facts.events,
                time_ms=facts.last_ms + timeout_ms,
                since=context.here(),
                summary=f"{facts.last_agent} left session {facts.session} open: no end, and nothing for "
                f"{timeout_ms / 1000:,.6g} s after {facts.events} events.",
            ),
        )

    def _timeout_ms(self, facts: SessionFacts) -> float:
        told_ms = facts.idle_timeout_ms
        return self.timeout_ms if told_ms is None else min(max(told_ms, self.shortest_ms), self.longest_ms)
