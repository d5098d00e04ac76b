"""The same detectors in a Quix Streams 3 application, as its documentation would have one write it.

A StreamingDataFrame with a stateful `apply`: the session's state is read from the store and set again with
every event, as bytes, which is the cheapest form the store takes. As in the stock Faust agent, windows are in
the process's memory only: grouping by agent would send every event through Kafka once more.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from quixstreams import Application, State, message_context

from bench.keyed import KeyedPipeline
from bench.sides.job import Job, Meter
from detectors.base import Source
from detectors.records import SESSION_PREFIX
from schemas.dead_letter import DeadLetter
from schemas.detection import DETECTION, Detection
from streams.decode import decode

DETECTIONS, WINDOWS = "detections", "windows"

Found = tuple[str, bytes]
"""Which topic an output is for, and its value."""


def detect(job: Job, meter: Meter, app: Application) -> Any:
    """The callback of the stateful `apply`."""
    pipelines: dict[int, KeyedPipeline] = {}

    def callback(
        value: bytes, _key: bytes, timestamp: int, _headers: Any, state: State[str, bytes]
    ) -> list[Found]:
        context = message_context()
        partition, offset = context.partition, context.offset
        if offset >= job.limits[partition]:
            meter.add(0, 1)
            return []
        meter.begin()
        detectors = pipelines.get(partition)
        if detectors is None:
            detectors = pipelines[partition] = KeyedPipeline(partition)
        found: list[Found] = []
        for item in decode(value, context.topic, partition, offset, timestamp):
            if isinstance(item, DeadLetter):
                raise AssertionError(item.detail)
            key = SESSION_PREFIX + f"{item.tenant}/{item.session}".encode()
            detectors.put(key, state.get_bytes("session"))
            found += [
                _found(o)
                for o in detectors.process(item, Source(context.topic, partition, offset), timestamp)
            ]
            state.set_bytes("session", detectors.value(key) or b"")
        meter.add(1)
        if meter.done:
            app.stop()
        return found

    return callback


def _found(output: Any) -> Found:
    if isinstance(output, Detection):
        return DETECTIONS, DETECTION.dump_json(output)
    return WINDOWS, output.encode()


def _is(kind: str, found: Found) -> bool:
    return found[0] == kind


def _value(found: Found) -> bytes:
    return found[1]


def run(job: Job) -> None:
    """Runs until every record is processed; the last checkpoint is written on the way out."""
    meter = Meter(job.total)
    app = Application(
        broker_address=job.bootstrap,
        consumer_group=job.group,
        auto_offset_reset="earliest",
        state_dir=job.work_dir,
        commit_interval=2.0,
        loglevel="WARNING",
        auto_create_topics=True,
        consumer_extra_config={"session.timeout.ms": 6_000, "heartbeat.interval.ms": 1_000},
        producer_extra_config={"linger.ms": 5},
    )
    source = app.topic(job.events_topic, value_deserializer="bytes", key_deserializer="bytes")
    frame = app.dataframe(source).apply(detect(job, meter, app), stateful=True, expand=True, metadata=True)
    for kind, name in ((DETECTIONS, job.detections_topic), (WINDOWS, job.windows_topic)):
        target = app.topic(name, value_serializer="bytes", key_serializer="bytes")
        frame[frame.apply(partial(_is, kind))].apply(_value).to_topic(target)
    app.run()
    meter.report()


if __name__ == "__main__":
    run(Job.from_command_line())
