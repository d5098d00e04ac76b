"""The worker with a tiny counting stage, on the embedded broker."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from faust.types import TP

from cli.broker import EmbeddedBroker, free_port
from streams.admin import BrokerError, TopicError
from streams.checkpoint import StageMetrics
from streams.stage import Output, PlainRecord, Record, RecordBatch, Stage
from streams.stage_topics import check_topics, ensure_topics
from streams.transport import ClientSettings
from streams.worker import StalledError, Worker, WorkerSettings, spare_collector
from tests.streams.counting import CountingProcessor, counting_stage, counts_in_changelog

PARTITIONS = 2


def settings_for(bootstrap: str, group: str = "test", **changes: Any) -> WorkerSettings:
    client = ClientSettings(bootstrap, group, rebalance_timeout_ms=1_000, idempotent_producer=False)
    return replace(WorkerSettings(client, checkpoint_interval_s=0.2, tick_interval_s=0.1), **changes)


@pytest.fixture
async def bootstrap(tmp_path: Path) -> AsyncIterator[str]:
    broker = EmbeddedBroker(tmp_path)
    broker.start()
    try:
        await create_topics(broker.address, {"numbers": PARTITIONS, "counts": PARTITIONS, "profiles": 1})
        yield broker.address
    finally:
        broker.stop()


async def create_topics(bootstrap: str, counts: dict[str, int]) -> None:
    admin: Any = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    new_topic: Any = NewTopic
    await admin.create_topics([new_topic(name, count, 1) for name, count in counts.items()])
    await admin.close()


async def produce(bootstrap: str, topic: str, values: Iterable[str]) -> None:
    producer: Any = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    for value in values:
        await producer.send_and_wait(topic, b'{"key":"%s"}' % value.encode(), key=value.encode())
    await producer.stop()


async def committed(settings: WorkerSettings, topic: str) -> int:
    consumer: Any = AIOKafkaConsumer(**settings.client.connection(), group_id=settings.client.group_id)
    await consumer.start()
    offsets = [await consumer.committed(TopicPartition(topic, number)) for number in range(PARTITIONS)]
    await consumer.stop()
    return sum(offset or 0 for offset in offsets)


async def until(condition: Callable[[], bool], worker: asyncio.Task[None], limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        if worker.done():
            worker.result()
        assert time.monotonic() < deadline, "waited too long"
        await asyncio.sleep(0.02)


@pytest.mark.embedded
async def test_counts_stops_gracefully_and_goes_on_where_it_was(bootstrap: str) -> None:
    settings = settings_for(bootstrap)
    for life in (1, 2):
        ready = asyncio.Event()
        worker = Worker([counting_stage(every=2)], settings, on_ready=ready.set)
        running = asyncio.create_task(worker.run())
        await produce(bootstrap, "numbers", "abcab" * 4)
        metrics = worker.metrics["counting"]

        def all_done(metrics: StageMetrics = metrics) -> bool:
            return metrics.events >= 20 and metrics.ticks > 0

        await until(all_done, running)
        assert ready.is_set()
        worker.stop()
        await running
        assert metrics.events == 20, "nothing is read twice after a graceful stop"
        assert metrics.outputs == {1: 10, 2: 10}[life]
        assert metrics.restored_keys == {1: 0, 2: 3}[life]
        assert await counts_in_changelog(settings.client) == {
            "a": 8 * life,
            "b": 8 * life,
            "c": 4 * life,
        }
        assert await committed(settings, "numbers") == 20 * life


@pytest.mark.embedded
async def test_an_exception_in_a_stage_ends_the_worker_and_commits_nothing(bootstrap: str) -> None:
    class Failing(CountingProcessor):
        def process(self, batch: RecordBatch) -> Iterable[Output]:
            raise ZeroDivisionError

    settings = settings_for(bootstrap)
    stage = replace(counting_stage(), make=lambda _partition: Failing("counts", 10))
    await produce(bootstrap, "numbers", "abc")
    with pytest.raises(ZeroDivisionError):
        await Worker([stage], settings).run()
    assert await committed(settings, "numbers") == 0


@pytest.mark.embedded
async def test_a_commit_that_does_not_move_ends_the_worker(
    bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("streams.checkpoint.PartitionWork.checkpoint", never)
    settings = settings_for(bootstrap, stall_s=3.0, stop_s=2.0)
    await produce(bootstrap, "numbers", "abc")
    with pytest.raises(StalledError, match=r"numbers\[\d\]: nothing committed for 3 s"):
        await Worker([counting_stage()], settings).run()


@pytest.mark.embedded
async def test_broadcasts_are_read_in_full_before_the_first_batch(bootstrap: str) -> None:
    seen: list[tuple[str, bytes | None]] = []

    def on_broadcast(record: Record) -> None:
        seen.append(("profile", record.value))

    class Watching(CountingProcessor):
        def process(self, batch: RecordBatch) -> Iterable[Output]:
            seen.append(("batch", None))
            return super().process(batch)

    stage = Stage(
        "watching",
        sources=("numbers",),
        make=lambda _partition: Watching("counts", 10),
        stateful=False,
        broadcast=("profiles",),
        on_broadcast=on_broadcast,
    )
    await produce(bootstrap, "profiles", "xyz")
    await produce(bootstrap, "numbers", "a")
    worker = Worker([stage], settings_for(bootstrap))
    running = asyncio.create_task(worker.run())
    await until(lambda: ("batch", None) in seen, running)
    await produce(bootstrap, "profiles", "w")
    await until(lambda: sum(kind == "profile" for kind, _ in seen) == 4, running)
    worker.stop()
    await running
    assert [kind for kind, _ in seen[:4]] == ["profile", "profile", "profile", "batch"]


@pytest.mark.embedded
async def test_stages_in_a_row_and_on_the_same_source(bootstrap: str) -> None:
    """counting and also-counting read the same topic, and recounting reads what both of them emit."""

    class Recounting(CountingProcessor):
        def process(self, batch: RecordBatch) -> Iterable[Output]:
            given = [replace_value(record, b'{"key":"%s"}' % (record.key or b"")) for record in batch.records]
            return super().process(replace(batch, records=given))

    counting = counting_stage(every=2)
    stages = [
        counting,
        replace(counting, name="also-counting", stateful=False),
        Stage("recounting", sources=("counts",), make=lambda _partition: Recounting("counts", 1_000)),
    ]
    settings = settings_for(bootstrap)
    worker = Worker(stages, settings)
    running = asyncio.create_task(worker.run())
    await produce(bootstrap, "numbers", "abcab" * 4)
    await until(lambda: worker.metrics["recounting"].events >= 20, running)
    worker.stop()
    await running
    assert {name: metrics.events for name, metrics in worker.metrics.items()} == {
        "counting": 20,
        "also-counting": 20,
        "recounting": 20,
    }
    assert await committed(settings, "numbers") == 20
    assert await committed(settings, "counts") == 20


def replace_value(record: Record, value: bytes) -> PlainRecord:
    return PlainRecord(
        record.topic, record.partition, record.offset, record.timestamp, record.key, value, record.headers
    )


@pytest.mark.embedded
async def test_missing_topics_are_named(bootstrap: str) -> None:
    with pytest.raises(TopicError, match="topics missing: nowhere; run: watchkeeper topics create"):
        await ensure_topics([counting_stage(source="nowhere")], settings_for(bootstrap).client, 1)


async def test_the_stop_waits_for_what_a_rebalance_is_handing_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """It commits through the consumer's thread: were that stopped, each would wait for the other."""
    may_commit = asyncio.Event()

    class Slow:
        closed = False

        async def restore(self) -> None:
            """There is nothing."""

        async def close(self) -> None:
            await may_commit.wait()

    monkeypatch.setattr(Worker, "_make_work", lambda *_: Slow())
    worker = Worker([counting_stage()], settings_for("nowhere:1"))
    worker.assign({TP("numbers", 0)})
    await asyncio.sleep(0.01)
    rebalance = asyncio.create_task(worker.revoke({TP("numbers", 0)}))
    await asyncio.sleep(0.01)
    stop = asyncio.create_task(worker._last_checkpoint())
    await asyncio.sleep(0.01)
    assert not stop.done()
    may_commit.set()
    await asyncio.wait_for(asyncio.gather(rebalance, stop), 60.0)


async def test_no_broker_is_one_line() -> None:
    with pytest.raises(BrokerError) as caught:
        await ensure_topics([counting_stage()], settings_for(f"127.0.0.1:{free_port()}").client, 1)
    assert "no answer from the broker" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sources_of_a_stage_must_have_equal_partition_counts() -> None:
    stage = replace(counting_stage(), sources=("numbers", "others"))
    with pytest.raises(TopicError, match="numbers has 4, others has 2"):
        check_topics([stage], "group", {"numbers": 4, "others": 2, "counts": 4})


def test_a_changelog_with_another_partition_count_is_refused() -> None:
    counts = {"numbers": 4, "counts": 4, "group-counting-changelog": 3}
    with pytest.raises(TopicError, match="group-counting-changelog has 3 partitions, its sources 4"):
        check_topics([counting_stage()], "group", counts)


def test_missing_changelogs_are_to_be_created_with_the_sources_partition_count() -> None:
    counts = {"numbers": 4, "counts": 1}
    assert check_topics([counting_stage()], "group", counts) == {"group-counting-changelog": 4}


def test_the_collector_passes_by_what_was_there_before() -> None:
    before = gc.get_threshold()
    try:
        spare_collector()
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] > before[0]
        assert gc.isenabled()
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
