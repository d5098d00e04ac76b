"""The proxy does what its name says and nothing else; behind it is the real broker."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator

import confluent_kafka  # type: ignore[import-untyped]
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, TopicAuthorizationFailedError

from tests.integration.parts import kafka_wire as wire
from tests.integration.parts.kafka import KafkaBroker
from tests.integration.parts.kafka_client import Kafka
from tests.integration.parts.kafka_proxy import Api, ErrorCode, KafkaProxy, Seen, Side
from tests.integration.parts.process import PartError
from tests.integration.parts.proxy import TcpProxy

_SEND_FOREVER = """
import asyncio, sys
from aiokafka import AIOKafkaProducer

async def main():
    producer = AIOKafkaProducer(bootstrap_servers=sys.argv[1])
    await producer.start()
    await producer.send(sys.argv[2], b"v")
    await asyncio.sleep(300)

asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def _producer(address: str, **options: object) -> AsyncIterator[AIOKafkaProducer]:
    options = {"request_timeout_ms": 3000, "linger_ms": 50, "acks": "all"} | options
    producer = AIOKafkaProducer(bootstrap_servers=address, **options)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def _commit(address: str, group: str, partition: TopicPartition, *offsets: int) -> None:
    consumer = AIOKafkaConsumer(bootstrap_servers=address, group_id=group, enable_auto_commit=False)
    consumer.assign([partition])
    await consumer.start()
    for offset in offsets:
        await consumer.commit({partition: offset})
    await consumer.stop()


def _values(kafka: Kafka, topic: str) -> list[bytes | None]:
    return [record.value for record in kafka.records(topic)]


# --- Kafka: what passes


def test_clients_stay_behind_the_proxy(own_kafka: KafkaBroker, kafka_proxy: KafkaProxy) -> None:
    """Metadata sends them back to it: with the broker's own address advertised, it would see nothing."""
    topic = own_kafka.new_topic("behind", partitions=2)
    behind = Kafka(kafka_proxy.address)

    behind.produce(topic, [(b"k", b"v%d" % n) for n in range(20)])

    assert len(behind.records(topic)) == 20
    assert kafka_proxy.count(Api.PRODUCE) >= 1
    assert kafka_proxy.count(Api.FETCH) >= 1
    own_kafka.produce(topic, [(None, b"past the proxy")], partition=0)
    before = kafka_proxy.count(Api.PRODUCE)
    assert kafka_proxy.count(Api.PRODUCE) == before


def test_two_proxies_stand_side_by_side(own_kafka: KafkaBroker, kafka_proxy: KafkaProxy) -> None:
    topic = own_kafka.new_topic("two-ways")
    with KafkaProxy.before(own_kafka, way=1) as other:
        kafka_proxy.cut()
        Kafka(other.address).produce(topic, [(None, b"v")])
        assert other.count(Api.PRODUCE) == 1
        with pytest.raises(KafkaError):
            Kafka(kafka_proxy.address).ping()


# --- Kafka: refusing


async def test_matching_topics_are_refused_and_others_are_not(
    own_kafka: KafkaBroker, kafka_proxy: KafkaProxy
) -> None:
    changelog, events = own_kafka.new_topic("app-changelog"), own_kafka.new_topic("events")
    rule = kafka_proxy.reject_produce(lambda topic: "changelog" in topic)
    async with _producer(kafka_proxy.address) as producer:
        # With both topics known, the sender wakes after both sends and puts them into one request.
        await producer.partitions_for(changelog)
        await producer.partitions_for(events)
        refused = await producer.send(changelog, b"lost")
        kept = await producer.send(events, b"kept")
        with pytest.raises(TopicAuthorizationFailedError):
            await refused
        assert (await kept).offset == 0
        assert rule.hits == 1
        assert kafka_proxy.count(Api.PRODUCE) == 1, "the two were not in one request"

        kafka_proxy.remove(rule)
        await producer.send_and_wait(changelog, b"later")
    assert _values(own_kafka, changelog) == [b"later"]
    assert _values(own_kafka, events) == [b"kept"]


async def test_only_the_matching_partitions_error_is_given(
    own_kafka: KafkaBroker, kafka_proxy: KafkaProxy
) -> None:
    topic = own_kafka.new_topic("too-large", partitions=3)
    kafka_proxy.reject_produce(topic, ErrorCode.MESSAGE_TOO_LARGE, times=1)
    seen: list[Seen] = []
    kafka_proxy.on(Api.PRODUCE, seen.append)
    async with _producer(kafka_proxy.address) as producer:
        with pytest.raises(MessageSizeTooLargeError):
            await producer.send_and_wait(topic, b"first", partition=0)
        await producer.send_and_wait(topic, b"second", partition=0)
    assert [answer.errors for answer in seen] == [(ErrorCode.MESSAGE_TOO_LARGE,), ()]
    assert {topic} == seen[0].topics
    assert _values(own_kafka, topic) == [b"second"]


async def test_a_retriable_error_is_tried_again(own_kafka: KafkaBroker, kafka_proxy: KafkaProxy) -> None:
    topic = own_kafka.new_topic("again")
    rule = kafka_proxy.reject_produce(topic, ErrorCode.NOT_ENOUGH_REPLICAS, times=3)
    async with _producer(kafka_proxy.address, enable_idempotence=True) as producer:
        await producer.send_and_wait(topic, b"v")
    assert rule.hits == 3
    assert kafka_proxy.count(Api.PRODUCE) == 4
    assert _values(own_kafka, topic) == [b"v"]


async def test_unacknowledged_produce_is_refused_in_silence(
    own_kafka: KafkaBroker, kafka_proxy: KafkaProxy
) -> None:
    topic = own_kafka.new_topic("no-acks")
    kafka_proxy.reject_produce(topic, times=1)
    async with _producer(kafka_proxy.address, acks=0) as producer:
        await producer.send_and_wait(topic, b"lost")
        await producer.send_and_wait(topic, b"kept")
        kafka_proxy.wait_for(Api.PRODUCE, 2, side=Side.REQUEST)
    assert await _until(lambda: _values(own_kafka, topic) == [b"kept"])


# --- Kafka: delaying and losing


async def test_a_request_is_delayed_and_another_topic_is_not(
    own_kafka: KafkaBroker, kafka_proxy: KafkaProxy
) -> None:
    slow, fast = own_kafka.new_topic("slow"), own_kafka.new_topic("fast")
    kafka_proxy.delay_produce(slow, 3_000)
    patient = _producer(kafka_proxy.address, request_timeout_ms=30_000)
    async with patient as producer, _producer(kafka_proxy.address) as other:
        started = time.monotonic()
        waiting = await producer.send(slow, b"v")
        await other.send_and_wait(fast, b"v")
        assert time.monotonic() - started < 2.5
        assert own_kafka.end_offsets(slow) == {0: 0}, "the request is still on its way"
        await waiting
        assert time.monotonic() - started >= 3
    assert own_kafka.end_offsets(slow) == {0: 1}


async def test_an_answer_is_delayed_when_the_broker_has_the_record(
    own_kafka: KafkaBroker, kafka_proxy: KafkaProxy
) -> None:
    topic = own_kafka.new_topic("slow-answer")
    kafka_proxy.delay_produce(topic, 3_000, side=Side.ANSWER)
    async with _producer(kafka_proxy.address, linger_ms=0, request_timeout_ms=30_000) as producer:
        started = time.monotonic()
        waiting = await producer.send(topic, b"v")
        assert await _until(lambda: own_kafka.end_offsets(topic) == {0: 1}, within_s=2.5)
        assert not waiting.done()
        await waiting
        assert time.monotonic() - started >= 3


@pytest.mark.parametrize("outlives", [False, True])
def test_a_delayed_request_of_a_dead_client(
    own_kafka: KafkaBroker, kafka_proxy: KafkaProxy, outlives: bool
) -> None:
    topic = own_kafka.new_topic("dead-client")
    kafka_proxy.delay_produce(topic, 400, outlives_client=outlives)
    with subprocess.Popen([sys.executable, "-c", _SEND_FOREVER, kafka_proxy.address, topic]) as client:
        kafka_proxy.wait_for(Api.PRODUCE, 1, side=Side.REQUEST)
        client.kill()
    time.sleep(0.8)
    assert kafka_proxy.connections == 0
    assert _values(own_kafka, topic) == ([b"v"] if outlives else [])


async def test_a_lost_answer_leaves_the_record(own_kafka: KafkaBroker, kafka_proxy: KafkaProxy) -> None:
    topic = own_kafka.new_topic("ambiguous")
    rule = kafka_proxy.lose_produce_answer(topic, times=1)
    async with _producer(kafka_proxy.address) as producer:
        await producer.send_and_wait(topic, b"v")
    assert rule.hits == 1
    # Not idempotent: the client could not know and sent it again.
    assert _values(own_kafka, topic) == [b"v", b"v"]


# --- Kafka: watching


async def test_every_commit_is_seen_when_it_is_durable(
    own_kafka: KafkaBroker, kafka_proxy: KafkaProxy
) -> None:
    topic = own_kafka.new_topic("watched", partitions=2)
    group = f"group-of-{topic}"
    durable: list[dict[int, int]] = []
    asked: list[Seen] = []
    kafka_proxy.on(Api.OFFSET_COMMIT, asked.append, side=Side.REQUEST)
    kafka_proxy.on(Api.OFFSET_COMMIT, lambda _seen: durable.append(own_kafka.committed(group, topic)))
    # The first commit of a new broker finds its coordinator still loading, and is made again.
    await _commit(own_kafka.bootstrap, group, TopicPartition(topic, 1), 1)
    await _commit(kafka_proxy.address, group, TopicPartition(topic, 1), 3, 9)

    kafka_proxy.wait_for(Api.OFFSET_COMMIT, 2)
    assert durable == [{1: 3}, {1: 9}]
    assert [(seen.group, seen.offsets) for seen in asked] == [(group, {(topic, 1): n}) for n in (3, 9)]
    with pytest.raises(TimeoutError, match="2 of 3 OFFSET_COMMIT"):
        kafka_proxy.wait_for(Api.OFFSET_COMMIT, 3, timeout_s=0.05)


def test_flexible_versions_are_judged_too(own_kafka: KafkaBroker, kafka_proxy: KafkaProxy) -> None:
    """aiokafka speaks old versions of the protocol; librdkafka, which others use, the new ones."""
    topic = own_kafka.new_topic("librdkafka", partitions=2)
    seen: list[Seen] = []
    for api in (Api.PRODUCE, Api.OFFSET_COMMIT):
        kafka_proxy.on(api, seen.append)
    outcomes: list[object] = []
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka_proxy.address})
    # Not an authorization error: librdkafka would remember that one for the whole topic.
    kafka_proxy.reject_produce(topic, ErrorCode.INVALID_RECORD, times=1)
    for value in (b"refused", b"kept"):
        producer.produce(topic, value, partition=1, on_delivery=lambda error, _: outcomes.append(error))
        assert producer.flush(10) == 0
    consumer = confluent_kafka.Consumer({"bootstrap.servers": kafka_proxy.address, "group.id": topic})
    consumer.commit(offsets=[confluent_kafka.TopicPartition(topic, 1, 1)], asynchronous=False)
    consumer.close()

    assert "INVALID_RECORD" in repr(outcomes[0])
    assert outcomes[1] is None
    assert _values(own_kafka, topic) == [b"kept"]
    # The group's coordinator may have asked for patience before it took the commit.
    produced, kept, *_, committed = seen
    assert produced.version >= 9
    assert (produced.errors, kept.errors) == ((ErrorCode.INVALID_RECORD,), ())
    assert committed.version >= 8
    assert (committed.group, committed.offsets, committed.errors) == (topic, {(topic, 1): 1}, ())


# --- Kafka: cutting


async def test_a_client_goes_on_after_a_cut(own_kafka: KafkaBroker, kafka_proxy: KafkaProxy) -> None:
    topic = own_kafka.new_topic("cut")
    async with _producer(kafka_proxy.address, request_timeout_ms=10_000, retry_backoff_ms=50) as producer:
        await producer.send_and_wait(topic, b"before")
        kafka_proxy.cut()
        assert kafka_proxy.connections == 0
        waiting = await producer.send(topic, b"after")
        await asyncio.sleep(0.3)
        assert not waiting.done()
        kafka_proxy.heal()
        await waiting
    assert _values(own_kafka, topic) == [b"before", b"after"]


async def test_a_black_hole_swallows_until_it_heals(own_kafka: KafkaBroker, kafka_proxy: KafkaProxy) -> None:
    topic = own_kafka.new_topic("hole")
    async with _producer(kafka_proxy.address, request_timeout_ms=10_000) as producer:
        await producer.send_and_wait(topic, b"before")
        kafka_proxy.black_hole()
        waiting = await producer.send(topic, b"after")
        await asyncio.sleep(0.4)
        assert not waiting.done()
        assert own_kafka.end_offsets(topic) == {0: 1}
        assert kafka_proxy.connections > 0
        kafka_proxy.heal()
        await waiting
    assert _values(own_kafka, topic) == [b"before", b"after"]


# --- plain TCP


@pytest.fixture
def echo() -> Iterator[str]:
    """A server that sends back what it gets, until the other end closes."""
    from tests.integration.parts.ports import LOOPBACK, free_port

    port = free_port()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1000):
                writer.write(data)
        writer.close()

    class Echo(TcpProxy):
        """Only for its loop and thread."""

        async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await serve(reader, writer)

    with Echo("nowhere:1", port=port):
        yield f"{LOOPBACK}:{port}"


def _connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=2)


def _ask(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return connection.recv(len(data))


def test_bytes_pass_unchanged_and_latency_adds_up(echo: str) -> None:
    with TcpProxy(echo) as proxy, _connect(proxy) as connection:
        assert _ask(connection, b"hello") == b"hello"
        proxy.latency_ms = 100
        started = time.monotonic()
        assert _ask(connection, b"slow") == b"slow"
        assert time.monotonic() - started >= 0.2
        assert proxy.accepted == 1


def test_dropped_connections_break_and_new_ones_work(echo: str) -> None:
    with TcpProxy(echo) as proxy, _connect(proxy) as connection:
        assert _ask(connection, b"x") == b"x"
        proxy.drop_connections()
        with pytest.raises(ConnectionResetError):
            _ask(connection, b"x")
        with _connect(proxy) as again:
            assert _ask(again, b"x") == b"x"


def test_a_cut_refuses_and_a_black_hole_accepts(echo: str) -> None:
    with TcpProxy(echo) as proxy:
        proxy.cut()
        with pytest.raises(ConnectionRefusedError):
            _connect(proxy)
        proxy.heal()
        proxy.black_hole()
        with _connect(proxy) as connection:
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                _ask(connection, b"x")
            proxy.heal()
            assert connection.recv(1) == b"x"


def test_the_last_bytes_before_a_close_arrive() -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(2)
        with TcpProxy(f"127.0.0.1:{target.getsockname()[1]}") as proxy:
            with _connect(proxy) as connection:
                connection.sendall(b"x" * 100_000)
            accepted, _ = target.accept()
            with accepted:
                accepted.settimeout(2)
                received = b"".join(iter(lambda: accepted.recv(65_536), b""))
    assert received == b"x" * 100_000


def test_a_target_that_is_down_resets_the_client() -> None:
    # The reset may come before the client has seen its connection made.
    with TcpProxy("127.0.0.1:1") as proxy, pytest.raises(ConnectionResetError), _connect(proxy) as connection:
        connection.recv(1)


def test_what_it_cannot_judge_fails_the_test(own_kafka: KafkaBroker) -> None:
    proxy = KafkaProxy.before(own_kafka)
    proxy.start()
    with _connect(proxy) as connection:
        writer = wire.Writer(flexible=False)
        writer.int16(Api.PRODUCE)
        writer.int16(99)
        writer.int32(1)
        writer.text("from the future")
        connection.sendall(writer.frame())
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(PartError, match="produce version 99"):
        proxy.stop()


# --- the wire format


@pytest.mark.parametrize("version", wire.PRODUCE_VERSIONS)
def test_produce_messages_of_every_version_survive(version: int) -> None:
    batches: dict[tuple[str, int], bytes | None] = {("a", 0): b"one", ("a", 2): None, ("b", 1): b"x" * 200}
    header = wire.Header(Api.PRODUCE, version, 7, "client", b"")
    tags = b"\0" if version >= 9 else b""
    request = wire.ProduceRequest(header, tags, None, -1, 1000, batches)
    frame = wire.write_produce_request(request, set(batches))

    read = wire.read_produce_request(wire.read_header(frame))
    assert (read.batches, read.acks, read.header.correlation_id) == (batches, -1, 7)
    assert wire.write_produce_request(read, set(batches)) == frame
    half = wire.write_produce_request(read, {("a", 2)})
    assert wire.read_produce_request(wire.read_header(half)).batches == {("a", 2): None}

    response = wire.ProduceResponse(7, version, tags, tags=tags)
    response.refuse(("a", 0), ErrorCode.MESSAGE_TOO_LARGE)
    response.refuse(("b", 1), ErrorCode.REQUEST_TIMED_OUT)
    answer = wire.write_produce_response(response)
    assert wire.response_correlation_id(answer) == 7
    assert wire.read_produce_response(answer, version) == response
    assert wire.write_produce_response(wire.read_produce_response(answer, version)) == answer


def test_cut_off_messages_are_errors() -> None:
    frame = wire.write_produce_request(
        wire.ProduceRequest(wire.Header(0, 7, 1, None, b""), b"", None, 1, 1, {("a", 0): b"data"}), {("a", 0)}
    )
    for length in range(14, len(frame)):
        with pytest.raises(wire.WireError):
            wire.read_produce_request(wire.read_header(frame[:length]))


async def _until(holds: object, within_s: float = 30.0) -> bool:
    assert callable(holds)
    deadline = time.monotonic() + within_s
    while not await asyncio.to_thread(holds):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True
