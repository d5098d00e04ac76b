"""Recorded events through the same detectors, as fast as they go, with no side effect."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from cli.errors import UserError
from config.kafka import client_options
from config.objectives import Objective
from config.settings import Settings
from detectors.base import Source
from detectors.offline import Engine
from schemas.dead_letter import DeadLetter
from schemas.detection import Detection
from streams.decode import decode

# aiokafka has no types.
_Consumer: Any = AIOKafkaConsumer

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass
class Totals:
    """What went through."""

    events: int = 0
    refused: int = 0
    detections: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Line:
    """A recorded message and where it stands."""

    value: bytes
    source: Source
    read_bytes: int


def backtest(
    lines: Iterator[Line],
    totals: Totals,
    *,
    window_ms: int,
    lateness_ms: int,
    objectives: Sequence[Objective] = (),
) -> Iterator[Detection]:
    """Detections of the recorded messages, in the order they are made; `totals` is counted up meanwhile."""
    engine = Engine(window_ms=window_ms, lateness_ms=lateness_ms, objectives=objectives)
    for line in lines:
        topic, partition, offset = line.source
        for item in decode(line.value, topic, partition, offset, None):
            if isinstance(item, DeadLetter):
                totals.refused += 1
                totals.reasons[item.detail] = totals.reasons.get(item.detail, 0) + 1
                continue
            totals.events += 1
            for detection in engine.process(item, line.source):
                totals.detections += 1
                yield detection
    for detection in engine.finish():
        totals.detections += 1
        yield detection


def from_file(path: Path) -> Iterator[Line]:
    """The lines of a JSON-lines file, gzip allowed; empty lines are passed over.

    Raises:
        UserError: the file cannot be read, or is cut off.
    """
    try:
        with path.open("rb") as raw:
            compressed = raw.peek(2)[:2] == _GZIP_MAGIC
            lines = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if compressed else raw
            for number, value in enumerate(lines):
                if value.strip():
                    yield Line(value, Source(path.name, 0, number), raw.tell())
    except (OSError, EOFError) as error:
        raise UserError(f"cannot read {path}: {error}; give a JSON-lines file of agent events") from None


async def from_topic(settings: Settings, topic: str) -> list[Line]:
    """Everything a topic holds now, in the order the broker's clock gives: partitions are merged by it.

    Raises:
        UserError: no broker, or no such topic.
    """
    # Without a group it has all partitions, from their beginning.
    options = client_options(settings.kafka)
    consumer = _Consumer(
        topic, **options, group_id=None, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    found: list[tuple[int, Line]] = []
    try:
        await consumer.start()
        parts = consumer.assignment()
        ends = await consumer.end_offsets(parts)
        while any([await consumer.position(part) < ends[part] for part in parts]):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                for record in batch:
                    source = Source(topic, record.partition, record.offset)
                    found.append((record.timestamp, Line(record.value or b"", source, 0)))
    except UnknownTopicOrPartitionError:
        raise UserError(
            f"no topic {topic} at {settings.kafka.bootstrap}: see watchkeeper topics list"
        ) from None
    except KafkaError as error:
        raise UserError(f"cannot read {topic} at {settings.kafka.bootstrap}: {error}") from None
    finally:
        await consumer.stop()
    return [line for _, line in sorted(found, key=lambda entry: (entry[0], entry[1].source))]
