"""The fixtures over the real parts. A conftest takes them in with `from … import *`; the parts themselves
start once for the whole run, however many conftests do that.

With CI=true a part that cannot run fails the test; elsewhere it is skipped, with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

import pytest

from tests.integration.parts.kafka import KafkaBroker
from tests.integration.parts.kafka_client import Kafka
from tests.integration.parts.kafka_proxy import KafkaProxy
from tests.integration.parts.ports import split_address
from tests.integration.parts.postgres import PostgresServer
from tests.integration.parts.process import PartUnavailableError

__all__ = [
    "kafka",
    "kafka_broker",
    "kafka_proxy",
    "mark_by_parts",
    "new_topic",
    "own_kafka",
    "postgres",
    "postgres_server",
    "postgres_url",
]

EXTERNAL_KAFKA = "WATCHKEEPER_TEST_KAFKA"

_KAFKA_FIXTURES = {"kafka", "kafka_broker", "kafka_proxy", "new_topic", "own_kafka"}
_POSTGRES_FIXTURES = {"postgres", "postgres_server", "postgres_url"}


class Part(Protocol):
    def start(self) -> None: ...


P = TypeVar("P", bound=Part)

_KAFKA = pytest.StashKey[KafkaBroker]()
_POSTGRES = pytest.StashKey[PostgresServer]()


def unavailable(reason: str) -> NoReturn:
    """CI has every part; a skip there would hide that a promise goes untested."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def started(part: P) -> P:
    try:
        part.start()
    except PartUnavailableError as error:
        unavailable(str(error))
    return part


def mark_by_parts(items: list[pytest.Item]) -> None:
    """Tests that use a part carry its mark, so that `-m "not kafka"` finds them all."""
    for item in items:
        names = set(getattr(item, "fixturenames", ()))
        if names & _KAFKA_FIXTURES:
            item.add_marker(pytest.mark.kafka)
        if names & _POSTGRES_FIXTURES:
            item.add_marker(pytest.mark.postgres)


@pytest.fixture(scope="session")
def own_kafka(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> KafkaBroker:
    """The broker of this run, with proxied listeners. It is shared: for kills take `kafka_broker`."""
    if _KAFKA not in pytestconfig.stash:
        broker = started(KafkaBroker(tmp_path_factory.mktemp("kafka")))
        pytestconfig.stash[_KAFKA] = broker
        pytestconfig.add_cleanup(broker.stop)
    return pytestconfig.stash[_KAFKA]


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest) -> Kafka:
    """A broker to use and not to harm: WATCHKEEPER_TEST_KAFKA when set, else the run's own."""
    address = os.environ.get(EXTERNAL_KAFKA)
    if not address:
        own: KafkaBroker = request.getfixturevalue("own_kafka")
        return own
    try:
        split_address(address)
    except ValueError as error:
        pytest.fail(f"{EXTERNAL_KAFKA}: {error}", pytrace=False)
    return Kafka(address)


@pytest.fixture
def new_topic(kafka: Kafka) -> Callable[..., str]:
    """`new_topic(stem="test", partitions=1, config=None)`: a topic nobody else uses, on `kafka`."""
    return kafka.new_topic


@pytest.fixture
def kafka_proxy(own_kafka: KafkaBroker) -> Iterator[KafkaProxy]:
    """In front of `own_kafka`: the engine connects to `kafka_proxy.address`, the test to either."""
    with KafkaProxy.before(own_kafka) as proxy:
        yield proxy


@pytest.fixture
def kafka_broker(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A broker for this test alone, to stop, kill and start."""
    broker = started(KafkaBroker(tmp_path / "kafka"))
    try:
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> PostgresServer:
    """The server of this run. It is shared: for kills take `postgres_server`."""
    if _POSTGRES not in pytestconfig.stash:
        server = PostgresServer()
        pytestconfig.add_cleanup(server.close)
        pytestconfig.stash[_POSTGRES] = started(server)
    return pytestconfig.stash[_POSTGRES]


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """A fresh database's SQLAlchemy URL; the database goes after the test, open sessions or not."""
    name = postgres.new_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture
def postgres_server() -> Iterator[PostgresServer]:
    """A server for this test alone, to stop, kill and start."""
    server = PostgresServer()
    try:
        yield started(server)
    finally:
        server.close()
