"""Reliability 16: Slack limits, breaks, hangs, trickles, answers and forgets, or says no, for minutes on end.

Nothing is lost and nothing is there twice; while Slack takes nothing the second channel is told within 60 s.
What looks in Slack's history is spared: without it a page is rather sent twice than lost (the named window,
`tests/responders/test_slack.py`).
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from pydantic import SecretStr
from sqlalchemy import select

from responders import actions, policy
from responders.channels.webhook import WebhookChannel
from responders.fake_slack import GOOD_TOKEN, FakeSlack, Fault, Refused
from responders.fake_slack.faults import TRANSIENT, AnyFault
from responders.handle import Responder
from responders.incident import Incident, PageStatus, fold
from responders.incident_log import KafkaIncidentLog
from responders.sender import PageChannel, Sender
from responders.service import Work
from responders.slack.channel import SlackChannel
from responders.store import tables
from responders.store.event_store import Store, events_of
from schemas.detection import Detection
from tests.reliability.counts import FULL, count
from tests.responders.receivers import WEBHOOK_SECRET, FakeWebhook
from tests.responders.test_sender import carrying_out
from tests.responders.world import KeptBus, detection

LASTS_S = count(12, 600)
SECOND_CHANNEL_S = 60.0
UNDELIVERED_AFTER_S = count(5, 40)
"""In full as shipped."""
DRAINED_WITHIN_S = 120.0
SLACK_WITHIN_S = 2.0
SHARE = 0.5
SLACK, SECOND = "slack:#incidents", "webhook:ops"
FAULTS: tuple[AnyFault, ...] = (
    *TRANSIENT,
    *map(Refused, ("internal_error", "fatal_error", "service_unavailable", "ratelimited")),
)
DEAD: Mapping[str, AnyFault] = {
    "limited": Fault.RATE_LIMITED,
    "broken": Fault.SERVER_ERROR,
    "mute": Fault.TIME_OUT,
    "cut": Fault.RESET,
    "loris": Fault.ACCEPT_THEN_TRICKLE,
    "forgetful": Fault.ACCEPT_THEN_RESET,
    "refusing": Refused("channel_is_archived"),
}

# Both stores with the tests of the real parts: it is about seconds.
pytestmark = [pytest.mark.postgres, pytest.mark.timeout(1_200)]


def rules() -> policy.Policy:
    text = f"""
        [storm]
        pages_a_minute = 100000
        [paging]
        channels = ["{SLACK}"]
        fallback = "{SECOND}"
        undelivered_after_seconds = {UNDELIVERED_AFTER_S}
    """
    routes = [f'[[route]]\nagents = ["{name}"]\nchannels = ["slack:#{name}"]\n' for name in DEAD]
    return policy.parse(text + "".join(routes))


@dataclass
class Scene:
    """One sender, and every Slack it pages: one for each way to be dead, and one for the mix."""

    responder: Responder
    work: Work
    webhook: FakeWebhook
    slacks: Mapping[str, FakeSlack]
    sent: list[str] = field(default_factory=list)

    async def see(self, agent: str) -> str:
        name = f"d-{len(self.sent)}"
        found: Detection = detection(name, agent=agent, session=f"s-{name}", suggested=None)
        incident = await asyncio.to_thread(self.responder.detection, found)
        assert incident is not None
        self.sent.append(incident.incident_id)
        self.work.arrived()
        return incident.incident_id

    def incidents(self) -> list[Incident]:
        with self.responder.store.reading() as connection:
            ids = connection.execute(select(tables.incidents.c.incident_id)).scalars().all()
            folded = [fold(events_of(connection, each)) for each in ids]
        return [each for each in folded if each is not None]

    def waiting(self) -> list[object]:
        box = tables.outbox
        with self.responder.store.reading() as connection:
            return list(connection.execute(select(box).where(box.c.status.in_(("pending", "claimed")))))

    async def drained(self) -> None:
        deadline = time.monotonic() + DRAINED_WITHIN_S
        while left := await asyncio.to_thread(self.waiting):
            assert time.monotonic() < deadline, left
            await asyncio.sleep(0.2)

    def assert_each_is_there_once(self) -> None:
        wanted = [
            (each.incident_id, page.page, page.channel)
            for each in self.incidents()
            for page in each.pages.values()
            if page.state == "delivered"
        ]
        posted = Counter(
            message.metadata["event_payload"]["page_key"]
            for slack in self.slacks.values()
            for message in slack.messages
            if message.metadata
        )
        assert posted == Counter(f"page:{i}:{p}:{c}" for i, p, c in wanted if c.startswith("slack:"))
        told = Counter(
            each["data"]["incident_id"]
            for each in self.webhook.kept.values()
            if each["type"] == "incident.page"
        )
        assert told == Counter(i for i, _, c in wanted if c == SECOND)


@asynccontextmanager
async def new_scene(database: str) -> AsyncIterator[Scene]:
    store, webhook = Store.open(database), FakeWebhook(hang_s=30)
    await webhook.start()
    slacks = {
        name: FakeSlack(channels={name: f"C0{name.upper()}"}, hang_s=30) for name in (*DEAD, "incidents")
    }
    try:
        async with aiohttp.ClientSession() as session:
            channels: dict[str, PageChannel] = {}
            for name, slack in slacks.items():
                url = await slack.start()
                channels[f"slack:#{name}"] = SlackChannel(
                    GOOD_TOKEN, f"#{name}", url, session, timeout_s=SLACK_WITHIN_S
                )
            responder = Responder(store, rules())
            address, secret = SecretStr(webhook.url), SecretStr(WEBHOOK_SECRET)
            channels[SECOND] = WebhookChannel(SECOND, address, secret, session, responder.clock)
            sender = Sender(responder, channels, KafkaIncidentLog(KeptBus()))
            async with carrying_out(sender) as work:
                timers = asyncio.ensure_future(_fire(responder, work))
                yield Scene(responder, work, webhook, slacks)
                timers.cancel()
    finally:
        for slack in slacks.values():
            await slack.stop()
        await webhook.stop()
        store.close()


async def _fire(responder: Responder, work: Work) -> None:
    while True:
        if await asyncio.to_thread(responder.fire_timers):
            work.arrived()
        await asyncio.sleep(0.2)


def is_told(incident: Incident) -> bool:
    return any(page.state == "delivered" for page in incident.pages.values())


def first_told_s(incident: Incident) -> float:
    """From the request of its first page to the first delivery of it, whatever the channel."""
    pages: list[PageStatus] = [page for page in incident.pages.values() if page.page == "opened"]
    delivered = [page.delivered_at for page in pages if page.delivered_at is not None]
    assert delivered, f"nobody was told of {incident.incident_id}: {pages}"
    return (min(delivered) - min(page.requested_at for page in pages)).total_seconds()


@pytest.mark.parametrize("seed", range(count(1, 2)))
async def test_a_slack_that_fails_in_every_way_gets_each_page_once(seed: int, database: str) -> None:
    chance = random.Random(seed)
    async with new_scene(database) as scene:
        slack = scene.slacks["incidents"]
        slack.fail_at_random(seed, SHARE, FAULTS, methods=("chat.postMessage", "chat.update"))
        acknowledged: set[str] = set()
        until = time.monotonic() + LASTS_S
        while time.monotonic() < until:
            await scene.see(f"agent-{len(scene.sent)}")
            if chance.random() < 0.3:
                taken = chance.choice(scene.sent)
                await asyncio.to_thread(actions.acknowledge, scene.responder, taken, "alice")
                acknowledged.add(taken)
                scene.work.arrived()
            await asyncio.sleep(chance.uniform(0.2, 0.6))
        assert len(slack.faults.met) >= len(FAULTS) * (1.0 if FULL else 0.6), slack.faults.met
        slack.heal()
        await scene.drained()
        scene.assert_each_is_there_once()
        took = [first_told_s(each) for each in scene.incidents()]
        quantiles = statistics.quantiles(took, n=100, method="inclusive")
        print(
            f"{len(took)} incidents, {slack.faults.met.total()} faults of {len(slack.faults.met)} kinds in "
            f"{LASTS_S} s: told after p50 {quantiles[49]:.1f} s, p99 {quantiles[98]:.1f} s, {max(took):.1f} s"
        )
        assert max(took) <= SECOND_CHANNEL_S
        shown = {
            message.metadata["event_payload"]["page_key"].split(":")[1]: str(message.blocks)
            for message in slack.messages
            if message.metadata
        }
        assert all("alice" in shown[incident_id] for incident_id in acknowledged), "an edit was lost"


async def test_while_slack_is_dead_the_second_channel_is_told_in_time(database: str) -> None:
    async with new_scene(database) as scene:
        for name, fault in DEAD.items():
            scene.slacks[name].keep_failing(fault, "chat.postMessage")
        opened = {name: await scene.see(name) for name in DEAD}
        deadline = time.monotonic() + SECOND_CHANNEL_S
        while not {each.agent for each in scene.incidents() if is_told(each)} >= set(DEAD):
            assert time.monotonic() < deadline, f"told: {list(scene.webhook.kept.values())}"
            await asyncio.sleep(0.1)
        took = {each.agent: first_told_s(each) for each in scene.incidents() if each.agent in DEAD}
        print("told on the second channel after " + ", ".join(f"{n}: {s:.1f} s" for n, s in took.items()))
        assert set(took) == set(opened)
        assert max(took.values()) <= SECOND_CHANNEL_S
        for slack in scene.slacks.values():
            slack.heal()
        await scene.drained()
        scene.assert_each_is_there_once()
        arrived = {name for name in DEAD if scene.slacks[name].messages}
        assert arrived == set(DEAD) - {"refusing"}, "what Slack can take again it gets"
