"""As much of Kafka's wire format as the proxy needs: request headers, Produce and OffsetCommit.

Follows the message definitions in Apache Kafka (`ProduceRequest.json` and its kin). "Flexible" versions write
lengths as unsigned varints, one too high, and end every structure with tagged fields.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from dataclasses import dataclass, field


class Api(enum.IntEnum):
    """The request kinds tests ask for by name; the proxy lets all others pass as well."""

    PRODUCE = 0
    FETCH = 1
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    API_VERSIONS = 18
    CREATE_TOPICS = 19


class ErrorCode(enum.IntEnum):
    """What a broker may answer to a produce request; does the client try again?"""

    NOT_LEADER_OR_FOLLOWER = 6  # again, after asking for the leader
    REQUEST_TIMED_OUT = 7  # again
    MESSAGE_TOO_LARGE = 10  # final
    NOT_ENOUGH_REPLICAS = 19  # again
    INVALID_REQUIRED_ACKS = 21  # final
    TOPIC_AUTHORIZATION_FAILED = 29  # final
    INVALID_RECORD = 87  # final


PRODUCE_VERSIONS = range(3, 13)
_PRODUCE_FLEXIBLE = 9
COMMIT_VERSIONS = range(2, 10)
_COMMIT_FLEXIBLE = 8

Partition = tuple[str, int]


class WireError(Exception):
    """Bytes, or a version, that this module does not know."""


class Reader:
    def __init__(self, data: bytes, flexible: bool) -> None:
        self.data = data
        self.position = 0
        self.flexible = flexible

    def raw(self, length: int) -> bytes:
        end = self.position + length
        if length < 0 or end > len(self.data):
            raise WireError(f"{length} bytes wanted at {self.position} of {len(self.data)}")
        taken = self.data[self.position : end]
        self.position = end
        return taken

    def int16(self) -> int:
        return int(struct.unpack(">h", self.raw(2))[0])

    def int32(self) -> int:
        return int(struct.unpack(">i", self.raw(4))[0])

    def int64(self) -> int:
        return int(struct.unpack(">q", self.raw(8))[0])

    def varint(self) -> int:
        value = shift = 0
        while True:
            (byte,) = self.raw(1)
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
            shift += 7

    def text(self) -> str | None:
        length = self.varint() - 1 if self.flexible else self.int16()
        return None if length < 0 else self.raw(length).decode()

    def blob(self) -> bytes | None:
        length = self.varint() - 1 if self.flexible else self.int32()
        return None if length < 0 else self.raw(length)

    def count(self) -> int:
        return max(0, self.varint() - 1 if self.flexible else self.int32())

    def tags(self) -> bytes:
        """The tagged fields as they are, to be written again."""
        if not self.flexible:
            return b""
        start = self.position
        for _ in range(self.varint()):
            self.varint()
            self.raw(self.varint())
        return self.data[start : self.position]

    def slice(self, walk: Callable[[], object]) -> bytes:
        """The bytes that `walk` reads over."""
        start = self.position
        walk()
        return self.data[start : self.position]


class Writer:
    def __init__(self, flexible: bool) -> None:
        self.parts: list[bytes] = []
        self.flexible = flexible

    def raw(self, data: bytes) -> None:
        self.parts.append(data)

    def int16(self, value: int) -> None:
        self.raw(struct.pack(">h", value))

    def int32(self, value: int) -> None:
        self.raw(struct.pack(">i", value))

    def int64(self, value: int) -> None:
        self.raw(struct.pack(">q", value))

    def varint(self, value: int) -> None:
        while value > 0x7F:
            self.raw(bytes([value & 0x7F | 0x80]))
            value >>= 7
        self.raw(bytes([value]))

    def text(self, value: str | None) -> None:
        data = None if value is None else value.encode()
        length = -1 if data is None else len(data)
        if self.flexible:
            self.varint(length + 1)
        else:
            self.int16(length)
        self.raw(data or b"")

    def blob(self, value: bytes | None) -> None:
        length = -1 if value is None else len(value)
        if self.flexible:
            self.varint(length + 1)
        else:
            self.int32(length)
        self.raw(value or b"")

    def count(self, value: int) -> None:
        if self.flexible:
            self.varint(value + 1)
        else:
            self.int32(value)

    def tags(self, raw: bytes = b"\0") -> None:
        if self.flexible:
            self.raw(raw)

    def frame(self) -> bytes:
        body = b"".join(self.parts)
        return struct.pack(">i", len(body)) + body


@dataclass(frozen=True, slots=True)
class Header:
    """Starts every request. What follows it is in `body`, flexible header tags included."""

    api: int
    version: int
    correlation_id: int
    client_id: str | None
    body: bytes


def read_header(frame: bytes) -> Header:
    # The client id is written the old way in all versions.
    reader = Reader(frame, flexible=False)
    reader.int32()
    api, version, correlation_id = reader.int16(), reader.int16(), reader.int32()
    return Header(api, version, correlation_id, reader.text(), frame[reader.position :])


def response_correlation_id(frame: bytes) -> int:
    return int(struct.unpack_from(">i", frame, 4)[0])


@dataclass(frozen=True, slots=True)
class ProduceRequest:
    header: Header
    header_tags: bytes
    transactional_id: str | None
    acks: int
    timeout_ms: int
    batches: dict[Partition, bytes | None]


def read_produce_request(header: Header) -> ProduceRequest:
    if header.version not in PRODUCE_VERSIONS:
        raise WireError(f"produce version {header.version}: only {PRODUCE_VERSIONS} are known here")
    reader = Reader(header.body, header.version >= _PRODUCE_FLEXIBLE)
    tags, transactional_id = reader.tags(), reader.text()
    acks, timeout_ms = reader.int16(), reader.int32()
    batches: dict[Partition, bytes | None] = {}
    for _ in range(reader.count()):
        topic = reader.text() or ""
        for _ in range(reader.count()):
            partition = reader.int32()
            batches[topic, partition] = reader.blob()
            reader.tags()
        reader.tags()
    reader.tags()
    return ProduceRequest(header, tags, transactional_id, acks, timeout_ms, batches)


def write_produce_request(request: ProduceRequest, kept: set[Partition]) -> bytes:
    """The same request with only the partitions in `kept`."""
    header, writer = request.header, Writer(flexible=False)
    writer.int16(header.api)
    writer.int16(header.version)
    writer.int32(header.correlation_id)
    writer.text(header.client_id)
    writer.flexible = header.version >= _PRODUCE_FLEXIBLE
    writer.tags(request.header_tags)
    writer.text(request.transactional_id)
    writer.int16(request.acks)
    writer.int32(request.timeout_ms)
    by_topic: dict[str, dict[int, bytes | None]] = {}
    for (topic, partition), batch in request.batches.items():
        if (topic, partition) in kept:
            by_topic.setdefault(topic, {})[partition] = batch
    writer.count(len(by_topic))
    for topic, batches in by_topic.items():
        writer.text(topic)
        writer.count(len(batches))
        for partition, batch in batches.items():
            writer.int32(partition)
            writer.blob(batch)
            writer.tags()
        writer.tags()
    writer.tags()
    return writer.frame()


@dataclass(slots=True)
class ProduceResponse:
    """Partitions as the bytes they are on the wire, so that nothing is lost on the way through."""

    correlation_id: int
    version: int
    header_tags: bytes = b"\0"
    partitions: dict[str, list[bytes]] = field(default_factory=dict)
    errors: list[int] = field(default_factory=list)
    throttle_ms: int = 0
    tags: bytes = b"\0"

    def refuse(self, at: Partition, error: int) -> None:
        topic, partition = at
        writer = Writer(self.version >= _PRODUCE_FLEXIBLE)
        writer.int32(partition)
        writer.int16(error)
        writer.int64(-1)  # base offset
        writer.int64(-1)  # log append time
        if self.version >= 5:
            writer.int64(-1)  # log start offset
        if self.version >= 8:
            writer.count(0)  # record errors
            writer.text("refused by the fault proxy")
        writer.tags()
        self.partitions.setdefault(topic, []).append(b"".join(writer.parts))
        self.errors.append(error)


def read_produce_response(frame: bytes, version: int) -> ProduceResponse:
    reader = Reader(frame, version >= _PRODUCE_FLEXIBLE)
    reader.int32()
    response = ProduceResponse(reader.int32(), version, reader.tags())

    def one_partition() -> None:
        reader.int32()
        response.errors.append(reader.int16())
        reader.raw(16 if version < 5 else 24)
        if version >= 8:
            for _ in range(reader.count()):
                reader.int32()
                reader.text()
                reader.tags()
            reader.text()
        reader.tags()

    for _ in range(reader.count()):
        topic = reader.text() or ""
        response.partitions[topic] = [reader.slice(one_partition) for _ in range(reader.count())]
        reader.tags()
    response.throttle_ms = reader.int32()
    response.tags = reader.tags()
    return response


def write_produce_response(response: ProduceResponse) -> bytes:
    writer = Writer(response.version >= _PRODUCE_FLEXIBLE)
    writer.int32(response.correlation_id)
    writer.tags(response.header_tags)
    writer.count(len(response.partitions))
    for topic, partitions in response.partitions.items():
        writer.text(topic)
        writer.count(len(partitions))
        for partition in partitions:
            writer.raw(partition)
        writer.tags()
    writer.int32(response.throttle_ms)
    writer.tags(response.tags)
    return writer.frame()


def read_commit_request(header: Header) -> tuple[str, dict[Partition, int]]:
    """The group, and the offset it wants committed for each partition."""
    if header.version not in COMMIT_VERSIONS:
        raise WireError(f"offset commit version {header.version}: only {COMMIT_VERSIONS} are known here")
    version = header.version
    reader = Reader(header.body, version >= _COMMIT_FLEXIBLE)
    reader.tags()
    group = reader.text() or ""
    reader.int32()  # generation
    reader.text()  # member
    if version >= 7:
        reader.text()  # group instance
    if version <= 4:
        reader.int64()  # retention time
    offsets: dict[Partition, int] = {}
    for _ in range(reader.count()):
        topic = reader.text() or ""
        for _ in range(reader.count()):
            partition = reader.int32()
            offsets[topic, partition] = reader.int64()
            if version >= 6:
                reader.int32()  # leader epoch
            reader.text()  # metadata
            reader.tags()
        reader.tags()
    return group, offsets


def read_commit_errors(frame: bytes, version: int) -> list[int]:
    """The error code of each partition in an OffsetCommit response; 0 is success."""
    reader = Reader(frame, version >= _COMMIT_FLEXIBLE)
    reader.raw(8)  # length, correlation id
    reader.tags()
    if version >= 3:
        reader.int32()  # throttle time
    errors = []
    for _ in range(reader.count()):
        reader.text()
        for _ in range(reader.count()):
            reader.int32()
            errors.append(reader.int16())
            reader.tags()
        reader.tags()
    return errors
