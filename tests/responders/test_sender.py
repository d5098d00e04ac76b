"""One channel that hangs holds up nobody else: not another channel, not the log, not the store."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from responders import keys
from responders.control import ControlPublisher
from responders.decide import AddNote
from responders.effects import Delivered, Outcome, Retryable
from responders.handle import Responder
from responders.incident_log import KafkaIncidentLog
from responders.pages.page import Message
from responders.policy import DEFAULT, Owner, Policy
from responders.sender import Outgoing, PageChannel, Sender
from responders.service import POLL_MS, STOP_WITHIN_S, Work, carry_out
from responders.store import projections
from responders.store.event_store import Store
from responders.store.outbox import LEASE_MS, RENEW_MS
from tests.responders.world import Clock, KeptBus, detection

SOON_S = 60.0
INCIDENTS = 12


@dataclass
class Stub:
    """A channel that takes pages, or hangs until ``open`` is set."""

    name: str
    open: asyncio.Event = field(default_factory=asyncio.Event)
    got: list[str] = field(default_factory=list)
    edits: int = 0
    at_once: int = 0
    most_at_once: int = 0

    async def send(self, page: Outgoing) -> Outcome:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.open.wait()
        finally:
            self.at_once -= 1
        self.got.append(page.key)
        return Delivered(self.name, page.key)

    async def edit(self, conversation: str, message_id: str, message: Message) -> Outcome:
        await self.open.wait()
        self.edits += 1
        return Delivered(conversation, message_id)


@asynccontextmanager
async def carrying_out(sender: Sender) -> AsyncIterator[Work]:
    work, stop = Work(), asyncio.Event()
    task = asyncio.ensure_future(carry_out(stop, sender, work.outbox, work))
    try:
        yield work
    finally:
        stop.set()
        work.arrived()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)


def pages_to(*channels: str) -> Policy:
    storm = DEFAULT.storm.model_copy(update={"pages_a_minute": 1000})
    return DEFAULT.with_channels(*channels).model_copy(update={"storm": storm})


def opened(responder: Responder, number: int) -> None:
    responder.detection(detection(f"d-{number}", agent=f"agent-{number}", session=f"s-{number}"))


@pytest.fixture
def stuck() -> Stub:
    return Stub("stuck")


@pytest.fixture
def quick() -> Stub:
    channel = Stub("quick")
    channel.open.set()
    return channel


def world(
    store: Store, clock: Clock, channels: Mapping[str, PageChannel], **limits: Any
) -> tuple[Responder, KeptBus, Sender]:
    responder, bus = Responder(store, pages_to(*channels), clock), KeptBus()
    return responder, bus, Sender(responder, channels, KafkaIncidentLog(bus), **limits)


async def test_a_channel_that_hangs_holds_up_no_other(
    sqlite_store: Store, clock: Clock, stuck: Stub, quick: Stub
) -> None:
    responder, bus, sender = world(sqlite_store, clock, {"stuck": stuck, "quick": quick})
    async with carrying_out(sender) as work:
        for number in range(INCIDENTS):
            await asyncio.to_thread(opened, responder, number)
            work.arrived()
        await until(lambda: len(quick.got) == INCIDENTS)
        await until(lambda: len({event["incident_id"] for event in bus.log()}) == INCIDENTS)
        assert stuck.got == []
        stuck.open.set()
        await until(lambda: len(stuck.got) == INCIDENTS)
    assert len(set(quick.got)) == len(set(stuck.got)) == INCIDENTS
    assert stuck.most_at_once < INCIDENTS / 2


async def test_commands_do_not_wait_for_pages(
    sqlite_store: Store, clock: Clock, stuck: Stub, tmp_path: Path
) -> None:
    responder, bus, sender = world(sqlite_store, clock, {"stuck": stuck})
    publisher = ControlPublisher(responder, bus, keys.load_or_create(tmp_path))
    async with carrying_out(sender) as work:
        for number in range(INCIDENTS):
            await asyncio.to_thread(opened, responder, number)
            work.arrived()
            assert await asyncio.wait_for(publisher.run_once(), SOON_S) == 1
        assert stuck.got == []


async def test_a_channel_that_never_answers_is_given_up_in_doubt_and_asked_again(
    sqlite_store: Store, clock: Clock, stuck: Stub
) -> None:
    responder, _, sender = world(sqlite_store, clock, {"stuck": stuck}, send_within_s=0.05)
    opened(responder, 1)
    await sender.run_once()
    stuck.open.set()
    seen: list[bool] = []
    taken = stuck.send

    async def noting(page: Outgoing) -> Outcome:
        seen.append(page.in_doubt)
        return await taken(page)

    stuck.send = noting  # type: ignore[method-assign]
    clock.pass_seconds(1)
    await sender.run_once()
    assert (seen, len(stuck.got)) == ([True], 1)


async def test_a_channel_gets_as_many_pages_a_minute_as_the_policy_allows(
    sqlite_store: Store, clock: Clock, quick: Stub
) -> None:
    policy = pages_to("quick").model_copy(update={"pacing": {"quick": 3}})
    sender = Sender(Responder(sqlite_store, policy, clock), {"quick": quick}, KafkaIncidentLog(KeptBus()))
    for number in range(7):
        opened(Responder(sqlite_store, policy, clock), number)
    taken = []
    for _ in range(4):
        while await sender.run_once():
            pass
        taken.append(len(quick.got))
        clock.pass_seconds(60)
    assert taken == [3, 6, 7, 7]
    assert set(Counter(quick.got).values()) == {1}


async def test_a_row_stays_with_the_sender_that_works_on_it_and_goes_on_when_that_is_frozen(
    sqlite_store: Store, clock: Clock, stuck: Stub
) -> None:
    responder, _, sender = world(sqlite_store, clock, {"stuck": stuck})
    _, _, other = world(sqlite_store, clock, {"stuck": (taken_over := Stub("stuck"))})
    opened(responder, 1)
    await sender.start_due(lambda: None)
    for _ in range(10):
        clock.pass_seconds(LEASE_MS / 2_000)
        assert await sender.start_due(lambda: None) == 0
        assert await other.start_due(lambda: None) == 0
    clock.pass_seconds(LEASE_MS / 1_000 + 1)
    assert await other.start_due(lambda: None) > 0
    await asyncio.sleep(0)
    taken_over.open.set()
    await other.finish()
    stuck.open.set()
    await sender.finish()
    assert len(taken_over.got) == 1
    incident = projections.incidents(sqlite_store)[0]
    view = projections.incident(sqlite_store, incident.incident_id)
    assert [event.type for event in view.log].count("page_delivered") == 1


async def test_a_sender_that_wakes_after_its_lease_does_not_send(
    sqlite_store: Store, clock: Clock, quick: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    responder, _, sender = world(sqlite_store, clock, {"quick": quick})
    opened(responder, 1)
    view = sender._view

    def frozen_then(incident_id: str) -> object:
        clock.pass_seconds(LEASE_MS / 1_000)
        return view(incident_id)

    monkeypatch.setattr(sender, "_view", frozen_then)
    await sender.run_once()
    assert quick.got == []
    monkeypatch.setattr(sender, "_view", view)
    clock.pass_seconds(1)
    await sender.run_once()
    assert len(quick.got) == 1


async def test_an_edit_that_may_have_arrived_is_made_again_though_the_page_says_the_same_by_now(
    sqlite_store: Store, clock: Clock, quick: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slack has shown something else meanwhile, and the store does not know."""
    responder, _, sender = world(sqlite_store, clock, {"quick": quick})
    opened(responder, 1)
    while await sender.run_once():
        pass
    (row,) = projections.incidents(sqlite_store)
    shown: list[Outcome] = [Retryable("no answer", in_doubt=True), Delivered()]
    texts: list[str] = []

    async def edit(conversation: str, message_id: str, message: Message) -> Outcome:
        texts.append(str(message.blocks))
        return shown.pop(0)

    monkeypatch.setattr(quick, "edit", edit)
    before = responder.policy
    responder.policy = before.model_copy(update={"owner": (Owner(agents={"*"}, owner="night shift"),)})
    responder.act(row.incident_id, "ana", AddNote("looking"))
    while await sender.run_once():
        pass
    responder.policy = before
    clock.pass_seconds(60)
    while await sender.run_once():
        pass
    assert ["night shift" in text for text in texts] == [True, False]


def test_another_responder_takes_over_within_a_quarter_of_a_minute() -> None:
    assert LEASE_MS + POLL_MS <= 15_000 - 2_000
    assert RENEW_MS + STOP_WITHIN_S * 1_000 < LEASE_MS
