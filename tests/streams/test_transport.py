"""One message per partition and fetch, and nothing acknowledged by Faust on its own."""

from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

import faust
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError
from aiokafka.partitioner import DefaultPartitioner
from faust.streams import Stream
from faust.types import TP

from streams.stage import RecordBatch
from streams.transport import BatchConsumer, ClientSettings, batch_topic, batches, install, partition_for

TOPIC = "numbers"


class RecordingHandover:
    def __init__(self) -> None:
        self.calls: list[tuple[str, set[TP], int]] = []
        self.consumer: BatchConsumer | None = None

    async def revoke(self, partitions: set[TP]) -> None:
        assert self.consumer is not None
        in_flight = sum(self.consumer.in_flight(tp) for tp in partitions)
        self.calls.append(("revoke", partitions, in_flight))

    def assign(self, partitions: set[TP]) -> None:
        self.calls.append(("assign", partitions, 0))


class Rig:
    """An app on the driver, without a broker."""

    def __init__(self) -> None:
        self.handover = RecordingHandover()
        self.app = faust.App("transport", broker="kafka://nowhere", autodiscover=False, store="memory://")
        install(self.app, ClientSettings("nowhere:1", "transport"), self.handover)
        self.app.topics.acking_topics.add(TOPIC)
        self.app.flow_control.resume()
        self.consumer = cast(BatchConsumer, self.app.consumer)
        self.handover.consumer = self.consumer
        self.stream = self.app.stream(batch_topic(self.app, [TOPIC]))

    def fetched(self, records: dict[TP, list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
        async def wait_next_records(_timeout: float) -> tuple[Any, Any]:
            return records, set(records)

        monkeypatch.setattr(self.consumer, "_wait_next_records", wait_next_records)

    async def put(self, offsets: Sequence[int]) -> Any:
        message = self.consumer.hand_out(TP(TOPIC, 0), records(0, offsets))
        assert message is not None
        message.incref()
        channel: Any = self.stream.channel
        await channel.put(await channel.decode(message))
        return message


def records(partition: int, offsets: Sequence[int]) -> list[Any]:
    return [
        SimpleNamespace(topic=TOPIC, partition=partition, offset=offset, timestamp=0, timestamp_type=0)
        for offset in offsets
    ]


@pytest.fixture
async def rig() -> Rig:
    return Rig()


async def test_one_message_per_partition_and_fetch(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = {TP(TOPIC, 0): records(0, range(5)), TP(TOPIC, 3): records(3, [7, 9])}
    rig.fetched(fetched, monkeypatch)
    messages = [message async for _, message in rig.consumer.getmany(timeout=1.0)]
    values = [cast(RecordBatch, message.value) for message in messages]
    assert [(value.partition, value.first_offset, value.last_offset, len(value)) for value in values] == [
        (0, 0, 4, 5),
        (3, 7, 9, 2),
    ]
    assert [message.offset for message in messages] == [4, 9]


async def test_nothing_more_is_handed_out_after_a_rebalance_began(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.fetched({TP(TOPIC, number): records(number, [1]) for number in range(3)}, monkeypatch)
    handed_out = []
    async for tp, _ in rig.consumer.getmany(timeout=1.0):
        handed_out.append(tp)
        rig.app.consumer_generation_id += 1
    assert handed_out == [TP(TOPIC, 0)]


async def test_what_was_fetched_during_a_rebalance_is_read_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    sought = []

    async def seek_to_committed() -> dict[TP, int]:
        sought.append(True)
        return {TP(TOPIC, 0): 3}

    async def fetched_while_a_rebalance_comes(_timeout: float) -> tuple[Any, Any]:
        rig.consumer.stop_flow()
        return {TP(TOPIC, 0): records(0, [3, 4])}, set()

    monkeypatch.setattr(rig.consumer, "seek_to_committed", seek_to_committed)
    monkeypatch.setattr(rig.consumer, "_wait_next_records", fetched_while_a_rebalance_comes)
    assert [tp async for tp, _ in rig.consumer.getmany(timeout=1.0)] == []
    assert rig.consumer.in_flight(TP(TOPIC, 0)) == 0
    rig.consumer.resume_flow()
    rig.fetched({TP(TOPIC, 0): records(0, [3, 4])}, monkeypatch)
    assert [message.offset async for _, message in rig.consumer.getmany(timeout=1.0)] == [4]
    assert sought


async def test_a_seek_that_a_rebalance_interrupts_is_made_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[dict[TP, int] | Exception] = [IllegalStateError("no assignment"), {TP(TOPIC, 0): 3}]

    async def seek_to_committed() -> dict[TP, int]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(rig.consumer, "seek_to_committed", seek_to_committed)
    monkeypatch.setattr(rig.consumer, "assignment", lambda: {TP(TOPIC, 0)})
    rig.fetched({TP(TOPIC, 0): records(0, [9])}, monkeypatch)
    await rig.consumer.perform_seek()
    assert [message.offset async for _, message in rig.consumer.getmany(timeout=1.0)] == [9]
    assert not answers


async def test_a_partition_without_a_committed_offset_is_sought_to_its_beginning(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka leaves it where it is: what was fetched of it and dropped in a rebalance would be lost."""
    nowhere, somewhere = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)
    beginnings = []

    class Client:
        async def seek_to_committed(self) -> dict[TopicPartition, int | None]:
            return {nowhere: None, somewhere: 7}

        async def seek_to_beginning(self, *partitions: TopicPartition) -> None:
            beginnings.extend(partitions)

    async def call_here(method: Callable[[], Awaitable[Any]]) -> Any:
        return await method()

    thread = rig.consumer._new_consumer_thread()
    monkeypatch.setattr(thread, "_ensure_consumer", Client)
    monkeypatch.setattr(thread, "call_thread", call_here)
    assert await thread.seek_to_committed() == {nowhere: None, somewhere: 7}
    assert beginnings == [nowhere]


async def test_an_exception_in_an_agent_acknowledges_nothing(rig: Rig) -> None:
    """The fourth hole of Faust: its iterators acknowledge in a `finally`."""
    await rig.put([0, 1, 2])
    await rig.put([3])

    async def agent() -> None:
        async for batch, _ in batches(rig.stream):
            assert isinstance(batch, RecordBatch)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await agent()
    await rig.stream.stop()
    assert not rig.consumer._acked[TP(TOPIC, 0)]
    assert rig.consumer._new_offset(TP(TOPIC, 0)) is None


async def test_the_exception_test_fails_when_faust_acknowledges(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stream, "noack", lambda self: self)
    with pytest.raises(AssertionError):
        await test_an_exception_in_an_agent_acknowledges_nothing(rig)


async def test_a_batch_counts_as_done_once_its_message_is_acknowledged(rig: Rig) -> None:
    message = await rig.put([0, 1, 2])
    assert rig.consumer._filter_committable_offsets([TP(TOPIC, 0)]) == {}
    message.ack(rig.consumer)
    assert rig.consumer._filter_committable_offsets([TP(TOPIC, 0)]) == {TP(TOPIC, 0): 3}


async def test_partitions_are_handed_over_before_they_are_forgotten(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: Any) -> None:
        pass

    monkeypatch.setattr(rig.consumer, "_on_partitions_revoked", nothing)
    monkeypatch.setattr(rig.consumer, "_on_partitions_assigned", nothing)
    source = TP(TOPIC, 0)
    await rig.put([0])
    await rig.consumer.on_partitions_revoked({source})
    assert rig.handover.calls == [("revoke", {source}, 1)]
    assert rig.consumer.in_flight(source) == 0
    await rig.consumer.on_partitions_assigned({source}, 2)
    assert rig.handover.calls[-1] == ("assign", {source}, 0)


async def test_every_client_gets_the_security_options() -> None:
    security = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_plain_username": "worker"}
    settings = ClientSettings("one:1,two:2", "group", security=security)
    for options in (settings.connection(), settings.group_consumer(), settings.producer()):
        assert options["bootstrap_servers"] == "one:1,two:2"
        assert security.items() <= options.items()


@pytest.mark.parametrize("partitions", [[0], [0, 1, 2, 3]])
def test_a_key_goes_where_every_other_client_sends_it(partitions: list[int]) -> None:
    keys = [f"default/agent-{number}".encode() for number in range(50)]
    usual = DefaultPartitioner()
    for _ in range(2):
        assert [partition_for(key, partitions, partitions) for key in keys] == [
            usual(key, partitions, partitions) for key in keys
        ]
    assert partition_for(None, partitions, partitions) in partitions
