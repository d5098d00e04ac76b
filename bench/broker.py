"""The one broker that all sides read from: Apache Kafka, the embedded one, or one that is there already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

BrokerKind = Literal["kafka", "embedded"]


@dataclass(frozen=True, slots=True)
class Broker:
    bootstrap: str
    name: str
    embedded: bool


@contextmanager
def running_broker(kind: BrokerKind, bootstrap: str | None, folder: Path) -> Iterator[Broker]:
    """Starts a broker and stops it at the end; with `bootstrap` uses the one there."""
    if bootstrap is not None:
        yield Broker(bootstrap, f"the Kafka at {bootstrap}", embedded=False)
    elif kind == "kafka":
        yield from _kafka(folder)
    else:
        yield from _embedded(folder)


def _kafka(folder: Path) -> Iterator[Broker]:
    from tests.integration.parts.kafka import KafkaBroker
    from tests.integration.parts.kafka_jars import fetch_jars

    version = next(
        (jar.stem.rpartition("-")[2] for jar in fetch_jars().glob("kafka_2.13-*.jar")), "of unknown version"
    )
    with KafkaBroker(folder / "kafka", proxied_listeners=0) as broker:
        yield Broker(broker.bootstrap, f"Apache Kafka {version}", embedded=False)


def _embedded(folder: Path) -> Iterator[Broker]:
    from cli.broker import EmbeddedBroker

    broker = EmbeddedBroker(folder / "embedded")
    broker.start()
    try:
        yield Broker(broker.address, "Tansu (embedded, in memory)", embedded=True)
    finally:
        broker.stop()
