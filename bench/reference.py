"""What must come out: the pure pipeline over the workload, without Kafka. Every side is held to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bench.workload import Made
from detectors.base import Source
from detectors.pipeline import SessionPipeline
from detectors.registry import SESSION
from detectors.windows import Window
from schemas import topics
from schemas.dead_letter import DeadLetter
from schemas.detection import Detection
from streams.decode import decode

WINDOW_MS = 2_000
LATENESS_MS = 2_000


@dataclass(slots=True)
class Work:
    """What a side has found: ids of detections, events in the windows it closed, detections by detector."""

    detections: set[str] = field(default_factory=set)
    windowed_events: int = 0
    by_detector: dict[str, int] = field(default_factory=dict)
    sessions: dict[str, set[str]] = field(default_factory=dict)

    def note(self, output: object) -> None:
        """Count one output; marks are passed over."""
        if isinstance(output, Window):
            self.windowed_events += output.events
        elif isinstance(output, Detection) and output.detection_id not in self.detections:
            self.detections.add(output.detection_id)
            self.by_detector[output.detector] = self.by_detector.get(output.detector, 0) + 1
            self.sessions.setdefault(output.detector, set()).add(output.session or "")

    def differs_from(self, expected: Work) -> str | None:
        """One line on what is missing or too much, or None."""
        missing, extra = (
            len(expected.detections - self.detections),
            len(self.detections - expected.detections),
        )
        if missing or extra:
            return f"{missing} of {len(expected.detections)} detections missing, {extra} too many"
        if self.windowed_events != expected.windowed_events:
            return f"its windows hold {self.windowed_events} events instead of {expected.windowed_events}"
        return None


class DeadLetterError(Exception):
    """The workload made an event that the engine refuses: the workload is at fault."""


def pipeline(partition: int, *, checkpointed: bool = False) -> SessionPipeline:
    """The detectors and windows of one partition, as every side runs them."""
    return SessionPipeline(
        partition, SESSION, window_ms=WINDOW_MS, lateness_ms=LATENESS_MS, checkpointed=checkpointed
    )


def expected(
    records: Iterable[Made], partitions: int, prefixes: Sequence[int]
) -> tuple[list[Work], list[list[int]]]:
    """For each prefix (numbers of records, ascending): what must be found, and its records per partition.

    Raises:
        DeadLetterError: a record is no valid event.
    """
    pipelines = [pipeline(partition) for partition in range(partitions)]
    counts = [0] * partitions
    works = [Work() for _ in prefixes]
    limits: list[list[int]] = []
    for number, record in enumerate(records):
        while number == prefixes[len(limits)]:
            limits.append(list(counts))
        offset, counts[record.partition] = counts[record.partition], counts[record.partition] + 1
        (event,) = decode(record.value, topics.EVENTS, record.partition, offset, record.time_ms)
        if isinstance(event, DeadLetter):
            raise DeadLetterError(f"{event.reason}: {event.detail}")
        source = Source(topics.EVENTS, record.partition, offset)
        for output in pipelines[record.partition].process(event, source, record.time_ms):
            for work in works[len(limits) :]:
                work.note(output)
    limits += [list(counts)] * (len(prefixes) - len(limits))
    return works, limits
