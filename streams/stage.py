"""What a stage is: pure code between source topics and outputs, which `streams.worker` runs on Kafka.

A stage does no I/O. It is given batches of raw records and the broker's clock; it returns outputs and, when
asked, the state that changed. The worker delivers, checkpoints, commits and restores, in the order that
`streams.checkpoint` states.

A processor must hold to two rules, because a crash can fall between any two steps of a checkpoint:

1. Every state value it gives away says which offset per source it has applied last to that key, and `process`
   skips a record for a key that has seen it: after a crash a key may be ahead of the marker.
2. What it emits is a function of the records: a replay emits the same outputs again, with the same ids.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import orjson


class Record(Protocol):
    """One raw record as the broker gave it. `timestamp` is in milliseconds."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class PlainRecord(NamedTuple):
    """A record made by hand: for backtests and tests, which have no broker."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Records of one partition in offset order, never empty. Offsets may have gaps: compaction, retention."""

    topic: str
    partition: int
    records: Sequence[Record]

    @property
    def first_offset(self) -> int:
        return self.records[0].offset

    @property
    def last_offset(self) -> int:
        return self.records[-1].offset

    def __len__(self) -> int:
        return len(self.records)


class Output(NamedTuple):
    """A record to produce. Without a partition the key decides, as in every other Kafka client."""

    topic: str
    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None = None
    partition: int | None = None


class Marker(NamedTuple):
    """How far a partition has come: last offset applied per source topic, and the event-time watermark."""

    offsets: dict[str, int]
    watermark_ms: int

    def encode(self) -> bytes:
        return orjson.dumps({"offsets": self.offsets, "watermark_ms": self.watermark_ms})

    @classmethod
    def decode(cls, value: bytes) -> "Marker":
        fields = orjson.loads(value)
        return cls(offsets=dict(fields["offsets"]), watermark_ms=int(fields["watermark_ms"]))


class Processor(Protocol):
    """One per stage and source partition. All methods are synchronous; one is called at a time."""

    def restore(self, key: bytes, value: bytes | None) -> None:
        """Take a state value back from the changelog, before any batch. None deletes the key."""

    def restore_marker(self, value: bytes) -> None:
        """Take the newest marker back, after the last `restore` and before any batch."""

    def process(self, batch: RecordBatch) -> Iterable[Output]:
        """Apply the batch and return what it caused. Drained at once, before anything else is called."""

    def tick(self, broker_now_ms: int) -> Iterable[Output]:
        """About once a second while the partition has no record left to read: timers may follow the clock."""

    def dirty(self) -> Iterable[tuple[bytes, bytes | None]]:
        """The state that changed since the last call, as it is now; None deletes. Without the marker."""

    def value(self, key: bytes) -> bytes | None:
        """The state of one key as it is now, or None. Repairs the changelog where a zombie wrote."""

    def marker(self) -> bytes:
        """How far this partition has come, in bytes that `Marker` can read. Written last at a checkpoint."""


def no_broadcast(record: Record) -> None:
    """A stage without broadcast topics is sent none."""
    raise AssertionError(f"stage without broadcast topics got {record.topic}")


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage as the worker runs it. All its source topics have the same number of partitions: a processor is
    made per partition number and gets that partition of each of them. `outputs` are the topics it writes to.

    Broadcast topics are compacted topics that every worker reads in full, through `on_broadcast`: what is
    there before the first batch, what is added later as it comes. They carry knowledge, not state: it is not
    in the changelog.
    """

    name: str
    sources: tuple[str, ...]
    make: Callable[[int], Processor]
    outputs: tuple[str, ...] = ()
    stateful: bool = True
    broadcast: tuple[str, ...] = ()
    on_broadcast: Callable[[Record], None] = no_broadcast
