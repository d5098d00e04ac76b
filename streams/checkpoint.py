"""One partition of a stage: batches → outputs at once; dirty keys → changelog at a checkpoint; then commit.

The order of a checkpoint, which makes a crash between any two steps safe:

0. In one turn, with no batch half applied: note the outputs sent so far, take the dirty keys and the marker.
1. Await the delivery of those outputs.
2. Write the dirty keys to the changelog, await their delivery.
3. Write the partition's marker to the same changelog partition, await its delivery.
4. Only now let the source offsets be committed.

A crash after 2 leaves keys ahead of the marker. Their outputs are out (1), and a key's value says what it has
seen, so the replay neither loses nor repeats anything in them. The next batches are applied meanwhile.

**Zombies.** A worker that was frozen may wake and write long after another took its partition over. Whoever
takes a partition over therefore first writes a *claim* to the changelog; the claim's offset is its epoch, and
every record it writes carries the epoch. Reading the changelog up to its own claim, the newcomer knows that
nothing is missing; a record whose epoch is below the newest claim before it came too late and does not count.
What a zombie overwrote is written again: on restore, or at a checkpoint of the owner, who sees a gap in the
offsets of its own writes. A zombie that sees a newer claim in such a gap stops writing.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from streams.stage import Marker, Output, Processor, Record, RecordBatch

__all__ = [
    "Changelog",
    "Entry",
    "FencedError",
    "Outlet",
    "PartitionWork",
    "Restored",
    "StageMetrics",
    "StateLog",
    "Stored",
    "live_state",
]

# Keys of the protocol's own records. State keys must not begin with a zero byte.
RESERVED = b"\x00"
CLAIM_KEY = b"\x00claim"
MARKER_KEY = b"\x00marker"
CLAIM_EPOCH = -1
"""What a claim carries instead of an epoch, which it will only have once it is written."""

# Even an idle partition writes its marker now and then: only a writer notices that a zombie wrote.
_MARKER_AT_LEAST_EVERY_S = 60.0

# What the first records of a batch caused does not wait for the last: about ten milliseconds of work each.
_APPLY_SLICE = 400

# A long restore must let the event loop send heartbeats and answer health checks.
_RESTORE_SLICE = 2_000


class FencedError(Exception):
    """Another worker has claimed this partition: nothing more may be written for it."""


class Entry(NamedTuple):
    """A record for the changelog."""

    key: bytes
    value: bytes | None
    epoch: int


class Stored(NamedTuple):
    """A record from the changelog."""

    offset: int
    key: bytes
    value: bytes | None
    epoch: int


class Changelog(Protocol):
    """One partition of a changelog topic."""

    async def append(self, entries: Sequence[Entry]) -> Sequence[range]:
        """Write in order and return, once all are delivered, the offsets they got. Raises when one is not."""

    def read(self, start: int, stop: int) -> AsyncGenerator[Sequence[Stored], None]:
        """The records from `start` to before `stop`, which must have been written."""


class Outlet(Protocol):
    """Where outputs go."""

    async def send(self, output: Output) -> Awaitable[object]:
        """Hand the output over. What is returned resolves once it is delivered, or raises."""


class Restored(NamedTuple):
    state: dict[bytes, bytes]
    marker: bytes | None


class StateLog:
    """A changelog partition as its one rightful writer sees it."""

    def __init__(self, changelog: Changelog, owner: str) -> None:
        self._changelog = changelog
        self._owner = owner.encode()
        self._epoch = CLAIM_EPOCH
        self._next_offset = 0
        self.overwritten: set[bytes] = set()
        """Keys, and perhaps the marker's, that a zombie wrote over since: to be written again."""

    async def restore(self) -> Restored:
        """Claim the partition and read what it holds."""
        (claimed,) = await self._changelog.append([Entry(CLAIM_KEY, self._owner, CLAIM_EPOCH)])
        self._epoch = claimed.start
        self._next_offset = claimed.stop
        state, fenced = await live_state(self._changelog, claimed.start)
        if fenced:
            await self.write((key, state.get(key)) for key in fenced)
        marker = state.pop(MARKER_KEY, None)
        return Restored(state, marker)

    async def write(self, changes: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Write and await delivery. Raises FencedError if another has claimed the partition."""
        entries = [Entry(key, value, self._epoch) for key, value in changes]
        if not entries:
            return
        for written in await self._changelog.append(entries):
            if written.start > self._next_offset:
                await self._look_at_foreign(self._next_offset, written.start)
            self._next_offset = max(self._next_offset, written.stop)

    async def _look_at_foreign(self, start: int, stop: int) -> None:
        async with aclosing(self._changelog.read(start, stop)) as slices:
            async for records in slices:
                for record in records:
                    if record.key == CLAIM_KEY:
                        raise FencedError(f"claimed by {(record.value or b'').decode(errors='replace')}")
                    if record.epoch != self._epoch:
                        self.overwritten.add(record.key)


async def live_state(changelog: Changelog, stop: int) -> tuple[dict[bytes, bytes], set[bytes]]:
    """What the changelog says before offset `stop`: the value of each live key (the marker's among them), and
    the keys whose newest record came from a zombie and must be written again.
    """
    state: dict[bytes, bytes] = {}
    fenced: set[bytes] = set()
    newest_claim = CLAIM_EPOCH
    # Closed even when a revocation cancels the restore: the reader holds a connection.
    async with aclosing(changelog.read(0, stop)) as slices:
        async for records in slices:
            for record in records:
                if record.key == CLAIM_KEY:
                    newest_claim = record.offset
                elif record.epoch < newest_claim:
                    fenced.add(record.key)
                else:
                    fenced.discard(record.key)
                    if record.value is None:
                        state.pop(record.key, None)
                    else:
                        state[record.key] = record.value
            await asyncio.sleep(0)
    return state, fenced


@dataclass(slots=True)
class StageMetrics:
    """Counters of one stage in this worker; they only grow."""

    events: int = 0
    outputs: int = 0
    checkpoints: int = 0
    state_writes: int = 0
    ticks: int = 0
    fenced: int = 0
    restored_keys: int = 0


@dataclass(slots=True)
class _Pending:
    """What was done since the last checkpoint began."""

    deliveries: list[Awaitable[object]] = field(default_factory=list)
    acknowledge: list[Callable[[], object]] = field(default_factory=list)
    events: int = 0
    since: float | None = None

    @property
    def empty(self) -> bool:
        return self.since is None


class PartitionWork:
    """Applies batches to one processor and checkpoints it. `state` is None for a stage without state.

    A failure is final: whatever raised, the work is broken, applies and writes nothing more, and raises it
    again for the worker to end the process.
    """

    def __init__(
        self,
        processor: Processor,
        outlet: Outlet,
        state: StateLog | None,
        metrics: StageMetrics,
        *,
        commit: Callable[[], Awaitable[None]],
    ) -> None:
        self.processor = processor
        self._outlet = outlet
        self._state = state
        self._metrics = metrics
        self._commit = commit
        self._turn = asyncio.Lock()
        self._checkpointing = asyncio.Lock()
        self._pending = _Pending()
        self._next_offsets: dict[str, int] = {}
        self._covered: Mapping[str, int] = {}
        self._marker = b""
        self._marker_written = time.monotonic()
        self.closed = False

    async def restore(self) -> None:
        """Bring the processor to where the changelog ends."""
        if self._state is None:
            return
        restored = await self._state.restore()
        for count, (key, value) in enumerate(restored.state.items()):
            self.processor.restore(key, value)
            if count % _RESTORE_SLICE == 0:
                await asyncio.sleep(0)
        if restored.marker is not None:
            self.processor.restore_marker(restored.marker)
            self._covered = Marker.decode(restored.marker).offsets
        self._metrics.restored_keys += len(restored.state)

    def covered(self, topic: str) -> int:
        """The last offset of the source that was applied when this was restored; -1 for none."""
        return self._covered.get(topic, -1)

    async def apply(self, batch: RecordBatch, acknowledge: Callable[[], object]) -> None:
        """Apply a batch and send what it caused. `acknowledge` is called once all of it is safe."""
        async with self._turn:
            if self.closed:
                return
            with self._broken_by_failure():
                fresh = self._unseen(batch)
                for piece in () if fresh is None else _pieces(fresh):
                    outputs = list(self.processor.process(piece))
                    self._note(events=len(piece))
                    await self._send(outputs)
                    if piece.last_offset < batch.last_offset:
                        await asyncio.sleep(0)
                    if self.closed:
                        return
                self._note(events=0)
                self._pending.acknowledge.append(acknowledge)

    async def tick(self, broker_now_ms: int) -> None:
        """Let timers follow the clock."""
        async with self._turn:
            if self.closed:
                return
            with self._broken_by_failure():
                outputs = list(self.processor.tick(broker_now_ms))
                self._metrics.ticks += 1
                self._note(events=0)
                await self._send(outputs)

    def due(self, *, interval_s: float, events: int) -> bool:
        """Whether a checkpoint should begin now."""
        pending = self._pending
        if pending.since is None or self.closed:
            return False
        return pending.events >= events or time.monotonic() - pending.since >= interval_s

    def last_applied(self, topic: str) -> int | None:
        """The offset of the last record that was applied since this work began, or None."""
        next_offset = self._next_offsets.get(topic)
        return None if next_offset is None else next_offset - 1

    @property
    def pending_events(self) -> int:
        return self._pending.events

    async def checkpoint(self) -> None:
        """Steps 0 to 4. Raises FencedError when another worker has the partition; the work is closed then."""
        async with self._checkpointing:
            async with self._turn:
                if self.closed or self._pending.empty:
                    return
                with self._broken_by_failure():
                    done, self._pending = self._pending, _Pending()
                    changes, marker = self._take_changes()
            with self._broken_by_failure():
                await _all_delivered(done.deliveries)
                if self._state is not None:
                    await self._write(self._state, changes, marker)
                for acknowledge in done.acknowledge:
                    acknowledge()
                await self._commit()
                self._metrics.checkpoints += 1

    async def close(self) -> None:
        """A last checkpoint, then nothing more is applied or written."""
        try:
            await self.checkpoint()
        finally:
            self.closed = True

    def abandon(self) -> None:
        """Apply and write nothing more; what is not checkpointed is left to the replay."""
        self.closed = True

    async def _write(
        self, state: StateLog, changes: Sequence[tuple[bytes, bytes | None]], marker: bytes
    ) -> None:
        stale = time.monotonic() - self._marker_written >= _MARKER_AT_LEAST_EVERY_S
        if not changes and marker == self._marker and not stale:
            return
        await state.write(changes)
        await state.write([(MARKER_KEY, marker)])
        self._marker, self._marker_written = marker, time.monotonic()
        self._metrics.state_writes += len(changes)

    def _take_changes(self) -> tuple[list[tuple[bytes, bytes | None]], bytes]:
        if self._state is None:
            return [], b""
        changes = dict(self.processor.dirty())
        for key in self._state.overwritten:
            if not key.startswith(RESERVED):
                changes.setdefault(key, self.processor.value(key))
        self._state.overwritten.clear()
        return list(changes.items()), self.processor.marker()

    def _unseen(self, batch: RecordBatch) -> RecordBatch | None:
        """The batch without what this work was given before, as a seek may read records again, and without
        what the restored marker covers: a commit that was lost (as in a rebalance) leaves the replay to begin
        before it, where keys that were deleted since would count everything anew.
        """
        next_offset = self._next_offsets.get(batch.topic, 0)
        self._next_offsets[batch.topic] = max(next_offset, batch.last_offset + 1)
        seen_before = max(next_offset, self._covered.get(batch.topic, -1) + 1)
        if batch.first_offset >= seen_before:
            return batch
        records: list[Record] = [record for record in batch.records if record.offset >= seen_before]
        return RecordBatch(batch.topic, batch.partition, records) if records else None

    def _note(self, *, events: int) -> None:
        if self._pending.since is None:
            self._pending.since = time.monotonic()
        self._pending.events += events
        self._metrics.events += events

    async def _send(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            self._pending.deliveries.append(await self._outlet.send(output))
        self._metrics.outputs += len(outputs)

    def _broken_by_failure(self) -> "_BrokenByFailure":
        return _BrokenByFailure(self)


def _pieces(batch: RecordBatch) -> Iterator[RecordBatch]:
    if len(batch) <= _APPLY_SLICE:
        yield batch
        return
    for start in range(0, len(batch), _APPLY_SLICE):
        yield RecordBatch(batch.topic, batch.partition, batch.records[start : start + _APPLY_SLICE])


class _BrokenByFailure:
    """A half-applied batch or a half-written checkpoint must not be built upon."""

    def __init__(self, work: PartitionWork) -> None:
        self._work = work

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is not None:
            self._work.abandon()


async def _all_delivered(deliveries: Sequence[Awaitable[object]]) -> None:
    """However long it takes: no delivery is given up on while its producer has not."""
    for delivery in deliveries:
        await delivery
