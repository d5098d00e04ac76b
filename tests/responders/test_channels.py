"""One contract for every channel: a page arrives, once, through whatever the other side does; nothing says a
secret.
"""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import aiohttp
import pytest
from pydantic import SecretStr
from rich.console import Console
from sqlalchemy import select

from responders import fake_slack
from responders.channels.alertmanager import AlertmanagerChannel
from responders.channels.apprise_channel import ATTEMPTS, AppriseChannel
from responders.channels.http_channel import ChannelError
from responders.channels.opening import Checked
from responders.channels.pagerduty import PagerDutyChannel
from responders.channels.repeats import repeat_open
from responders.channels.terminal import TerminalChannel
from responders.channels.webhook import WebhookChannel
from responders.decide import Acknowledge, Resolve
from responders.effects import Delivered, Outcome, Permanent, Retryable
from responders.fake_slack import GOOD_TOKEN, FakeSlack
from responders.handle import Responder
from responders.incident_log import KafkaIncidentLog
from responders.pages.page import Message
from responders.policy import DEFAULT
from responders.sender import Outgoing, PageChannel, Sender
from responders.slack.channel import SlackChannel
from responders.store import tables
from responders.store.event_store import Store
from tests.integration.parts.ports import free_port
from tests.responders.receivers import (
    AUTHORIZATION,
    RETRY_AFTER_S,
    ROUTING_KEY,
    WEBHOOK_SECRET,
    FakeAlertmanager,
    FakePagerDuty,
    FakeService,
    FakeWebhook,
    Fault,
    Receiver,
)
from tests.responders.world import ABOUT, START, Clock, KeptBus, detection

LITTLE_S: Final = 1.0
"""The patience of a channel whose other side is to hang."""
BLOCK = {"type": "section", "text": {"type": "mrkdwn", "text": "*billing* loops"}}
MESSAGE = Message("billing loops", (BLOCK,), ABOUT)
BROKEN = (Fault.ACCEPT_THEN_TIME_OUT, Fault.ACCEPT_THEN_RESET, Fault.ACCEPT_THEN_SERVER_ERROR)
NAMES = ("terminal", "slack", "pagerduty", "webhook", "alertmanager", "apprise")
HTTP = NAMES[1:]


@dataclass
class Rig:
    """A channel and who it tells. ``notified`` counts how often a person was called."""

    channel: PageChannel
    notified: Callable[[], int]
    fail: Callable[..., None]
    refused: PageChannel | None
    unreachable: PageChannel | None
    secrets: tuple[str, ...] = ()
    doubles: bool = False


class Rigs:
    """Makes the rig of a name, and ends what it started."""

    def __init__(self, session: aiohttp.ClientSession, clock: Clock) -> None:
        self.session = session
        self.clock = clock
        self.patience_s = 30.0
        self.started: list[Receiver | FakeSlack] = []
        self.nowhere = f"http://127.0.0.1:{free_port()}"

    async def rig(self, name: str) -> Rig:
        rig: Rig = await getattr(self, name)()
        return rig

    async def _receiver(self, receiver: Receiver) -> None:
        await receiver.start()
        self.started.append(receiver)

    async def terminal(self) -> Rig:
        out = io.StringIO()
        channel = TerminalChannel(Console(file=out, width=100))
        return Rig(channel, lambda: out.getvalue().count("╭"), lambda *_: None, None, None)

    async def slack(self) -> Rig:
        fake = FakeSlack(hang_s=30.0)
        url = await fake.start()
        self.started.append(fake)

        def made(token: str, base_url: str) -> SlackChannel:
            return SlackChannel(token, "#incidents", base_url, self.session, timeout_s=self.patience_s)

        def fail(*faults: Fault) -> None:
            fake.retry_after_s = RETRY_AFTER_S
            theirs = [fake_slack.Fault[each.name] for each in faults]
            fake.fail("chat.postMessage", *theirs)

        wrong = "xoxb-wrong-secret"
        return Rig(
            made(GOOD_TOKEN, url),
            lambda: len(fake.messages),
            fail,
            made(wrong, url),
            made(GOOD_TOKEN, f"{self.nowhere}/api/"),
            (wrong, GOOD_TOKEN),
        )

    async def pagerduty(self) -> Rig:
        fake = FakePagerDuty()
        await self._receiver(fake)
        wrong = "f" * 32

        def made(key: str, url: str) -> PagerDutyChannel:
            return PagerDutyChannel("pagerduty:ops", SecretStr(key), url, {}, self.session, self.patience_s)

        return Rig(
            made(ROUTING_KEY, fake.url),
            lambda: fake.notified,
            lambda *faults: fake.faults.extend(faults),
            made(wrong, fake.url),
            made(ROUTING_KEY, self.nowhere),
            (wrong, ROUTING_KEY),
        )

    async def webhook(self) -> Rig:
        fake = FakeWebhook(now=self.clock.now)
        await self._receiver(fake)
        wrong, path = "not the secret of the receiver", "/hook-path-secret"

        def made(secret: str, url: str) -> WebhookChannel:
            address = SecretStr(url + path)
            return WebhookChannel(
                "webhook:ops", address, SecretStr(secret), self.session, self.clock, self.patience_s
            )

        return Rig(
            made(WEBHOOK_SECRET, fake.url),
            lambda: fake.notified,
            lambda *faults: fake.faults.extend(faults),
            made(wrong, fake.url),
            made(WEBHOOK_SECRET, self.nowhere),
            (wrong, WEBHOOK_SECRET, path),
        )

    async def alertmanager(self) -> Rig:
        fake = FakeAlertmanager(now=self.clock.now)
        await self._receiver(fake)
        wrong = "Bearer wrong-secret"

        def made(authorization: str, url: str) -> AlertmanagerChannel:
            return AlertmanagerChannel(
                [url], {}, SecretStr(authorization), self.session, self.clock, self.patience_s
            )

        return Rig(
            made(AUTHORIZATION, fake.url),
            lambda: fake.notified,
            lambda *faults: fake.faults.extend(faults),
            made(wrong, fake.url),
            made(AUTHORIZATION, self.nowhere),
            (wrong, AUTHORIZATION),
        )

    async def apprise(self) -> Rig:
        fake = FakeService()
        await self._receiver(fake)

        def made(url: str, path: str) -> AppriseChannel:
            address = f"{url.replace('http://', 'json://user:apprise-secret@')}/{path}?rto={self.patience_s}"
            return AppriseChannel("apprise:mail", SecretStr(address))

        return Rig(
            made(fake.url, "good"),
            lambda: fake.notified,
            lambda *faults: fake.faults.extend(faults),
            made(fake.url, "bad-path-secret"),
            made(self.nowhere, "good"),
            ("apprise-secret", "bad-path-secret"),
            doubles=True,
        )


def page(key: str = "page:INC-1:opened:somewhere", message: Message = MESSAGE) -> Outgoing:
    return Outgoing(key, message, START, attempts=1, in_doubt=False, thread=None)


@pytest.fixture
async def rigs(clock: Clock) -> AsyncIterator[Rigs]:
    async with aiohttp.ClientSession() as session:
        made = Rigs(session, clock)
        yield made
        for each in made.started:
            await each.stop()


async def until_done(channel: PageChannel, outgoing: Outgoing) -> tuple[Outcome, list[Retryable]]:
    """Sends as the outbox does: again with the doubt the last outcome left. The last and all before it."""
    tried: list[Retryable] = []
    while True:
        outcome = await channel.send(outgoing)
        if not isinstance(outcome, Retryable):
            return outcome, tried
        tried.append(outcome)
        outgoing = replace(outgoing, attempts=outgoing.attempts + 1, in_doubt=outcome.in_doubt)


@pytest.mark.parametrize("name", NAMES)
async def test_a_page_arrives_and_says_where_it_is(rigs: Rigs, name: str) -> None:
    rig = await rigs.rig(name)
    outcome = await rig.channel.send(page())
    assert isinstance(outcome, Delivered)
    assert outcome.conversation
    assert 0 < len(outcome.message) <= 256
    assert rig.notified() == 1
    assert isinstance(await rig.channel.edit(outcome.conversation, outcome.message, MESSAGE), Delivered)


@pytest.mark.parametrize("name", HTTP)
@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.ACCEPT_THEN_TRICKLE])
async def test_a_page_arrives_once_through_any_fault(rigs: Rigs, name: str, fault: Fault) -> None:
    if fault is Fault.ACCEPT_THEN_TIME_OUT:
        rigs.patience_s = LITTLE_S
    rig = await rigs.rig(name)
    rig.fail(fault, fault)
    outcome, tried = await until_done(rig.channel, page())
    assert isinstance(outcome, Delivered)
    assert tried
    # Apprise cannot look whether a notification arrived: then it is doubled rather than lost.
    assert rig.notified() == (3 if rig.doubles and fault in BROKEN else 1)


@pytest.mark.parametrize("name", HTTP)
async def test_what_may_have_happened_is_in_doubt_and_what_cannot_have_is_not(rigs: Rigs, name: str) -> None:
    rigs.patience_s = LITTLE_S
    rig = await rigs.rig(name)
    for fault in (Fault.SERVER_ERROR, *BROKEN):
        rig.fail(fault)
        outcome = await rig.channel.send(page())
        assert isinstance(outcome, Retryable)
        assert outcome.in_doubt, fault
    rig.fail(Fault.RATE_LIMITED)
    outcome = await rig.channel.send(page())
    assert isinstance(outcome, Retryable)
    assert not outcome.in_doubt
    # Apprise does not say what the other side asks for.
    assert outcome.after_ms == (None if rig.doubles else RETRY_AFTER_S * 1000)


@pytest.mark.parametrize("name", HTTP)
async def test_nobody_there_is_tried_again(rigs: Rigs, name: str) -> None:
    rig = await rigs.rig(name)
    assert rig.unreachable is not None
    outcome = await rig.unreachable.send(page())
    assert isinstance(outcome, Retryable)
    assert outcome.in_doubt is rig.doubles


@pytest.mark.parametrize("name", ["pagerduty", "webhook", "alertmanager"])
async def test_an_answer_that_trickles_holds_nobody_up(rigs: Rigs, name: str) -> None:
    rig = await rigs.rig(name)
    rig.fail(Fault.ACCEPT_THEN_TRICKLE)
    async with asyncio.timeout(20):
        assert isinstance(await rig.channel.send(page()), Delivered)


@pytest.mark.parametrize("name", HTTP)
async def test_a_refusal_is_permanent_and_nothing_says_a_secret(
    rigs: Rigs, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    rig = await rigs.rig(name)
    said = []
    with caplog.at_level(logging.DEBUG):
        assert rig.refused is not None
        assert rig.unreachable is not None
        outcome = await rig.refused.send(page())
        assert isinstance(outcome, Permanent)
        rig.fail(Fault.ACCEPT_THEN_RESET)
        for channel in (rig.refused, rig.channel, rig.unreachable):
            answer = await channel.send(page())
            said += [repr(channel), repr(answer)]
            if isinstance(channel, Checked) and name != "slack":
                try:
                    said.append(await channel.check())
                except ChannelError as error:
                    said.append(str(error))
    # What the receivers log of the requests they get is theirs.
    said += [record.getMessage() for record in caplog.records if not record.name.startswith("aiohttp")]
    said.append(outcome.reason)
    assert not any(secret in text for secret in rig.secrets for text in said)


@pytest.mark.parametrize("name", ["pagerduty", "webhook", "alertmanager", "apprise"])
async def test_a_channel_can_be_checked_without_calling_anybody(rigs: Rigs, name: str) -> None:
    rig = await rigs.rig(name)
    assert isinstance(rig.channel, Checked)
    assert await rig.channel.check()
    assert rig.notified() == 0
    if name == "apprise":
        return
    with pytest.raises(ChannelError, match="; check "):
        await rig.unreachable.check()  # type: ignore[union-attr]


# PagerDuty follows the incident


async def test_pagerduty_follows_the_incident_with_one_alert(rigs: Rigs) -> None:
    rig = await rigs.pagerduty()
    (fake,) = rigs.started
    assert isinstance(fake, FakePagerDuty)
    sent = await rig.channel.send(page())
    await rig.channel.send(page("page:INC-1:disobeyed:pagerduty:ops"))
    assert isinstance(sent, Delivered)
    ((alert,),) = fake.alerts.values()
    assert (alert.state, alert.triggers, alert.payload["severity"]) == ("triggered", 2, "critical")
    taken = replace(ABOUT, attended=True, acknowledged_by="alice", acknowledged_at=START)
    over = replace(taken, state="resolved", resolved_at=START)
    for about, state in (
        (ABOUT, "triggered"),
        (taken, "acknowledged"),
        (over, "resolved"),
        (over, "resolved"),
    ):
        assert isinstance(
            await rig.channel.edit(sent.conversation, sent.message, Message("", (), about)), Delivered
        )
        assert alert.state == state
    assert rig.notified() == 1


@pytest.mark.parametrize("state", ["acknowledged", "resolved"])
async def test_pagerduty_wakes_nobody_late_for_what_is_taken_or_over(rigs: Rigs, state: str) -> None:
    rig = await rigs.pagerduty()
    later = START + timedelta(minutes=2)
    about = replace(ABOUT, attended=True, acknowledged_at=later)
    if state == "resolved":
        about = replace(about, state="resolved", resolved_at=later)
    assert isinstance(await rig.channel.send(page(message=Message("", (), about))), Delivered)
    assert rig.notified() == 0


async def test_pagerduty_wakes_for_what_came_after_the_acknowledgement(rigs: Rigs) -> None:
    rig = await rigs.pagerduty()
    about = replace(ABOUT, state="acknowledged", attended=True, acknowledged_at=START - timedelta(minutes=2))
    assert isinstance(await rig.channel.send(page(message=Message("", (), about))), Delivered)
    assert rig.notified() == 1


@pytest.mark.parametrize("fault", [None, Fault.SERVER_ERROR, Fault.ACCEPT_THEN_SERVER_ERROR])
async def test_pagerduty_wakes_for_what_needs_a_person_again(rigs: Rigs, fault: Fault | None) -> None:
    """The alert is acknowledged there, and a trigger that joins it calls nobody."""
    rig = await rigs.pagerduty()
    (fake,) = rigs.started
    assert isinstance(fake, FakePagerDuty)
    sent = await rig.channel.send(page())
    taken = replace(ABOUT, attended=True, acknowledged_by="alice", acknowledged_at=START)
    assert isinstance(sent, Delivered)
    await rig.channel.edit(sent.conversation, sent.message, Message("", (), taken))
    again = replace(taken, attended=False, calls_again=True)
    if fault is not None:
        rig.fail(fault)
    outcome, _ = await until_done(
        rig.channel, page("page:INC-1:again:7:pagerduty:ops", Message("", (), again))
    )
    assert isinstance(outcome, Delivered)
    (alerts,) = fake.alerts.values()
    assert [alert.state for alert in alerts] == ["resolved", "triggered"]
    await rig.channel.send(
        page("page:INC-1:escalated:1:pagerduty:ops", Message("", (), replace(again, calls_again=False)))
    )
    assert (rig.notified(), alerts[1].triggers) == (2, 2)


# Webhooks


async def test_a_webhook_keeps_its_id_when_it_is_sent_again_and_updates_have_their_own(rigs: Rigs) -> None:
    rig = await rigs.webhook()
    (fake,) = rigs.started
    assert isinstance(fake, FakeWebhook)
    rig.fail(Fault.ACCEPT_THEN_RESET)
    await until_done(rig.channel, page())
    rigs.clock.pass_seconds(30)
    sent = await rig.channel.send(page("page:INC-1:raised:webhook:ops"))
    assert isinstance(sent, Delivered)
    for version in (4, 4, 5):
        changed = Message("", (), replace(ABOUT, version=version))
        await rig.channel.edit(sent.conversation, sent.message, changed)
    first, again, raised, *updates = fake.got
    assert first == again != raised == sent.message
    assert updates[0] == updates[1] != updates[2]
    assert len(fake.kept) == 4
    kept = fake.kept[first]
    assert (kept["type"], kept["data"]["incident_id"], kept["data"]["severity"]) == (
        "incident.page",
        "INC-1",
        "critical",
    )


# Alertmanager


def told(rigs: Rigs, responder: Responder, channel: PageChannel) -> Sender:
    return Sender(responder, {channel.name: channel}, KafkaIncidentLog(KeptBus()))


async def test_what_is_open_goes_on_firing_and_what_is_resolved_stops(
    rigs: Rigs, sqlite_store: Store, clock: Clock
) -> None:
    rig = await rigs.alertmanager()
    (fake,) = rigs.started
    assert isinstance(fake, FakeAlertmanager)
    assert isinstance(rig.channel, AlertmanagerChannel)
    responder = Responder(sqlite_store, DEFAULT.with_channels("alertmanager"), clock)
    sender = told(rigs, responder, rig.channel)
    incident = responder.detection(detection())
    responder.detection(detection("d-2", agent="other", session="s-9"))
    assert incident is not None
    await sender.run_once()
    for _ in range(10):
        clock.pass_seconds(rig.channel.repeat_every_s)
        fake.now = clock.now
        assert await repeat_open(responder, rig.channel) == 2
    assert {each["agent"] for each in fake.firing(clock.now)} == {"billing", "other"}
    responder.act(incident.incident_id, "alice", Resolve())
    while await sender.run_once():
        pass
    assert [each["agent"] for each in fake.firing(clock.now)] == ["other"]
    assert await repeat_open(responder, rig.channel) == 1
    assert fake.notified == 2
    clock.pass_seconds(3600)
    assert fake.firing(clock.now) == []


async def test_an_alert_that_became_more_severe_fires_once(rigs: Rigs) -> None:
    rig = await rigs.alertmanager()
    (fake,) = rigs.started
    assert isinstance(fake, FakeAlertmanager)
    before = replace(ABOUT, severity="warning", opened_as="warning")
    await rig.channel.send(page(message=Message("", (), before)))
    assert [each["severity"] for each in fake.firing(START)] == ["warning"]
    rigs.clock.pass_seconds(10)
    await rig.channel.send(page(message=Message("", (), replace(before, severity="critical"))))
    assert [each["severity"] for each in fake.firing(rigs.clock.now)] == ["critical"]


async def test_one_member_of_the_cluster_is_enough(rigs: Rigs) -> None:
    rig = await rigs.alertmanager()
    (fake,) = rigs.started
    assert isinstance(fake, FakeAlertmanager)
    cluster = AlertmanagerChannel(
        [rigs.nowhere, fake.url],
        {"team": "agents"},
        SecretStr(AUTHORIZATION),
        rigs.session,
        rigs.clock,
        rigs.patience_s,
    )
    assert isinstance(await cluster.send(page()), Delivered)
    assert rig.notified() == 1
    assert [each["team"] for each in fake.firing(START)] == ["agents"]


# Apprise


async def test_apprise_says_what_a_page_says_in_plain_text(rigs: Rigs) -> None:
    rig = await rigs.apprise()
    (fake,) = rigs.started
    assert isinstance(fake, FakeService)
    await rig.channel.send(page())
    (note,) = fake.notes
    assert (note["title"], note["message"], note["type"]) == (
        "🔴 billing repeats the same call",
        "billing loops",
        "failure",
    )


async def test_apprise_gives_up_in_the_end(rigs: Rigs) -> None:
    rig = await rigs.apprise()
    assert rig.unreachable is not None
    outcome = await rig.unreachable.send(replace(page(), attempts=ATTEMPTS))
    assert isinstance(outcome, Permanent)


def test_what_apprise_does_not_know_is_said_without_the_url() -> None:
    with pytest.raises(ChannelError, match="apprise:mail") as caught:
        AppriseChannel("apprise:mail", SecretStr("nosuch://user:secret@host"))
    assert "secret" not in str(caught.value)


# In the store


@pytest.mark.parametrize("name", HTTP)
async def test_no_secret_comes_into_the_store(
    rigs: Rigs, sqlite_store: Store, clock: Clock, name: str
) -> None:
    rig = await rigs.rig(name)
    assert rig.refused is not None
    responder = Responder(sqlite_store, DEFAULT.with_channels(rig.refused.name), clock)
    sender = told(rigs, responder, rig.refused)
    incident = responder.detection(detection())
    assert incident is not None
    responder.act(incident.incident_id, "alice", Acknowledge())
    while await sender.run_once():
        pass
    with sqlite_store.reading() as connection:
        rows = (
            connection.execute(select(tables.outbox)).all() + connection.execute(select(tables.events)).all()
        )
    assert "page_failed" in str(rows)
    assert not any(secret in str(rows) for secret in rig.secrets)
