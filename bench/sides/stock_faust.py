"""The same detectors in a stock Faust 0.15.3 agent, as its documentation would have one write it.

One event a record goes to the agent; the session's state is set in a Table after every event, which writes it
to the table's changelog. Windows are made easier for it than a correct application could have them: they are
in the process's memory only. State is read as an object, as Faust's memory tables give it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import faust

from bench.keyed import KeyedPipeline
from bench.sides.job import Job, Meter
from detectors.base import Source
from detectors.records import SESSION_PREFIX
from detectors.windows import Window
from schemas.dead_letter import DeadLetter
from schemas.detection import DETECTION, Detection
from streams.decode import decode


def build(job: Job, meter: Meter, done: asyncio.Event) -> faust.App:
    """The application; sets `done` when the last record is processed."""
    partitions = len(job.limits)
    app = faust.App(
        job.group,
        broker=f"kafka://{job.bootstrap}",
        store="memory://",
        key_serializer="raw",
        value_serializer="raw",
        datadir=job.work_dir,
        web_enabled=False,
        topic_partitions=partitions,
        topic_replication_factor=1,
        topic_disable_leader=True,
        stream_buffer_maxsize=16_384,
        stream_wait_empty=False,
        broker_max_poll_records=5_000,
        broker_session_timeout=6.0,
        broker_heartbeat_interval=1.0,
        broker_rebalance_timeout=3.0,
        producer_linger_ms=5,
        producer_acks=1,
    )
    source = app.topic(job.events_topic, key_type=bytes, value_type=bytes)
    detections = app.topic(job.detections_topic)
    windows = app.topic(job.windows_topic)
    table: Any = app.Table("sessions", partitions=partitions, key_type=bytes, value_type=bytes)
    pipelines: dict[int, KeyedPipeline] = {}

    async def send(output: Any) -> None:
        if isinstance(output, Detection):
            await detections.send(key=output.agent.encode(), value=DETECTION.dump_json(output))
        else:
            key = output.key.encode() if isinstance(output, Window) else b"mark"
            await windows.send(key=key, value=output.encode())

    @app.agent(source)
    async def detect(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            partition, offset = message.partition, message.offset
            if offset >= job.limits[partition]:
                meter.add(0, 1)
                continue
            meter.begin()
            detectors = pipelines.get(partition)
            if detectors is None:
                detectors = pipelines[partition] = KeyedPipeline(partition)
            broker_ms = round(message.timestamp * 1000)
            place = Source(message.topic, partition, offset)
            for item in decode(event.value, message.topic, partition, offset, broker_ms):
                if isinstance(item, DeadLetter):
                    raise AssertionError(item.detail)
                for output in detectors.process(item, place, broker_ms):
                    await send(output)
                key = SESSION_PREFIX + f"{item.tenant}/{item.session}".encode()
                table[key] = detectors.value(key)
            meter.add(1)
            if meter.done:
                done.set()

    return app


async def run(job: Job) -> None:
    """Runs until every record is processed."""
    meter, done = Meter(job.total), asyncio.Event()
    app = build(job, meter, done)
    await app.start()
    while not done.is_set() and not app.crashed:  # noqa: ASYNC110 - a crash sets no event
        await asyncio.sleep(0.05)
    if app.crashed:
        raise RuntimeError(f"Faust gave up: {app.crash_reason!r}")
    await app.producer.flush()
    await app.stop()
    meter.report()


if __name__ == "__main__":
    asyncio.run(run(Job.from_command_line()))
