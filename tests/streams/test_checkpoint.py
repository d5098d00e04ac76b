"""The checkpoint protocol against a changelog in memory, with a crash after any of its steps."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Sequence

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.checkpoint import (
    CLAIM_KEY,
    MARKER_KEY,
    Entry,
    FencedError,
    PartitionWork,
    StageMetrics,
    StateLog,
    Stored,
    live_state,
)
from streams.stage import Output, PlainRecord, RecordBatch
from tests.streams.counting import CountingProcessor

SOURCE = "numbers"


class CrashError(Exception):
    """The process is gone."""


class Broker:
    """A source, an output topic, a changelog and a committed offset. Counts writes down to a crash."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.source = [
            PlainRecord(SOURCE, 0, offset, offset * 100, None, b'{"key":"%s"}' % key.encode())
            for offset, key in enumerate(keys)
        ]
        self.outputs: list[bytes | None] = []
        self.log: list[Stored] = []
        self.log_end = 0
        self.committed = 0
        self.steps: list[str] = []
        self.steps_left: int | None = None

    def compact(self) -> None:
        """Keep the newest record of each key, as the broker will sooner or later."""
        newest = {stored.key: stored for stored in self.log}
        self.log = sorted(newest.values(), key=lambda stored: stored.offset)

    def step(self, name: str) -> None:
        if self.steps_left is not None:
            if self.steps_left == 0:
                raise CrashError(name)
            self.steps_left -= 1
        self.steps.append(name)


class MemoryChangelog:
    """A crash may fall between any two records."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def append(self, entries: Sequence[Entry]) -> Sequence[range]:
        written = []
        for entry in entries:
            await asyncio.sleep(0)
            names = {MARKER_KEY: "marker", CLAIM_KEY: "claim"}
            self._broker.step(names.get(entry.key, "state"))
            offset = self._broker.log_end
            self._broker.log_end += 1
            self._broker.log.append(Stored(offset, entry.key, entry.value, entry.epoch))
            written.append(range(offset, offset + 1))
        return written

    async def read(self, start: int, stop: int) -> AsyncGenerator[Sequence[Stored], None]:
        await asyncio.sleep(0)
        yield [stored for stored in self._broker.log if start <= stored.offset < stop]


class _Delivery:
    def __init__(self, broker: Broker, output: Output) -> None:
        self._broker = broker
        self._output = output

    def __await__(self) -> Generator[None, None, None]:
        yield
        self._broker.step("output")
        self._broker.outputs.append(self._output.value)


class MemoryOutlet:
    """Delivers only when the delivery is awaited: what nobody waits for is lost in a crash."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def send(self, output: Output) -> Awaitable[object]:
        return _Delivery(self._broker, output)


class Life:
    """One process: restores, applies from the committed offset on, checkpoints now and then."""

    def __init__(self, broker: Broker, owner: str = "worker") -> None:
        self.broker = broker
        self.processor = CountingProcessor("counts", every=2)
        self.state = StateLog(MemoryChangelog(broker), owner)
        self.metrics = StageMetrics()
        self.position = 0
        self.work = PartitionWork(
            self.processor, MemoryOutlet(broker), self.state, self.metrics, commit=self._commit
        )

    async def start(self) -> None:
        await self.work.restore()
        self.position = self.broker.committed

    async def apply(self, count: int) -> None:
        records = self.broker.source[self.position : self.position + count]
        if records:
            self.position += len(records)
            await self.work.apply(RecordBatch(SOURCE, 0, records), self._acknowledge(self.position))

    async def run(self, batch: int, every: int) -> None:
        await self.start()
        batches = 0
        while self.position < len(self.broker.source):
            await self.apply(batch)
            batches += 1
            if batches % every == 0:
                await self.work.checkpoint()
        await self.work.close()

    def _acknowledge(self, position: int) -> Callable[[], None]:
        def acknowledge() -> None:
            self._done = position

        return acknowledge

    async def _commit(self) -> None:
        self.broker.step("commit")
        self.broker.committed = max(self.broker.committed, self._done)


def wanted_counts(keys: Sequence[str]) -> dict[bytes, int]:
    return {key.encode(): keys.count(key) for key in set(keys)}


def wanted_outputs(keys: Sequence[str]) -> set[bytes]:
    return {
        b"%s:%d" % (key, number)
        for key, count in wanted_counts(keys).items()
        for number in range(2, count + 1, 2)
    }


async def counts_in(broker: Broker) -> dict[bytes, int]:
    reader = CountingProcessor("counts", every=2)
    state, _ = await live_state(MemoryChangelog(broker), broker.log_end)
    state.pop(MARKER_KEY, None)
    for key, value in state.items():
        reader.restore(key, value)
    return reader.counts


KEYS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=25)


@settings(max_examples=500, deadline=None)
@given(KEYS, st.lists(st.integers(0, 40), max_size=6), st.integers(1, 6), st.integers(1, 3))
async def test_a_crash_at_any_step_loses_and_doubles_nothing(
    keys: list[str], crashes: list[int], batch: int, every: int
) -> None:
    broker = Broker(keys)
    for steps_left in crashes:
        broker.steps_left = steps_left
        try:
            await Life(broker).run(batch, every)
        except CrashError:
            continue
    broker.steps_left = None
    await Life(broker).run(batch, every)
    assert broker.committed == len(keys)
    assert await counts_in(broker) == wanted_counts(keys)
    assert set(broker.outputs) == wanted_outputs(keys)


async def test_what_the_marker_covers_is_not_applied_again_though_its_commit_was_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A key that the marker covers may be deleted since: a processor could not tell its replay from new."""
    broker = Broker("abcabcabca")
    first = Life(broker)
    await first.start()
    await first.apply(6)
    await first.work.checkpoint()
    broker.committed = 0

    given: list[int] = []
    process = CountingProcessor.process

    def noting(processor: CountingProcessor, batch: RecordBatch) -> Iterable[Output]:
        given.extend(record.offset for record in batch.records)
        return process(processor, batch)

    monkeypatch.setattr(CountingProcessor, "process", noting)
    await Life(broker).run(batch=4, every=1)
    assert given == [6, 7, 8, 9]
    assert broker.committed == 10


async def test_order_of_a_checkpoint() -> None:
    broker = Broker("aabb")
    await Life(broker).run(batch=4, every=10)
    assert broker.steps == ["claim", "output", "output", "state", "state", "marker", "commit"]


async def test_outputs_of_a_long_batch_go_out_while_it_is_applied_and_no_checkpoint_comes_between() -> None:
    sent: list[int] = []

    class Noting(MemoryOutlet):
        async def send(self, output: Output) -> Awaitable[object]:
            sent.append(life.metrics.events)
            return await super().send(output)

    broker = Broker("a" * 2_000)
    life = Life(broker)
    life.work = PartitionWork(life.processor, Noting(broker), life.state, life.metrics, commit=life._commit)
    await life.start()
    applying = asyncio.create_task(life.apply(2_000))
    await asyncio.sleep(0)
    await asyncio.gather(life.work.checkpoint(), applying)
    assert len(sent) == 1_000
    assert sent[0] < 500
    assert broker.committed == 2_000
    assert [stored.value for stored in broker.log if stored.key == b"a"] == [life.processor.value(b"a")]


async def test_work_abandoned_in_a_long_batch_sends_and_commits_no_more_of_it() -> None:
    broker = Broker("a" * 2_000)
    life = Life(broker)
    await life.start()
    applying = asyncio.create_task(life.apply(2_000))
    await asyncio.sleep(0)
    life.work.abandon()
    await applying
    assert 0 < life.metrics.events < 2_000
    await life.work.close()
    assert broker.committed == 0


async def test_no_commit_before_slow_deliveries_are_done() -> None:
    """The third hole of Faust: a flush that gives up after 100 ms, after which the offsets are committed."""
    broker = Broker("ab")
    delivered = asyncio.Event()

    class SlowChangelog(MemoryChangelog):
        async def append(self, entries: Sequence[Entry]) -> Sequence[range]:
            if entries[0].key != CLAIM_KEY:
                await delivered.wait()
            return await super().append(entries)

    life = Life(broker)
    life.state = StateLog(SlowChangelog(broker), "slow")
    life.work = PartitionWork(
        life.processor, MemoryOutlet(broker), life.state, life.metrics, commit=life._commit
    )
    await life.start()
    await life.apply(2)
    checkpoint = asyncio.create_task(life.work.checkpoint())
    await asyncio.sleep(0.3)
    assert broker.committed == 0
    delivered.set()
    await checkpoint
    assert broker.committed == 2


@pytest.mark.parametrize("failing", ["output", "state", "marker", "commit"])
async def test_a_failed_step_breaks_the_work_for_good(failing: str) -> None:
    broker = Broker("aabb")
    life = Life(broker)
    await life.start()
    await life.apply(4)
    order = ["output", "output", "state", "state", "marker", "commit"]
    broker.steps_left = order.index(failing)
    with pytest.raises(CrashError, match=failing):
        await life.work.checkpoint()
    broker.steps_left = None
    written = list(broker.log)
    await life.work.close()
    assert life.work.closed
    assert broker.committed == 0
    assert broker.log == written


async def test_a_half_applied_batch_is_never_written() -> None:
    broker = Broker("aab")
    broker.source[2] = broker.source[2]._replace(value=b"not JSON")
    life = Life(broker)
    await life.start()
    with pytest.raises(orjson.JSONDecodeError):
        await life.apply(3)
    await life.work.close()
    assert [stored.key for stored in broker.log] == [CLAIM_KEY]
    assert broker.committed == 0


async def test_the_next_batch_is_applied_while_a_checkpoint_waits_for_deliveries() -> None:
    broker = Broker("abab")
    life = Life(broker)
    await life.start()
    await life.apply(2)
    checkpoint = asyncio.create_task(life.work.checkpoint())
    await asyncio.sleep(0)
    await life.apply(2)
    await checkpoint
    assert broker.committed == 2, "the second batch is not part of the first checkpoint"
    await life.work.checkpoint()
    assert broker.committed == 4
    assert await counts_in(broker) == {b"a": 2, b"b": 2}


async def test_records_given_twice_in_one_life_count_once() -> None:
    given: list[int] = []

    class Noting(CountingProcessor):
        def process(self, batch: RecordBatch) -> Iterable[Output]:
            given.extend(record.offset for record in batch.records)
            return super().process(batch)

    broker = Broker("aaaa")
    life = Life(broker)
    life.work.processor = Noting("counts", every=2)
    await life.start()
    await life.apply(3)
    for position in (1, 0):
        life.position = position
        await life.apply(4)
    await life.work.close()
    assert given == [0, 1, 2, 3]
    assert broker.committed == 4


@settings(max_examples=200, deadline=None)
@given(KEYS, st.integers(0, 25), st.integers(0, 25), st.integers(1, 5))
async def test_a_zombie_overwrites_nothing(
    keys: list[str], frozen_at: int, wakes_at: int, batch: int
) -> None:
    """A worker freezes with unwritten state; another takes over; the first wakes and writes."""
    broker = Broker(keys)
    zombie, heir = Life(broker, "zombie"), Life(broker, "heir")
    await zombie.start()
    await zombie.apply(frozen_at)
    await heir.start()
    while heir.position < min(wakes_at, len(keys)):
        await heir.apply(batch)
        await heir.work.checkpoint()
    committed = broker.committed
    try:
        await zombie.work.checkpoint()
    except FencedError:
        assert zombie.work.closed
    assert broker.committed == committed, "a fenced worker must not acknowledge"
    # The heir dies at once, so that the next one must repair; or it goes on, and repairs by itself.
    if wakes_at % 2:
        heir = Life(broker, "next heir")
        await heir.start()
    while heir.position < len(keys):
        await heir.apply(batch)
        await heir.work.checkpoint()
    await heir.work.close()
    assert heir.processor.counts == wanted_counts(keys)
    assert await counts_in(broker) == wanted_counts(keys)


async def zombie_overwrites_a() -> tuple[Broker, Life]:
    """The heir has counted a, b, a, b; the zombie's newer record says that there is one a."""
    broker = Broker("abab" + "bb")
    zombie, heir = Life(broker, "zombie"), Life(broker, "heir")
    await zombie.start()
    await zombie.apply(1)
    await heir.start()
    await heir.apply(4)
    await heir.work.checkpoint()
    with pytest.raises(FencedError):
        await zombie.work.checkpoint()
    return broker, heir


async def test_the_owner_writes_again_what_a_zombie_overwrote() -> None:
    broker, heir = await zombie_overwrites_a()
    for _ in range(2):  # the first checkpoint sees the gap, the second closes it
        await heir.apply(1)
        await heir.work.checkpoint()
    broker.compact()
    assert await counts_in(broker) == {b"a": 2, b"b": 4}


async def test_a_restore_writes_again_what_a_zombie_overwrote() -> None:
    broker, _ = await zombie_overwrites_a()
    await Life(broker, "next heir").start()
    broker.compact()
    assert await counts_in(broker) == {b"a": 2, b"b": 2}


async def test_restore_reads_deletes_and_re_adds() -> None:
    broker = Broker("")
    changelog = MemoryChangelog(broker)
    writer = StateLog(changelog, "writer")
    await writer.restore()
    await writer.write([(b"x", b"1"), (b"y", b"1")])
    await writer.write([(b"x", None), (b"y", None)])
    await writer.write([(b"y", b"2"), (MARKER_KEY, b"marker")])
    restored = await StateLog(changelog, "reader").restore()
    assert restored.state == {b"y": b"2"}
    assert restored.marker == b"marker"
