"""Presses and commands at the fake Slack reach an app as from Slack: by the SDK's own Socket Mode client, and
as signed POSTs.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qs

import aiohttp
import pytest
from aiohttp import web
from slack_sdk.errors import SlackApiError
from slack_sdk.signature import Clock, SignatureVerifier
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.webhook.async_client import AsyncWebhookClient

from responders.fake_slack import (
    GOOD_APP_TOKEN,
    GOOD_TOKEN,
    OPERATOR,
    VIEWER,
    FakeSlack,
    NoSuchButtonError,
    SocketFault,
    SocketMode,
)

CHANNEL = "C0INCIDENTS"


def page(*actions: str, value: str = "INC-1") -> list[dict[str, Any]]:
    elements = [
        {
            "type": "button",
            "action_id": action,
            "value": value,
            "text": {"type": "plain_text", "text": action.title()},
        }
        for action in actions
    ]
    return [{"type": "actions", "block_id": "act", "elements": elements}]


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    fake = FakeSlack(socket=SocketMode(acknowledge_within_s=30.0, late_s=0.1))
    await fake.start()
    yield fake
    await fake.stop()


class App:
    """An app on Socket Mode: keeps what it is told, and acknowledges with what ``answer`` says."""

    def __init__(self, slack: FakeSlack, session: aiohttp.ClientSession) -> None:
        web_client = AsyncWebClient(base_url=f"{slack.url}/api/", session=session)
        self.client = SocketModeClient(app_token=GOOD_APP_TOKEN, web_client=web_client, ping_interval=0.2)
        self.client.socket_mode_request_listeners.append(self._told)
        self.told: list[SocketModeRequest] = []
        self.answer: Callable[[SocketModeRequest], Any] = lambda _: None
        self.acknowledges = True

    async def _told(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        self.told.append(request)
        if self.acknowledges:
            response = SocketModeResponse(envelope_id=request.envelope_id, payload=self.answer(request))
            await client.send_socket_mode_response(response)


@pytest.fixture
async def apps(slack: FakeSlack) -> AsyncIterator[Callable[[], Any]]:
    made: list[App] = []
    async with aiohttp.ClientSession() as session:

        async def connected() -> App:
            app = App(slack, session)
            await app.client.connect()  # type: ignore[no-untyped-call]
            made.append(app)
            return app

        yield connected
        for app in made:
            await app.client.close()  # type: ignore[no-untyped-call]


@pytest.fixture
async def client(slack: FakeSlack) -> AsyncIterator[AsyncWebClient]:
    async with aiohttp.ClientSession() as session:
        yield AsyncWebClient(GOOD_TOKEN, f"{slack.url}/api/", session=session, retry_handlers=[])


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0.01)


async def test_a_press_reaches_the_app_and_its_answer_the_person(
    slack: FakeSlack, client: AsyncWebClient, apps: Callable[[], Any]
) -> None:
    sent = await client.chat_postMessage(channel="#incidents", text="page", blocks=page("ack", "halt"))
    app = await apps()
    heard = await slack.press("halt", user=VIEWER)
    assert (heard.acknowledged, heard.sent) == (True, 1)
    (request,) = app.told
    assert (request.type, request.accepts_response_payload) == ("interactive", False)
    payload = request.payload
    assert payload["type"] == "block_actions"
    assert payload["user"]["id"] == VIEWER.id
    assert payload["channel"] == {"id": CHANNEL, "name": "incidents"}
    assert payload["container"]["message_ts"] == payload["message"]["ts"] == sent["ts"]
    (action,) = payload["actions"]
    told = {key: action[key] for key in ("type", "action_id", "block_id", "value")}
    assert told == {"type": "button", "action_id": "halt", "block_id": "act", "value": "INC-1"}
    await AsyncWebhookClient(payload["response_url"]).send(text="only an operator may")
    (said,) = slack.ephemerals
    assert (said.user, said.text, said.answers) == (VIEWER.id, "only an operator may", sent["ts"])


async def test_what_a_press_is_acknowledged_with_nobody_reads(
    slack: FakeSlack, client: AsyncWebClient, apps: Callable[[], Any]
) -> None:
    await client.chat_postMessage(channel=CHANNEL, text="page", blocks=page("ack"))
    app = await apps()
    app.answer = lambda _: {"text": "done"}
    assert (await slack.press("ack")).acknowledged
    assert (slack.unheard, slack.ephemerals) == ([{"text": "done"}], [])


async def test_a_command_reaches_the_app_and_is_answered_at_once(
    slack: FakeSlack, apps: Callable[[], Any]
) -> None:
    app = await apps()
    app.answer = lambda request: {"text": f"halting {request.payload['text']}"}
    assert (await slack.command("halt acme/billing")).acknowledged
    (request,) = app.told
    assert (request.type, request.accepts_response_payload) == ("slash_commands", True)
    who = await AsyncWebClient(GOOD_TOKEN, f"{slack.url}/api/").auth_test()
    bot = await AsyncWebClient(GOOD_TOKEN, f"{slack.url}/api/").bots_info(bot=who["bot_id"])
    assert (request.payload["team_id"], request.payload["api_app_id"]) == (
        who["team_id"],
        bot["bot"]["app_id"],
    )
    assert request.payload["command"] == "/watchkeeper"
    assert request.payload["text"] == "halt acme/billing"
    assert request.payload["user_id"] == OPERATOR.id
    assert [(each.user, each.text) for each in slack.ephemerals] == [
        (OPERATOR.id, "halting halt acme/billing")
    ]
    app.answer = lambda _: {"text": "to all", "response_type": "in_channel"}
    await slack.command("status")
    assert [each.text for each in slack.messages] == ["to all"]


async def test_nobody_connected_is_told_to_the_person(slack: FakeSlack) -> None:
    slack.socket.acknowledge_within_s = 0.3
    heard = await slack.command("halt x")
    assert (heard.acknowledged, heard.sent, heard.error) == (False, 0, "dispatch_failed")
    (said,) = slack.ephemerals
    assert (said.from_app, said.text) == (False, "/watchkeeper failed with the error `dispatch_failed`")


async def test_an_envelope_that_is_not_acknowledged_goes_to_another_connection(
    slack: FakeSlack, apps: Callable[[], Any]
) -> None:
    deaf, other = await apps(), await apps()
    deaf.acknowledges = False
    slack.socket.acknowledge_within_s = 2.0
    heard = await slack.command("one")
    assert heard.acknowledged
    told = [request.envelope_id for app in (deaf, other) for request in app.told]
    assert len(other.told) == 1
    assert len(set(told)) == 1
    attempts = [each.get("retry_attempt") for each in slack.socket.envelopes]
    assert attempts == [None, 1][: len(told)]


async def test_one_that_nobody_acknowledges_is_given_up(slack: FakeSlack, apps: Callable[[], Any]) -> None:
    app = await apps()
    app.acknowledges = False
    slack.socket.resends, slack.socket.acknowledge_within_s = 0, 0.3
    heard = await slack.command("lost")
    assert (heard.acknowledged, heard.sent, heard.error) == (False, 1, "operation_timeout")
    assert len(app.told) == 1


async def test_a_connection_lost_before_the_acknowledgement(
    slack: FakeSlack, apps: Callable[[], Any]
) -> None:
    app = await apps()
    (dropped,) = slack.socket.connections
    slack.socket.fail(SocketFault.DROP)
    slack.socket.acknowledge_within_s = 2.0
    heard = await slack.command("again")
    assert dropped not in slack.socket.connections
    assert (heard.acknowledged, heard.sent) == (True, 2)
    assert {request.envelope_id for request in app.told} == {slack.socket.envelopes[0]["envelope_id"]}


async def test_an_envelope_delivered_twice_and_one_late(slack: FakeSlack, apps: Callable[[], Any]) -> None:
    app = await apps()
    slack.socket.fail(SocketFault.TWICE, SocketFault.LATE)
    assert (await slack.command("twice")).acknowledged
    await until(lambda: len(app.told) == 2)
    assert len({request.envelope_id for request in app.told}) == 1
    started = asyncio.get_running_loop().time()
    assert (await slack.command("late")).acknowledged
    assert asyncio.get_running_loop().time() - started >= 0.1


@pytest.mark.parametrize("reason", ["warning", "refresh_requested", "link_disabled"])
async def test_the_client_comes_back_when_it_is_told_to_leave(
    slack: FakeSlack, apps: Callable[[], Any], reason: Any
) -> None:
    await apps()
    (before,) = slack.socket.connections
    await slack.socket.disconnect(reason)
    await until(lambda: any(each is not before for each in slack.socket.connections))
    assert (await slack.command("still there")).acknowledged


async def test_a_client_that_stays_is_cut_off_when_its_time_is_up(slack: FakeSlack) -> None:
    slack.socket.grace_s = 0.1
    async with aiohttp.ClientSession() as session:
        web_client = AsyncWebClient(base_url=f"{slack.url}/api/", session=session)
        opened = await web_client.apps_connections_open(app_token=GOOD_APP_TOKEN)
        async with session.ws_connect(opened["url"]) as socket:
            assert (await socket.receive_json())["type"] == "hello"
            await slack.socket.disconnect("warning")
            told = await socket.receive_json()
            assert (told["type"], told["reason"]) == ("disconnect", "warning")
            assert (await socket.receive(60)).type is aiohttp.WSMsgType.CLOSE
    assert slack.socket.connections == []


async def test_a_connection_that_looks_open_and_is_not_is_left(
    slack: FakeSlack, apps: Callable[[], Any]
) -> None:
    slack.socket.answer_pings = False
    await apps()
    (silent,) = slack.socket.connections
    slack.socket.answer_pings = True
    await until(lambda: any(each is not silent for each in slack.socket.connections))
    assert (await slack.command("still there")).acknowledged


async def test_connections_take_turns_and_ten_are_enough(slack: FakeSlack, apps: Callable[[], Any]) -> None:
    both = [await apps(), await apps()]
    for _ in range(4):
        await slack.command("x")
    assert [len(app.told) for app in both] == [2, 2]
    async with aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {GOOD_APP_TOKEN}"}
        sockets = []
        for _ in range(9):
            opened = await (
                await session.post(f"{slack.url}/api/apps.connections.open", headers=headers)
            ).json()
            sockets.append(await session.ws_connect(opened["url"]))
        assert (await sockets[-1].receive_json())["reason"] == "too_many_websockets"
        hello = await sockets[0].receive_json()
        assert (hello["type"], hello["num_connections"]) == ("hello", 3)
        with pytest.raises(aiohttp.WSServerHandshakeError):  # an address is good once
            await session.ws_connect(opened["url"])
        await asyncio.gather(*(each.close() for each in sockets))


async def test_a_bot_token_opens_no_connection(client: AsyncWebClient) -> None:
    with pytest.raises(SlackApiError, match="not_allowed_token_type"):
        await client.apps_connections_open(app_token=GOOD_TOKEN)


class HttpApp:
    """An app that listens for Slack's POSTs: verifies them, keeps them, answers with ``body``."""

    def __init__(self, secret: str) -> None:
        self.verifier = SignatureVerifier(secret)
        self.forms: list[dict[str, str]] = []
        self.body: dict[str, Any] | None = None
        self.status = 200

    async def take(self, request: web.Request) -> web.Response:
        body = await request.text()
        assert self.verifier.is_valid_request(body, dict(request.headers))
        self.forms.append({key: values[0] for key, values in parse_qs(body).items()})
        if self.status != 200 or self.body is None:
            return web.Response(status=self.status)
        return web.json_response(self.body)


@pytest.fixture
async def http_app(slack: FakeSlack) -> AsyncIterator[HttpApp]:
    app = HttpApp(slack.signing_secret)
    server = web.Application()
    server.router.add_post("/slack/interactions", app.take)
    runner = web.AppRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    slack.events_url = f"http://127.0.0.1:{runner.addresses[0][1]}/slack/interactions"
    yield app
    await runner.cleanup()


async def test_a_press_and_a_command_over_signed_http(
    slack: FakeSlack, client: AsyncWebClient, http_app: HttpApp
) -> None:
    await client.chat_postMessage(channel=CHANNEL, text="page", blocks=page("ack"))
    assert (await slack.press("ack")).acknowledged
    payload = json.loads(http_app.forms[0]["payload"])
    assert payload["actions"][0]["action_id"] == "ack"
    http_app.body = {"text": "nothing is open"}
    assert (await slack.command("status")).acknowledged
    assert (http_app.forms[1]["command"], http_app.forms[1]["text"]) == ("/watchkeeper", "status")
    assert [each.text for each in slack.ephemerals] == ["nothing is open"]
    http_app.status = 500
    assert (await slack.press("ack")).error == "http_500"
    slack.events_url = "http://127.0.0.1:1/"
    assert (await slack.press("ack")).error == "dispatch_failed"
    assert [each.from_app for each in slack.ephemerals] == [True, False, False]


async def test_stale_and_made_up_buttons_can_be_pressed(
    slack: FakeSlack, client: AsyncWebClient, http_app: HttpApp
) -> None:
    sent = await client.chat_postMessage(channel=CHANNEL, text="page", blocks=page("halt"))
    await client.chat_update(channel=CHANNEL, ts=sent["ts"], text="page", blocks=page("resume"))
    with pytest.raises(NoSuchButtonError):
        await slack.press("halt")
    with pytest.raises(NoSuchButtonError):
        await slack.press("halt", slack.messages[0])
    await slack.press("halt", stale=True)
    await slack.press("halt", slack.messages[0], value="INC-999")
    actions = [json.loads(form["payload"])["actions"][0] for form in http_app.forms]
    assert [(each["action_id"], each["value"]) for each in actions] == [
        ("halt", "INC-1"),
        ("halt", "INC-999"),
    ]


async def test_an_answer_replaces_or_deletes_the_message(
    slack: FakeSlack, client: AsyncWebClient, http_app: HttpApp
) -> None:
    await client.chat_postMessage(channel=CHANNEL, text="page", blocks=page("ack"))
    await slack.press("ack")
    hook = AsyncWebhookClient(json.loads(http_app.forms[0]["payload"])["response_url"])
    assert (await hook.send(text="taken", replace_original=True)).status_code == 200
    assert [(each.text, each.blocks, each.edits) for each in slack.messages] == [("taken", [], 1)]
    refused = await hook.send()
    assert (refused.status_code, json.loads(refused.body)["error"]) == (400, "no_text")
    await hook.send_dict({"delete_original": True})
    assert slack.messages == []


async def test_an_answer_has_five_uses_and_half_an_hour(
    slack: FakeSlack, client: AsyncWebClient, http_app: HttpApp
) -> None:
    now = 1_800_000_000.0
    slack.now_s = lambda: now
    http_app.verifier = SignatureVerifier(slack.signing_secret, clock=_Fixed(now))
    await client.chat_postMessage(channel=CHANNEL, text="page", blocks=page("ack"))
    for _ in range(2):
        await slack.press("ack")
    first, second = (
        AsyncWebhookClient(json.loads(form["payload"])["response_url"]) for form in http_app.forms
    )
    said = [await first.send(text=str(n)) for n in range(6)]
    assert [each.status_code for each in said] == [200] * 5 + [404]
    assert json.loads(said[-1].body) == {"ok": False, "error": "used_url"}
    now += 30 * 60 + 1
    late = await second.send(text="late")
    assert json.loads(late.body) == {"ok": False, "error": "expired_url"}
    assert [each.text for each in slack.ephemerals] == list("01234")


class _Fixed(Clock):
    def __init__(self, now_s: float) -> None:
        self._now_s = now_s

    def now(self) -> float:
        return self._now_s
