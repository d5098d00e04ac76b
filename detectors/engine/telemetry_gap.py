"""telemetry_gap: events of an agent have not arrived.

Statistic: for each process of an agent, the span of `seq` seen so far less the distinct events seen, the
lowest of the last `grace_windows` windows. Unit: events. Derivation: `seq` counts up by one within a process,
so a span without losses holds as many events as it is long; an event that is late fills its hole when it
comes, and only a hole that stays is a loss. A process whose `seq` starts again counts as a new one. Reported
at the first loss and each time the loss has doubled. Agents that send no `seq` are not judged. The state
keeps 32 processes; of more that were heard from in an hour, a sample that stays the same.

>>> from detectors.testing import run_windows, window
>>> from detectors.windows import SequenceSpan
>>> spans = [SequenceSpan(10, 10 * turn, 10 * turn + 9) for turn in range(8)]
>>> run_windows(TelemetryGap(), [window(turn, processes={"p": spans[turn]}) for turn in range(8)])
[]
>>> spans[2].count = 7
>>> found = run_windows(TelemetryGap(), [window(turn, processes={"p": spans[turn]}) for turn in range(8)])
>>> [(one.severity, one.observed) for one in found]
[('warning', 3.0)]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import msgspec

from detectors.base import WindowContext
from detectors.bounded import rank
from detectors.windows import SequenceSpan, Window
from schemas.detection import Detection

MAX_PROCESSES = 32
HOUR_MS = 3_600_000


class Sequence(msgspec.Struct, array_like=True):
    """A process: its span of `seq`, the events seen in it, and what was missing after each recent window."""

    first: int
    last: int
    seen: int = 0
    missing: list[int] = []
    reported: int = 0
    heard_ms: int = 0


@dataclass(frozen=True, slots=True)
class TelemetryGap:
    """A loss is reported once it has stayed for `grace_windows` windows with events of the process."""

    grace_windows: int = 3
    min_missing: int = 1

    name: ClassVar[str] = "telemetry_gap"
    version: ClassVar[int] = 1

    class State(msgspec.Struct):
        """By process."""

        processes: dict[str, Sequence] = {}

    def update(self, state: State, window: Window, context: WindowContext) -> Iterable[Detection]:
        found: list[Detection] = []
        for process, span in sorted(window.processes.items()):
            sequence = self._follow(state.processes.get(process), span)
            sequence.heard_ms = window.start_ms
            state.processes[process] = sequence
            lost = min(sequence.missing) if len(sequence.missing) == self.grace_windows else 0
            if lost >= max(self.min_missing, 2 * sequence.reported):
                sequence.reported = lost
                found.append(self._detection(process, sequence, lost, window, context))
        known, hour_ms = state.processes, window.start_ms - HOUR_MS
        while len(known) > MAX_PROCESSES:
            del known[max(known, key=lambda each: (known[each].heard_ms < hour_ms, rank(each)))]
        return found

    def _follow(self, known: Sequence | None, span: SequenceSpan) -> Sequence:
        if known is None or known.seen + span.count > max(known.last, span.max_seq) - known.first + 1:
            # More events than numbers: the process has begun to count anew.
            known = Sequence(span.min_seq, span.max_seq)
        known.first = min(known.first, span.min_seq)
        known.last = max(known.last, span.max_seq)
        known.seen += span.count
        missing = max(0, known.last - known.first + 1 - known.seen)
        known.missing = [*known.missing, missing][-self.grace_windows :]
        return known

    def _detection(
        self, process: str, sequence: Sequence, lost: int, window: Window, context: WindowContext
    ) -> Detection:
        span = sequence.last - sequence.first + 1
        return context.detection(
            self,
            trigger=f"{process}/{sequence.first}/{lost}",
            severity="warning",
            metric="events_missing",
            observed=lost,
            expected=0,
            threshold=self.min_missing,
            sample_size=span,
            event_ids=(),
            summary=f"{lost:,} of {span:,} events of {window.agent}{f' ({process})' if process else ''} "
            "have not arrived: what it did meanwhile has not been checked.",
        )
