"""Whatever the order of acknowledgements and whatever the gaps, no commit passes unfinished work.

Against the real consumer's own commit computation, and with Faust's stock methods put back to see it fail.
"""

import os
from types import SimpleNamespace
from typing import Any, cast

import faust
import pytest
from faust.transport.consumer import Consumer as StockConsumer
from faust.types import TP
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.transport import BatchConsumer, ClientSettings, CommitPosition, install

FULL = os.environ.get("CI") == "true" or os.environ.get("WATCHKEEPER_RELIABILITY") == "full"
EXAMPLES = 10_000 if FULL else 1_500
TOPIC = "numbers"
SOURCE = TP(TOPIC, 0)

Step = tuple[str, int, int]
# Many more acknowledgements and batches than anything else: the interesting runs have several in flight.
ACTIONS = ("fetch", "ack", "fetch", "ack", "commit", "fetch", "ack", "seek")


def steps(code: bytes) -> list[Step]:
    """A script from bytes, which hypothesis makes and shrinks much faster than lists of tuples.

    The steps: a batch of `size` records arrives after `number` missing offsets; the `number`th unfinished
    batch is acknowledged; a commit; a seek back to what is committed.
    """
    return [(ACTIONS[byte % 8], byte // 8 % 6, byte // 48 % 4 + 1) for byte in code]


class NoHandover:
    async def revoke(self, partitions: set[TP]) -> None:
        """Nobody works here."""

    def assign(self, partitions: set[TP]) -> None:
        """Nobody works here."""


def new_consumer() -> BatchConsumer:
    app = faust.App("commit-position", broker="kafka://nowhere", autodiscover=False, store="memory://")
    install(app, ClientSettings("nowhere:1", "commit-position"), NoHandover())
    app.topics.acking_topics.add(TOPIC)
    return cast(BatchConsumer, app.consumer)


@pytest.fixture
async def consumer() -> Any:
    return new_consumer()


def record(offset: int) -> Any:
    return SimpleNamespace(offset=offset, timestamp=0, timestamp_type=0)


def drive(consumer: BatchConsumer, script: list[Step]) -> None:
    """Run the script. No commit may pass unfinished work; in the end all is finished and committed."""
    reset(consumer)
    next_offset, committed = 7, 7
    unfinished: list[tuple[Any, int]] = []  # (message, first offset)

    def commit() -> None:
        nonlocal committed
        offset = consumer._filter_committable_offsets([SOURCE]).get(SOURCE)
        if offset is None:
            return
        assert offset > committed, "a commit went back"
        assert offset <= min((first for _, first in unfinished), default=next_offset), (
            "passed unfinished work"
        )
        committed = offset
        consumer._committed_offset[SOURCE] = offset

    for action, number, size in script:
        if action == "fetch":
            first = next_offset + number
            next_offset = first + size
            message = consumer.hand_out(SOURCE, [record(offset) for offset in range(first, next_offset)])
            assert message is not None
            message.incref()
            unfinished.append((message, first))
        elif action == "ack" and unfinished:
            message, _ = unfinished.pop(number % len(unfinished))
            message.ack(consumer)
        elif action == "commit":
            commit()
        elif action == "seek":
            forget_in_flight(consumer)
            unfinished.clear()
            next_offset = committed

    for message, _ in unfinished:
        message.ack(consumer)
    unfinished.clear()
    anything_in_flight = consumer.in_flight(SOURCE)
    commit()
    assert not consumer.in_flight(SOURCE)
    assert committed == next_offset or not anything_in_flight, "finished work was not committed"


def reset(consumer: BatchConsumer) -> None:
    forget_in_flight(consumer)
    consumer._committed_offset[SOURCE] = 7
    consumer._read_offset[SOURCE] = None


def forget_in_flight(consumer: BatchConsumer) -> None:
    """What `perform_seek` does besides asking the broker."""
    consumer._positions.clear()
    consumer._acked.clear()
    consumer._acked_index.clear()
    consumer._gap.clear()


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.binary(max_size=40))
async def test_no_commit_passes_unfinished_work(consumer: BatchConsumer, code: bytes) -> None:
    drive(consumer, steps(code))


async def test_the_property_fails_with_fausts_own_commit_computation(
    consumer: BatchConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BatchConsumer, "_new_offset", StockConsumer._new_offset)
    out_of_order = [("fetch", 0, 3), ("fetch", 0, 3), ("ack", 1, 0), ("commit", 0, 0)]
    with pytest.raises(AssertionError):
        drive(consumer, out_of_order)


async def test_first_acknowledged_offset_need_not_follow_the_committed_one(consumer: BatchConsumer) -> None:
    """After a kill Faust's own computation waits for committed + 1, which never comes if it is not there."""
    drive(consumer, [("fetch", 5, 1), ("ack", 0, 0), ("commit", 0, 0)])
    assert consumer._committed_offset[SOURCE] == 13


async def test_a_gap_counts_as_neither_done_nor_open(consumer: BatchConsumer) -> None:
    reset(consumer)
    message = consumer.hand_out(SOURCE, [record(7)])
    later = consumer.hand_out(SOURCE, [record(40)])
    assert message is not None
    assert later is not None
    await consumer._add_gap(SOURCE, 8, 40)
    assert not consumer._gap
    message.incref()
    message.ack(consumer)
    assert consumer._filter_committable_offsets([SOURCE]) == {SOURCE: 8}


async def test_the_gap_test_fails_with_fausts_own_gap(
    consumer: BatchConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BatchConsumer, "_add_gap", StockConsumer._add_gap)
    with pytest.raises(AssertionError):
        await test_a_gap_counts_as_neither_done_nor_open(consumer)


async def test_records_read_before_are_not_handed_out_again(consumer: BatchConsumer) -> None:
    reset(consumer)
    consumer._read_offset[SOURCE] = 12
    message = consumer.hand_out(SOURCE, [record(10), record(11), record(12)])
    assert message is not None
    assert [held.offset for held in cast(Any, message.value).records] == [12]
    assert consumer.hand_out(SOURCE, [record(10)]) is None
    assert consumer.in_flight(SOURCE) == 1


def test_position_follows_the_order_in_which_batches_were_handed_out() -> None:
    position = CommitPosition()
    for last_offset in (9, 19, 29):
        position.handed_out(last_offset)
    position.done(19)
    assert position.advance() is None
    position.done(9)
    assert position.advance() == 20
    assert position.advance() is None
    position.done(29)
    assert position.advance() == 30
    assert len(position) == 0
