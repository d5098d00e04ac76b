"""From the page in Slack to a signed halt on the bus and back to the page: by Socket Mode, and over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn
from pydantic import SecretStr

from api.app import Parts, make_app
from api.security import Access
from config.settings import Settings, SlackSettings
from responders import keys
from responders.control import ControlPublisher
from responders.fake_slack import (
    GOOD_APP_TOKEN,
    GOOD_TOKEN,
    OPERATOR,
    SIGNING_SECRET,
    VIEWER,
    FakeSlack,
    Fault,
    Posted,
    Refused,
    SocketFault,
)
from responders.handle import Responder
from responders.incident_log import KafkaIncidentLog
from responders.policy import Policy, parse
from responders.sender import Sender
from responders.service import Work, carry_out
from responders.slack.channel import SlackChannel
from responders.slack.front import Front, front_of
from responders.slack.socket_mode import Link, SocketMode
from responders.store import projections
from responders.store.event_store import Store
from schemas.base import epoch_ms
from tests.api.conftest import Remembering
from tests.integration.parts.ports import free_port
from tests.responders.world import Clock, KeptBus, ack_of, detection
from watchkeeper_client.control import Verified, verify

SOON_S = 60.0
POLICY = f"""
[paging]
channels = ["slack:#incidents"]
severities = ["critical"]

[roles.operator]
people = ["{OPERATOR.id}"]
"""


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.02)


@dataclass
class World:
    """A responder that pages the fake Slack; what it publishes is kept."""

    slack: FakeSlack
    at: Responder
    bus: KeptBus
    publisher: ControlPublisher
    settings: Settings
    work: Work
    clock: Clock

    @property
    def page(self) -> Posted:
        return self.slack.messages[0]

    @property
    def text(self) -> str:
        return str(self.page.blocks)

    def buttons(self, message: Posted | None = None) -> list[str]:
        blocks = (message or self.page).blocks
        rows = [block["elements"] for block in blocks if block["type"] == "actions"]
        return [each["action_id"].removeprefix("watchkeeper.") for row in rows for each in row]

    def told(self) -> list[str]:
        return [each.text for each in self.slack.ephemerals]

    def front(self) -> Front:
        return front_of(self.at, self.settings, self.work.arrived)

    def see(self, **changes: Any) -> None:
        self.clock.pass_seconds(1)
        self.at.detection(detection(**changes))
        self.work.arrived()


@pytest.fixture
async def world(sqlite_store: Store, clock: Clock, tmp_path: Path) -> AsyncIterator[World]:
    slack = FakeSlack()
    base_url = await slack.start()
    policy: Policy = parse(POLICY)
    at, bus, work, stop = Responder(sqlite_store, policy, clock), KeptBus(), Work(), asyncio.Event()
    settings = Settings(
        data_dir=tmp_path,
        slack=SlackSettings(
            bot_token=SecretStr(GOOD_TOKEN),
            app_token=SecretStr(GOOD_APP_TOKEN),
            signing_secret=SecretStr(SIGNING_SECRET),
            base_url=base_url,
        ),
    )
    async with aiohttp.ClientSession() as session:
        channel = SlackChannel(GOOD_TOKEN, "#incidents", base_url, session)
        sender = Sender(at, {channel.name: channel}, KafkaIncidentLog(bus))
        sending = asyncio.ensure_future(carry_out(stop, sender, work.outbox, work))
        publisher = ControlPublisher(at, bus, keys.load_or_create(tmp_path))
        yield World(slack, at, bus, publisher, settings, work, clock)
        stop.set()
        work.arrived()
        await sending
    await slack.stop()


@contextlib.asynccontextmanager
async def by_socket_mode(
    world: World, link: Link | None = None, token: str = GOOD_APP_TOKEN
) -> AsyncIterator[Link]:
    link, stop = link or Link(), asyncio.Event()
    front = world.front()
    mode = SocketMode(token, world.settings.slack.base_url, front.serve, link, first_wait_s=0.05)
    running = asyncio.ensure_future(mode.run(stop))
    try:
        yield link
    finally:
        stop.set()
        await asyncio.wait_for(running, SOON_S)


@contextlib.asynccontextmanager
async def over_http(world: World) -> AsyncIterator[None]:
    port, rest = free_port(), Remembering()
    parts = Parts(rest, rest, rest, rest, rest, world.front())
    app = make_app(parts, Access("token", loopback_only=True), slack_signing_secret=SIGNING_SECRET)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", lifespan="off"))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    serving = asyncio.ensure_future(server._serve())
    await until(lambda: server.started)
    world.slack.events_url = f"http://127.0.0.1:{port}/slack/interactions"
    try:
        yield
    finally:
        server.should_exit = True
        await serving


@pytest.mark.parametrize("way", [by_socket_mode, over_http])
async def test_from_the_page_to_a_signed_halt_and_back_to_the_page(world: World, way: Any) -> None:
    async with way(world):
        if way is by_socket_mode:
            await until(lambda: world.slack.socket.connections)
        world.see(suggested=None)
        await until(lambda: world.slack.messages)
        assert world.buttons() == ["acknowledge", "halt", "resolve", "false_alarm"]
        assert (await world.slack.press("watchkeeper.halt", user=VIEWER)).acknowledged
        await until(lambda: "⏳ *Ordered:* billing in session s-1 to halt" in world.text)
        assert world.buttons() == ["acknowledge", "halt", "resume", "resolve", "false_alarm"]
        await world.publisher.run_once()
        (command,) = world.bus.commands()
        trusted = keys.load(world.settings.data_dir).trusted()
        assert isinstance(verify(command, trusted, epoch_ms(world.at.clock())), Verified)
        assert (command["state"]["mode"], command["target"]["session"]) == ("halt", "s-1")
        world.at.ack(ack_of(command, world.at.clock()))
        world.work.arrived()
        await until(lambda: "🛑 *Obeyed:*" in world.text)
        await until(lambda: len(world.told()) == 1)
        assert "is ordered to halt" in world.told()[0]
        await world.slack.press("watchkeeper.resume", user=VIEWER)
        await until(lambda: len(world.told()) == 2)
        assert f"Who may: operator ({OPERATOR.id})" in world.told()[1].replace("<@", "").replace(">", "")
        await world.slack.press("watchkeeper.resume", user=OPERATOR)
        await until(lambda: "▶️ *Released:*" in world.text)
        assert (await world.slack.command("status", user=VIEWER)).acknowledged
        await until(lambda: "billing repeats the same call" in world.told()[-1])
        assert all(each.user in (VIEWER.id, OPERATOR.id) for each in world.slack.ephemerals)
        assert world.slack.unheard == []


async def test_a_stale_button_says_so_and_every_message_is_brought_up_to_date(world: World) -> None:
    async with by_socket_mode(world):
        await until(lambda: world.slack.socket.connections)
        world.see(session=None, detection_id="d-1", suggested=None)
        await until(lambda: len(world.slack.messages) == 1)
        world.see(session=None, detection_id="d-2")
        await until(lambda: len(world.slack.messages) == 2)
        reply = world.slack.messages[1]
        await until(lambda: "approve" in world.buttons() and "approve" in world.buttons(reply))
        await world.slack.press("watchkeeper.resolve", message=reply)
        await until(lambda: not world.buttons() and not world.buttons(reply))
        edits = world.page.edits
        await world.slack.press("watchkeeper.approve", message=world.page, stale=True)
        await until(lambda: len(world.told()) == 2)
        assert "it was resolved by olga (slack:U0OPERATOR)" in world.told()[-1]
        assert world.told()[-1].endswith("ago; nothing was done.")
        await until(lambda: world.page.edits == edits + 1)
        assert world.bus.commands() == []


@pytest.mark.parametrize("fault", list(SocketFault))
async def test_whatever_becomes_of_an_envelope_it_is_done_once(world: World, fault: SocketFault) -> None:
    async with by_socket_mode(world) as link:
        await until(lambda: world.slack.socket.connections)
        world.slack.socket.late_s = 0.2
        world.see(suggested=None)
        await until(lambda: world.slack.messages)
        world.slack.socket.fail(fault)
        await world.slack.press("watchkeeper.halt")
        await until(lambda: "Ordered:" in world.text)
        await until(world.told)
        await asyncio.sleep(0.3)
        assert len(world.told()) == 1
        (row,) = projections.incidents(world.at.store)
        log = projections.incident(world.at.store, row.incident_id).log
        assert [each.type for each in log].count("containment_requested") == 1
        await until(lambda: world.slack.socket.connections)
        assert link.problem == ""


async def test_a_refreshed_and_a_lost_connection_come_back(world: World) -> None:
    async with by_socket_mode(world) as link:
        await until(lambda: world.slack.socket.connections)
        first = world.slack.socket.connections[0]
        world.slack.socket.grace_s = 0.1
        await world.slack.socket.disconnect("refresh_requested")
        await until(lambda: world.slack.socket.connections and first not in world.slack.socket.connections)
        await world.slack.socket.drop()
        await until(lambda: world.slack.socket.connections)
        world.see(suggested=None)
        await until(lambda: world.slack.messages)
        await world.slack.press("watchkeeper.halt")
        await until(lambda: "Ordered:" in world.text)
        assert link.problem == ""


async def test_a_wrong_app_token_is_said_in_one_line_and_pages_go_out(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with by_socket_mode(world, token="xapp-wrong") as link:
        await until(lambda: link.problem)
        assert "set WATCHKEEPER_SLACK__APP_TOKEN" in link.problem
        assert "\n" not in link.problem
        assert "xapp-wrong" not in link.problem + caplog.text
        world.see()
        await until(lambda: world.slack.messages)
        await asyncio.sleep(0.3)
        assert world.slack.calls.count("apps.connections.open") == 1


async def test_a_slack_that_is_gone_is_asked_less_and_less(world: World) -> None:
    world.slack.keep_failing(Fault.SERVER_ERROR, "apps.connections.open")
    async with by_socket_mode(world) as link:
        await until(lambda: link.problem)
        assert "it is tried again" in link.problem
        await asyncio.sleep(0.5)
        assert world.slack.calls.count("apps.connections.open") < 8
        world.slack.heal()
        await until(lambda: world.slack.socket.connections)
        await until(lambda: link.problem == "")


async def test_nothing_of_what_slack_sends_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with by_socket_mode(world):
        await until(lambda: world.slack.socket.connections)
        world.see(suggested=None)
        await until(lambda: world.slack.messages)
        await world.slack.press("watchkeeper.halt")
        await until(world.told)
        world.slack.keep_failing(Refused("link_disabled"), "apps.connections.open")
        await world.slack.socket.drop()
        await asyncio.sleep(0.5)
    # Not what the fake's own server logs.
    logged = "\n".join(each.getMessage() for each in caplog.records if each.name != "aiohttp.access")
    for secret in (GOOD_TOKEN, GOOD_APP_TOKEN, "ticket=", "response_url", "/responses/", "fake-verification"):
        assert secret not in logged
