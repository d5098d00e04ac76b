"""The yardstick: an aiokafka consumer, without even a group, that parses JSON and does nothing with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer

from bench.sides.job import Job, Meter

PARSERS: dict[str, Callable[[bytes], Any]] = {"bare": orjson.loads, "bare_stdlib_json": json.loads}


async def run(job: Job) -> None:
    """Reads the topic once."""
    parse = PARSERS[job.side]
    consumer = AIOKafkaConsumer(
        job.events_topic,
        bootstrap_servers=job.bootstrap,
        group_id=None,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=1 << 20,
    )
    meter = Meter(job.total)
    await consumer.start()
    try:
        while not meter.done:
            fetched = await consumer.getmany(timeout_ms=500)
            for records in fetched.values():
                meter.begin()
                for record in records:
                    parse(record.value or b"")
                meter.add(len(records))
    finally:
        await consumer.stop()
    meter.report()


if __name__ == "__main__":
    asyncio.run(run(Job.from_command_line()))
