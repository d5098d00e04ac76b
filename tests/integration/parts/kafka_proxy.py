"""The fault proxy with Kafka's protocol in it: refuse, delay or lose what is produced, and see every commit.

The broker must send clients back to the proxy, so it has listeners that advertise the proxy's address:

    with KafkaProxy.before(broker) as proxy:
        start_worker(bootstrap=proxy.address)
        proxy.reject_produce(lambda topic: topic.endswith("-changelog"), ErrorCode.TOPIC_AUTHORIZATION_FAILED)
        proxy.wait_for(Api.OFFSET_COMMIT, 1)
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self, cast

from tests.integration.parts import kafka_wire as wire
from tests.integration.parts.kafka import KafkaBroker
from tests.integration.parts.kafka_wire import Api, ErrorCode, Partition
from tests.integration.parts.proxy import Link, Parcel, TcpProxy

__all__ = ["Api", "ErrorCode", "KafkaProxy", "ProduceRule", "Seen", "Side"]

_LENGTH_BYTES = 4

TopicMatch = Callable[[str], bool] | str


class Side(enum.Enum):
    """Of a request: on its way to the broker, or its answer on its way back."""

    REQUEST = "request"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Seen:
    """One request that went by, or its answer."""

    api: int
    version: int
    client_id: str | None
    connection: int
    group: str | None = None
    topics: frozenset[str] = frozenset()
    # OffsetCommit: the offset wanted for each partition.
    offsets: Mapping[Partition, int] = field(default_factory=dict)
    # Of an answer to Produce or OffsetCommit: the error codes other than 0.
    errors: tuple[int, ...] = ()


@dataclass(eq=False, slots=True)
class ProduceRule:
    """What happens to produce requests for matching topics; `hits` counts the requests it happened to."""

    matches: Callable[[str], bool]
    error: int | None = None
    request_delay_ms: int = 0
    answer_delay_ms: int = 0
    outlives_client: bool = False
    loses_answer: bool = False
    # How many more requests it applies to; None is for ever.
    remaining: int | None = None
    hits: int = 0


@dataclass(slots=True)
class _Exchange:
    """A request without its answer, which comes from the broker or is made up here, in the order asked."""

    seen: Seen
    correlation_id: int
    refused: dict[Partition, int] = field(default_factory=dict)
    forwarded: bool = True
    answer_delay_ms: int = 0
    loses_answer: bool = False


class _KafkaLink(Link):
    def __init__(self, proxy: TcpProxy, number: int) -> None:
        super().__init__(proxy, number)
        self._kafka = cast(KafkaProxy, proxy)
        self._open: deque[_Exchange] = deque()

    async def read_unit(self, reader: asyncio.StreamReader) -> bytes:
        try:
            length = await reader.readexactly(_LENGTH_BYTES)
            return length + await reader.readexactly(struct.unpack(">i", length)[0])
        except asyncio.IncompleteReadError:
            return b""  # a message its sender did not finish is none

    async def from_client(self, unit: bytes) -> None:
        header = wire.read_header(unit)
        seen = Seen(header.api, header.version, header.client_id, self.number)
        if header.api == Api.PRODUCE:
            self._produce(unit, header, seen)
            return
        if header.api == Api.OFFSET_COMMIT:
            group, offsets = wire.read_commit_request(header)
            topics = frozenset(topic for topic, _ in offsets)
            seen = replace(seen, group=group, offsets=offsets, topics=topics)
        self._kafka.note(Side.REQUEST, seen)
        self._open.append(_Exchange(seen, header.correlation_id))
        self.up.put(Parcel(unit, self.proxy.latency_ms / 1000))

    async def from_target(self, unit: bytes) -> None:
        if not self._open or self._open[0].correlation_id != wire.response_correlation_id(unit):
            raise wire.WireError("the broker answered something that was not asked")
        self._answer(self._open.popleft(), unit)
        self._answer_made_up()

    def _produce(self, unit: bytes, header: wire.Header, seen: Seen) -> None:
        request = wire.read_produce_request(header)
        seen = replace(seen, topics=frozenset(topic for topic, _ in request.batches))
        self._kafka.note(Side.REQUEST, seen)
        exchange = _Exchange(seen, header.correlation_id)
        delay_ms, outlives = self.proxy.latency_ms, False
        for rule in self._kafka.take_rules(seen.topics):
            delay_ms += rule.request_delay_ms
            outlives = outlives or rule.outlives_client
            exchange.answer_delay_ms += rule.answer_delay_ms
            exchange.loses_answer = exchange.loses_answer or rule.loses_answer
            if rule.error is not None:
                hit = {at: rule.error for at in request.batches if rule.matches(at[0])}
                exchange.refused = hit | exchange.refused
        kept = request.batches.keys() - exchange.refused.keys()
        exchange.forwarded = bool(kept) or not exchange.refused
        if exchange.forwarded:
            forwarded = wire.write_produce_request(request, set(kept)) if exchange.refused else unit
            self.up.put(Parcel(forwarded, delay_ms / 1000, outlives))
        if request.acks != 0:
            self._open.append(exchange)
            self._answer_made_up()

    def _answer_made_up(self) -> None:
        while self._open and not self._open[0].forwarded:
            self._answer(self._open.popleft(), None)

    def _answer(self, exchange: _Exchange, unit: bytes | None) -> None:
        """`unit` is the broker's answer; None when it was never asked."""
        seen = exchange.seen
        if seen.api == Api.PRODUCE:
            if unit is None:
                response = wire.ProduceResponse(exchange.correlation_id, seen.version)
            else:
                response = wire.read_produce_response(unit, seen.version)
            for at, error in exchange.refused.items():
                response.refuse(at, error)
            if exchange.refused or unit is None:
                unit = wire.write_produce_response(response)
            seen = replace(seen, errors=tuple(code for code in response.errors if code))
        elif unit is not None and seen.api == Api.OFFSET_COMMIT:
            codes = wire.read_commit_errors(unit, seen.version)
            seen = replace(seen, errors=tuple(code for code in codes if code))
        self._kafka.note(Side.ANSWER, seen)
        if exchange.loses_answer:
            self.reset()
        elif unit is not None:
            self.down.put(Parcel(unit, (self.proxy.latency_ms + exchange.answer_delay_ms) / 1000))


class KafkaProxy(TcpProxy):
    """`TcpProxy` that knows requests apart. Rules and listeners may be changed at any time from the test."""

    link_type = _KafkaLink

    def __init__(self, target: str, *, port: int | None = None) -> None:
        super().__init__(target, port=port)
        self._changed = threading.Condition()
        self._rules: list[ProduceRule] = []
        self._counts: Counter[tuple[Side, int]] = Counter()
        self._listeners: list[tuple[Side, int, Callable[[Seen], None]]] = []

    @classmethod
    def before(cls, broker: KafkaBroker, way: int = 0) -> Self:
        """In front of one of the broker's proxied listeners; two proxies at once take two ways."""
        listener = broker.proxied[way]
        return cls(listener.bind, port=listener.advertised_port)

    def reject_produce(
        self,
        topics: TopicMatch,
        error: int = ErrorCode.TOPIC_AUTHORIZATION_FAILED,
        *,
        times: int | None = None,
    ) -> ProduceRule:
        """Matching partitions get `error` and never reach the broker; others in the same request do."""
        return self._add(ProduceRule(_matcher(topics), error=int(error), remaining=times))

    def delay_produce(
        self,
        topics: TopicMatch,
        delay_ms: int,
        *,
        side: Side = Side.REQUEST,
        outlives_client: bool = False,
        times: int | None = None,
    ) -> ProduceRule:
        """Holds the request, or its answer, and so all that follows on the same connection.

        A held request is lost when its client dies meanwhile; with `outlives_client` it arrives later.
        """
        rule = ProduceRule(_matcher(topics), outlives_client=outlives_client, remaining=times)
        if side is Side.REQUEST:
            rule.request_delay_ms = delay_ms
        else:
            rule.answer_delay_ms = delay_ms
        return self._add(rule)

    def lose_produce_answer(self, topics: TopicMatch, *, times: int | None = None) -> ProduceRule:
        """The broker has the records, the client sees a broken connection."""
        return self._add(ProduceRule(_matcher(topics), loses_answer=True, remaining=times))

    def remove(self, rule: ProduceRule) -> None:
        with self._changed, contextlib.suppress(ValueError):
            self._rules.remove(rule)

    def clear_rules(self) -> None:
        with self._changed:
            self._rules.clear()

    def on(self, api: Api, call: Callable[[Seen], None], *, side: Side = Side.ANSWER) -> None:
        """Calls back before the bytes go on: an answered commit is durable and its client does not know yet.

        Runs on the proxy's thread and holds up all its traffic: send a signal, set an event, and return.
        """
        with self._changed:
            self._listeners.append((side, api, call))

    def count(self, api: Api, *, side: Side = Side.ANSWER) -> int:
        with self._changed:
            return self._counts[side, api]

    def wait_for(self, api: Api, count: int, *, side: Side = Side.ANSWER, timeout_s: float = 10.0) -> None:
        """Until `count` of them have gone by since the start; TimeoutError otherwise."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._counts[side, api] >= count, timeout_s):
                seen = self._counts[side, api]
                raise TimeoutError(f"{seen} of {count} {api.name} {side.value}s in {timeout_s} s")

    def note(self, side: Side, seen: Seen) -> None:
        """For the links."""
        with self._changed:
            calls = [call for wanted, api, call in self._listeners if (wanted, api) == (side, seen.api)]
        for call in calls:
            call(seen)
        # After the callbacks: whoever waited for the count may rely on them.
        with self._changed:
            self._counts[side, seen.api] += 1
            self._changed.notify_all()

    def take_rules(self, topics: frozenset[str]) -> list[ProduceRule]:
        """For the links: the rules that apply to a request with these topics, each counted as applied."""
        with self._changed:
            applied = [
                rule
                for rule in self._rules
                if rule.remaining != 0 and any(rule.matches(topic) for topic in topics)
            ]
            for rule in applied:
                rule.hits += 1
                if rule.remaining is not None:
                    rule.remaining -= 1
        return applied

    def _add(self, rule: ProduceRule) -> ProduceRule:
        with self._changed:
            self._rules.append(rule)
        return rule


def _matcher(topics: TopicMatch) -> Callable[[str], bool]:
    if isinstance(topics, str):
        name = topics
        return lambda topic: topic == name
    return topics
