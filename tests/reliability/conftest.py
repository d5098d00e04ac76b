"""A broker of this folder's own (tests here empty and make anew the contract's topics), and base run G."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from responders.store.migrations import upgrade
from tests.integration.parts.fixtures import *  # noqa: F403 - pytest finds fixtures by their names here
from tests.integration.parts.fixtures import started
from tests.integration.parts.kafka import KafkaBroker
from tests.reliability.bus import Bus
from tests.reliability.outcome import Outcome
from tests.reliability.run import new_run
from tests.reliability.workload import Workload, generate

_NEEDS_KAFKA = {"bus", "base"}
_SEED = 20_261
_HOURS_AGO_MS = 4 * 3_600_000


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _NEEDS_KAFKA & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bus]:
    broker = started(KafkaBroker(tmp_path_factory.mktemp("reliability") / "kafka"))
    try:
        yield Bus(broker)
    finally:
        broker.stop()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A responder's store on either database, empty, with the newest schema."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    if request.param == "postgres":
        url = str(request.getfixturevalue("postgres_url"))
    upgrade(url)
    return url


@pytest.fixture(scope="session")
def workload() -> Workload:
    """20,000 events that end 15 minutes ago."""
    return generate(_SEED, time.time_ns() // 1_000_000 - _HOURS_AGO_MS)


@pytest.fixture(scope="session")
def base(bus: Bus, workload: Workload, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Base run G: one worker, uninterrupted."""
    bus.load(workload)
    with new_run(bus, tmp_path_factory.mktemp("base")) as run:
        run.start()
        return run.finish()
