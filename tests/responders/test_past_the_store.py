"""A store that takes nothing is told past it: once, to all who must know, and it is said when it is over."""

from __future__ import annotations

import asyncio
import doctest
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta

import aiohttp
import pytest

from responders import service
from responders.channels import past_the_store
from responders.effects import Delivered, Outcome, Permanent
from responders.fake_slack import GOOD_TOKEN, FakeSlack, Fault
from responders.handle import Responder
from responders.pages.page import Message
from responders.policy import DEFAULT
from responders.sender import Outgoing
from responders.service import Work
from responders.slack.channel import SlackChannel
from responders.store import progress as progress_module
from responders.store.database import StoreError
from responders.store.event_store import Store
from responders.store.progress import Progress
from tests.responders.test_sender import until
from tests.responders.world import START, Clock, detection

WHY = "the store does not answer (database or disk is full): check the database and its disk"


class Kept:
    """Takes every page, or none."""

    def __init__(self, name: str, outcome: Outcome | None = None) -> None:
        self.name = name
        self.pages: dict[str, Message] = {}
        self.said: list[str] = []
        self._outcome = outcome

    async def send(self, page: Outgoing) -> Outcome:
        if self._outcome is not None:
            return self._outcome
        self.pages[page.key] = page.message
        return Delivered(self.name, page.key)

    async def edit(self, conversation: str, message_id: str, message: Message) -> Outcome:
        self.said.append(message.text)
        return Delivered(conversation, message_id)


@pytest.fixture
async def slack() -> AsyncIterator[tuple[FakeSlack, SlackChannel]]:
    fake = FakeSlack()
    fake.now_s = START.timestamp
    url = await fake.start()
    async with aiohttp.ClientSession() as session:
        yield fake, SlackChannel(GOOD_TOKEN, "#incidents", url, session)
    await fake.stop()


async def test_the_page_says_why_once_an_hour_and_when_it_is_over(
    slack: tuple[FakeSlack, SlackChannel],
) -> None:
    fake, channel = slack
    policy = DEFAULT.with_channels(channel.name)
    fake.fail("chat.postMessage", Fault.ACCEPT_THEN_RESET)
    for minutes in (10, 20):  # two responders, or one that was started anew
        now = START + timedelta(minutes=minutes)
        told = await past_the_store.tell({channel.name: channel}, policy, WHY, now, again_s=0)
    (page,) = fake.messages
    assert "store takes nothing" in str(page.blocks[0])
    assert "disk is full" in str(page.blocks)
    assert "watchkeeper ack" not in str(page.blocks)
    assert not [block for block in page.blocks if block["type"] == "actions"]
    await past_the_store.over(told, WHY, START)
    assert "works again" in page.text
    assert "works again" in str(page.blocks[0])
    await past_the_store.tell({channel.name: channel}, policy, WHY, START + timedelta(hours=1), again_s=0)
    assert len(fake.messages) == 2


async def test_everybody_and_the_fallback_are_told_whoever_fails() -> None:
    kept, broken, fallback = Kept("desk"), Kept("phone", Permanent("gone")), Kept("terminal")
    channels = {each.name: each for each in (kept, broken, fallback)}
    policy = DEFAULT.with_channels("desk", "phone", "not set up")
    told = await past_the_store.tell(channels, policy, WHY, START, again_s=0)
    assert set(told) == {"desk", "terminal"}


@pytest.mark.parametrize(("patience_s", "pages"), [(0.1, 1), (3_600.0, 0)], ids=["long", "short"])
async def test_an_outage_is_told_when_it_lasts_and_a_short_one_is_not(
    patience_s: float, pages: int, sqlite_store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "UNSTORED_S", patience_s)
    monkeypatch.setattr(service, "pause", lambda *_: asyncio.sleep(0.02))
    desk, work, stop = Kept("desk"), Work(), asyncio.Event()
    responder = Responder(sqlite_store, DEFAULT.with_channels("desk"), clock)
    broken, tried = True, 0

    async def step() -> int:
        nonlocal tried
        tried += 1
        if broken:
            raise StoreError(WHY)
        return 1

    watching = asyncio.ensure_future(service._watch_store(stop, responder, {"desk": desk}, work))
    waiting = asyncio.ensure_future(service._patiently(stop, step, work))
    await until(lambda: tried >= 10 and len(desk.pages) == pages)
    assert work.waiting == 1
    broken = False
    assert await waiting == 1
    await until(lambda: len(desk.said) == pages)
    assert work.waiting == 0
    stop.set()
    await watching
    assert len(desk.pages) == pages


async def test_a_store_that_is_locked_is_told_while_its_writers_still_wait(
    sqlite_url: str, sqlite_store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's writers wait for a frozen one in silence, and a database that hangs gives no error either."""
    monkeypatch.setattr(service, "STUCK_S", 0.1)
    monkeypatch.setattr(service, "UNSTORED_S", 0.2)
    monkeypatch.setattr(service, "pause", lambda *_: asyncio.sleep(0.02))
    desk, work, stop = Kept("desk"), Work(), asyncio.Event()
    responder = Responder(sqlite_store, DEFAULT.with_channels("desk"), clock)
    watching = asyncio.ensure_future(service._watch_store(stop, responder, {"desk": desk}, work))
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.ensure_future(asyncio.to_thread(responder.detection, detection()))
        await until(lambda: len(desk.pages) == 1)
        assert not writing.done()
        assert "another process" in str([page.blocks for page in desk.pages.values()])
        other.execute("ROLLBACK")
    assert await writing is not None
    await until(lambda: len(desk.said) == 1)
    stop.set()
    await watching


def test_only_a_transaction_that_the_store_has_answered_is_progress() -> None:
    now = 0.0
    progress = Progress(lambda: now)
    with progress.transaction():
        now = 10.0
        assert progress.stuck_s() == 10.0
        with pytest.raises(ValueError, match="no"), progress.transaction():
            raise ValueError("no")
        assert progress.stuck_s() == 0.0, "who decides against it has been answered"
        now = 30.0
        with pytest.raises(StoreError), progress.transaction():
            raise StoreError(WHY)
        assert progress.stuck_s() == 20.0
    now = 60.0
    assert progress.stuck_s() == 0.0, "nobody waits"
    assert doctest.testmod(progress_module) == (0, 4)
