"""A store on SQLite and on PostgreSQL; everything that uses one runs on both."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import event

from responders.fake_slack import GOOD_TOKEN, FakeSlack, Fault
from responders.handle import Responder
from responders.policy import DEFAULT
from responders.slack.channel import SlackChannel
from responders.store.database import make_engine
from responders.store.event_store import Store
from responders.store.migrations import upgrade
from tests.integration.parts.fixtures import *  # noqa: F403 - pytest finds fixtures by their names here
from tests.responders.world import Clock

HANGING = (Fault.TIME_OUT, Fault.ACCEPT_THEN_TIME_OUT, Fault.ACCEPT_THEN_TRICKLE)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store that is up to date, to be copied: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("migrated") / "store.db"
    upgrade(f"sqlite:///{path}")
    return path


def _open(url: str) -> Store:
    engine = make_engine(url)
    if engine.dialect.name == "sqlite":
        # The tests end processes, not machines: the page cache keeps what was written.
        event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous = OFF"))
    return Store(engine)


@pytest.fixture
def sqlite_url(migrated: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(migrated, tmp_path / 'store.db')}"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest) -> str:
    """A fresh database with the newest schema."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    address = str(request.getfixturevalue("postgres_url"))
    upgrade(address)
    return address


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = _open(url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(sqlite_url: str) -> Iterator[Store]:
    opened = _open(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def responder(store: Store, clock: Clock) -> Responder:
    return Responder(store, DEFAULT.with_channels("desk"), clock)


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    """A workspace; it listens once `channel` is asked for."""
    fake = FakeSlack(hang_s=30.0)
    yield fake
    await fake.stop()


@pytest.fixture
async def channel(slack: FakeSlack, request: pytest.FixtureRequest) -> AsyncIterator[SlackChannel]:
    """Its channel #incidents. It has little patience only where the test's `fault` is to hang: a busy machine
    is slow too.
    """
    base_url = await slack.start()
    drawn = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    timeout_s = 1.0 if drawn.get("fault") in HANGING else 30.0
    async with aiohttp.ClientSession() as session:
        yield SlackChannel(GOOD_TOKEN, "#incidents", base_url, session, timeout_s=timeout_s)
