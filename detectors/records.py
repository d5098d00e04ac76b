"""The state a pipeline keeps under a key: what it holds, and how it becomes bytes and comes back.

Every record says which offset per source topic it has applied last (a pipeline has one partition number).
`restored` is that of before a crash: what stands at or below it has been applied already. A detector's state
is stored under ``name/version``: one that is new starts empty, one whose version has gone is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from detectors.base import SessionFacts, Standing
from detectors.bounded import put
from detectors.learning import Learned
from detectors.summary import Fact, Lesson, SessionSummary
from detectors.windows import Window

SESSION_PREFIX = b"s/"
AGENT_PREFIX = b"w/"

MAX_SOURCES = 1_024
"""As many as `agent.events` may have partitions."""

Place = tuple[int, int, int]
"""Offset, index of the event in its record, and which of what it caused."""

SlotTypes = Mapping[str, type[msgspec.Struct]]


class StoredSession(msgspec.Struct, array_like=True):
    """`SessionRecord` as bytes hold it."""

    facts: SessionFacts
    applied: dict[str, int]
    seen: bytes
    dropped: list[tuple[int, int]]
    slots: dict[str, msgspec.Raw]
    lesson: Lesson | None = None


class SessionRecord(msgspec.Struct, dict=False):
    """One session. `seen` is the hashes of its recent event ids, `dropped` the places of duplicates among the
    records that are not yet behind a durable marker: (offset, index in the record). `lesson` is what there is
    to learn from the session, should it end well."""

    facts: SessionFacts
    applied: dict[str, int] = {}
    seen: bytearray = msgspec.field(default_factory=bytearray)
    dropped: list[tuple[int, int]] = []
    slots: dict[str, Any] = {}
    lesson: Lesson | None = None
    restored: dict[str, int] | None = None
    dirty: bool = False
    due_ms: float = math.inf
    husk: bool = False

    @property
    def key(self) -> bytes:
        return SESSION_PREFIX + f"{self.facts.tenant}/{self.facts.session}".encode()

    def encode(self) -> bytes:
        return _ENCODER.encode(
            (self.facts, self.applied, bytes(self.seen), self.dropped, self.slots, self.lesson)
        )

    @classmethod
    def decode(cls, value: bytes, types: SlotTypes) -> SessionRecord:
        stored = _SESSION_DECODER.decode(value)
        return cls(
            facts=stored.facts,
            applied=stored.applied,
            seen=bytearray(stored.seen),
            dropped=stored.dropped,
            slots=_decode_slots(stored.slots, types),
            lesson=stored.lesson,
            restored=dict(stored.applied),
            husk=stored.facts.events == 0,
        )


class StoredWindows(msgspec.Struct, array_like=True):
    """`OpenWindows` as bytes hold it."""

    tenant: str
    agent: str
    applied: dict[str, int]
    floor_ms: int
    windows: list[Window]


class OpenWindows(msgspec.Struct):
    """The windows of one agent that are still open. None that starts before `floor_ms` is opened any more."""

    tenant: str
    agent: str
    applied: dict[str, int] = {}
    floor_ms: int = 0
    windows: dict[int, Window] = {}
    restored: dict[str, int] | None = None
    dirty: bool = False

    @property
    def key(self) -> bytes:
        return AGENT_PREFIX + f"{self.tenant}/{self.agent}".encode()

    def encode(self) -> bytes:
        windows = list(self.windows.values())
        return _ENCODER.encode((self.tenant, self.agent, self.applied, self.floor_ms, windows))

    @classmethod
    def decode(cls, value: bytes) -> OpenWindows:
        stored = _WINDOWS_DECODER.decode(value)
        return cls(
            tenant=stored.tenant,
            agent=stored.agent,
            applied=stored.applied,
            floor_ms=stored.floor_ms,
            windows={window.start_ms: window for window in stored.windows},
            restored=dict(stored.applied),
        )


class Frame(msgspec.Struct, array_like=True):
    """Closed windows joined, not yet shown, and the offsets they were read at."""

    window: Window
    from_offset: int
    to_offset: int


class StoredAgent(msgspec.Struct, array_like=True):
    """`AgentRecord` as bytes hold it."""

    tenant: str
    agent: str
    applied: dict[str, int]
    floor_ms: int
    pending: list[tuple[Window, int]]
    slots: dict[str, msgspec.Raw]
    learned: Learned | None = None
    heard: dict[str, Place] = {}
    frame: Frame | None = None
    sessions: list[SessionSummary] = []
    standings: dict[str, Standing] = {}


class AgentRecord(msgspec.Struct):
    """One agent; without a name, all agents of the tenant together.

    `pending` is the windows that wait for their end to pass everywhere, by start and source partition, each
    with the offset it was read at. Windows that start before `floor_ms` have been closed. `heard` is the
    place of the last event, by source partition, that a summary or fact was of. `standings` is what each
    detector said last of the agent.
    """

    tenant: str
    agent: str
    applied: dict[str, int] = {}
    floor_ms: int = 0
    pending: dict[int, dict[int, tuple[Window, int]]] = {}
    slots: dict[str, Any] = {}
    learned: Learned | None = None
    heard: dict[str, Place] = {}
    frame: Frame | None = None
    sessions: list[SessionSummary] = []
    standings: dict[str, Standing] = {}
    restored: dict[str, int] | None = None
    dirty: bool = False
    due_ms: float = math.inf

    @property
    def name(self) -> str:
        return f"{self.tenant}/{self.agent}"

    @property
    def key(self) -> bytes:
        return self.name.encode()

    def encode(self) -> bytes:
        pending = [entry for by_partition in self.pending.values() for entry in by_partition.values()]
        return _ENCODER.encode(
            (
                self.tenant,
                self.agent,
                self.applied,
                self.floor_ms,
                pending,
                self.slots,
                self.learned,
                self.heard,
                self.frame,
                self.sessions,
                self.standings,
            )
        )

    def first_time(self, item: SessionSummary | Fact) -> bool:
        """Whether it is not of an event from before the last one heard of, in its source partition."""
        source = f"{item.source_topic}/{item.source_partition}"
        place = (item.source_offset, item.source_index, item.source_ordinal)
        last = self.heard.get(source)
        if last is not None and place <= last:
            return False
        put(self.heard, source, place, MAX_SOURCES)
        return True

    @classmethod
    def decode(cls, value: bytes, types: SlotTypes) -> AgentRecord:
        stored = _AGENT_DECODER.decode(value)
        pending: dict[int, dict[int, tuple[Window, int]]] = {}
        for window, offset in stored.pending:
            pending.setdefault(window.start_ms, {})[window.source_partition] = (window, offset)
        return cls(
            tenant=stored.tenant,
            agent=stored.agent,
            applied=stored.applied,
            floor_ms=stored.floor_ms,
            pending=pending,
            slots=_decode_slots(stored.slots, types),
            learned=stored.learned,
            heard=stored.heard,
            frame=stored.frame,
            sessions=stored.sessions,
            standings=stored.standings,
            restored=dict(stored.applied),
        )


class Progress(msgspec.Struct):
    """How far a pipeline has come: the last offset per source, its watermark, and the marks it has heard."""

    offsets: dict[str, int] = {}
    watermark_ms: int = 0
    marks: dict[int, int] = {}

    def encode(self) -> bytes:
        """JSON; `offsets` and `watermark_ms` as `streams.stage.Marker` has them."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, value: bytes) -> Progress:
        progress: Progress = _PROGRESS_DECODER.decode(value)
        return progress

    def covers(self, applied: Mapping[str, int]) -> bool:
        """Whether a replay from here would start after everything in `applied`."""
        return all(offset <= self.offsets.get(source, -1) for source, offset in applied.items())


def _decode_slots(raw: Mapping[str, msgspec.Raw], types: SlotTypes) -> dict[str, Any]:
    return {name: msgspec.msgpack.decode(raw[name], type=types[name]) for name in raw if name in types}


_ENCODER = msgspec.msgpack.Encoder()
_SESSION_DECODER = msgspec.msgpack.Decoder(StoredSession)
_WINDOWS_DECODER = msgspec.msgpack.Decoder(StoredWindows)
_AGENT_DECODER = msgspec.msgpack.Decoder(StoredAgent)
_PROGRESS_DECODER = msgspec.json.Decoder(Progress)
