"""agent.events → agent.detections, agent.windows, agent.events.dead: what must hold inside a session.

Decoding and the pure pipeline (`detectors.pipeline`) do the work; this is the way in and out. Every worker
holds all of `agent.profiles`, what is normal for each agent, and of `agent.control`, who is to stand still.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from detectors.base import Halts, Source
from detectors.pipeline import SessionPipeline, SessionPipelineOutput
from detectors.profile import Profiles
from detectors.summary import Fact, SessionSummary
from detectors.windows import Mark, Window
from schemas import topics
from schemas.dead_letter import DEAD_LETTER, DeadLetter
from schemas.detection import DETECTION, Detection
from streams import control_state
from streams.control_state import ControlState
from streams.decode import decode
from streams.stage import Output, Record, RecordBatch, Stage
from watchkeeper_client.control import TrustedKeys

NAME = "sessions"


def stage(
    *,
    window_partitions: int,
    window_ms: int,
    lateness_ms: int,
    follow_broker_clock: bool = True,
    trusted_keys: TrustedKeys | None = None,
) -> Stage:
    """The stage.

    Args:
        window_partitions: partitions of `agent.windows`, each of which must hear every mark.
        window_ms, lateness_ms: length of a window, and how long it waits for stragglers.
        follow_broker_clock: whether time goes on while there is nothing to read; else only events move it.
        trusted_keys: whose commands halt an agent; by default nobody's.
    """
    profiles, halts = Profiles(), Halts()
    control = ControlState(TrustedKeys({}) if trusted_keys is None else trusted_keys, halts)

    def learn(record: Record) -> None:
        if record.topic in control_state.TOPICS:
            control.take(record)
        elif record.key is not None:
            profiles.take(record.key.decode(errors="replace"), record.value)

    return Stage(
        name=NAME,
        sources=(topics.EVENTS,),
        make=lambda partition: SessionProcessor(
            SessionPipeline(
                partition, profiles=profiles, halts=halts, window_ms=window_ms, lateness_ms=lateness_ms
            ),
            window_partitions,
            follow_broker_clock=follow_broker_clock,
        ),
        outputs=(topics.DETECTIONS, topics.WINDOWS, topics.DEAD),
        broadcast=(topics.PROFILES, *control_state.TOPICS),
        on_broadcast=learn,
    )


class SessionProcessor:
    """One partition of `agent.events`; see `streams.stage.Processor`."""

    def __init__(
        self, pipeline: SessionPipeline, window_partitions: int, *, follow_broker_clock: bool = True
    ) -> None:
        self._pipeline = pipeline
        self._follow_broker_clock = follow_broker_clock
        self._window_partitions = range(window_partitions)
        self.restore = pipeline.restore
        self.restore_marker = pipeline.restore_marker
        self.dirty = pipeline.dirty
        self.value = pipeline.value
        self.marker = pipeline.marker

    def process(self, batch: RecordBatch) -> Iterator[Output]:
        topic, partition = batch.topic, batch.partition
        take = self._pipeline.process
        for record in batch.records:
            source = Source(topic, partition, record.offset)
            broker_ms = record.timestamp
            for item in decode(record.value, topic, partition, record.offset, broker_ms):
                if isinstance(item, DeadLetter):
                    yield Output(topics.DEAD, record.key, DEAD_LETTER.dump_json(item))
                else:
                    caused = take(item, source, broker_ms)
                    if caused:
                        yield from self._outputs(caused)

    def tick(self, broker_now_ms: int) -> Iterable[Output]:
        return self._outputs(self._pipeline.advance(broker_now_ms)) if self._follow_broker_clock else ()

    def _outputs(self, caused: Iterable[SessionPipelineOutput]) -> Iterator[Output]:
        for value in caused:
            if isinstance(value, Mark):
                encoded, key = value.encode(), f"mark/{value.source_partition}".encode()
                for partition in self._window_partitions:
                    yield Output(topics.WINDOWS, key, encoded, partition=partition)
            elif isinstance(value, Window | SessionSummary | Fact):
                yield Output(topics.WINDOWS, value.key.encode(), value.encode())
            else:
                yield detection_output(value)


def detection_output(detection: Detection) -> Output:
    """A detection on its way to `agent.detections`."""
    key = topics.agent_key(detection.tenant, detection.agent)
    return Output(topics.DETECTIONS, key, DETECTION.dump_json(detection))
