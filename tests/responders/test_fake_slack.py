"""The fake Slack behaves as Slack does: to the SDK's own clients, and when it is asked to fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from responders.fake_slack import (
    EVERY,
    GOOD_APP_TOKEN,
    GOOD_TOKEN,
    OPERATOR,
    TRANSIENT,
    UPLOAD,
    FakeSlack,
    Fault,
    Refused,
)

POST = "chat.postMessage"
CHANNEL = "C0INCIDENTS"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    fake = FakeSlack(hang_s=30.0, trickle_s=0.2)
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def client(slack: FakeSlack) -> AsyncIterator[AsyncWebClient]:
    async with aiohttp.ClientSession() as session:
        yield AsyncWebClient(GOOD_TOKEN, f"{slack.url}/api/", session=session, retry_handlers=[])


async def error_of(call: Any) -> str:
    with pytest.raises(SlackApiError) as caught:
        await call
    return str(caught.value.response["error"])


async def outcome(client: AsyncWebClient, patience_s: float = 30.0) -> str:
    """What came of one post, in a word."""
    try:
        async with asyncio.timeout(patience_s):
            await client.chat_postMessage(channel="#incidents", text="hello")
    except SlackApiError as error:
        data = error.response.data
        return str(data.get("error") if isinstance(data, dict) else error.response.status_code)
    except TimeoutError:
        return "time-out"
    except aiohttp.ClientError:
        return "cut"
    return "ok"


@pytest.mark.parametrize(
    ("fault", "seen", "accepted"),
    [
        (Fault.RATE_LIMITED, "ratelimited", False),
        (Fault.SERVER_ERROR, "500", False),
        (Fault.RESET, "cut", False),
        (Fault.TIME_OUT, "time-out", False),
        (Refused("is_archived"), "is_archived", False),
        (Fault.ACCEPT_THEN_TIME_OUT, "time-out", True),
        (Fault.ACCEPT_THEN_RESET, "cut", True),
        (Fault.ACCEPT_THEN_SERVER_ERROR, "503", True),
        (Fault.ACCEPT_THEN_TRICKLE, "time-out", True),
    ],
)
async def test_each_fault_is_seen_once_and_does_what_it_says(
    slack: FakeSlack, client: AsyncWebClient, fault: Fault | Refused, seen: str, accepted: bool
) -> None:
    slack.fail(POST, fault)
    assert await outcome(client, 1.0 if seen == "time-out" else 30.0) == seen
    assert len(slack.messages) == accepted
    assert await outcome(client) == "ok"
    assert slack.faults.met == {fault: 1}


async def test_a_slow_loris_is_slow_but_whole(slack: FakeSlack) -> None:
    slack.trickle_s = 0.002
    slack.fail("auth.test", Fault.ACCEPT_THEN_TRICKLE)
    started = time.monotonic()
    headers = {"Authorization": f"Bearer {GOOD_TOKEN}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        answer = await session.post(f"{slack.url}/api/auth.test")
        headers_s = time.monotonic() - started
        body = await answer.read()
    assert b'"team": "Fake"' in body
    assert time.monotonic() - started >= len(body) * 0.002
    assert headers_s < time.monotonic() - started


async def test_a_fault_stands_until_healed(slack: FakeSlack, client: AsyncWebClient) -> None:
    slack.keep_failing(Refused("fatal_error"))
    slack.keep_failing(Fault.SERVER_ERROR, POST)
    assert [await outcome(client) for _ in range(3)] == ["500"] * 3
    assert await error_of(client.auth_test()) == "fatal_error"
    slack.heal()
    assert await outcome(client) == "ok"


async def test_the_random_mix_is_the_seeds(slack: FakeSlack, client: AsyncWebClient) -> None:
    faults = (Fault.SERVER_ERROR, Refused("fatal_error"))

    async def run(seed: int) -> list[str]:
        slack.fail_at_random(seed, 0.5, faults, methods=(POST,))
        return [await outcome(client) for _ in range(40)]

    first, second, other = await run(1), await run(1), await run(2)
    assert first == second != other
    assert {"ok", "500", "fatal_error"} == set(first)
    assert (await client.auth_test())["ok"]
    slack.heal()
    assert await outcome(client) == "ok"
    assert Fault.REFUSED not in TRANSIENT
    assert EVERY not in slack.calls


@pytest.mark.parametrize(
    ("token", "method", "error"),
    [
        ("", "auth.test", "not_authed"),
        ("xoxb-wrong", "auth.test", "invalid_auth"),
        (GOOD_APP_TOKEN, "chat.postMessage", "not_allowed_token_type"),
        (GOOD_TOKEN, "apps.connections.open", "not_allowed_token_type"),
        ("xapp-wrong", "apps.connections.open", "invalid_auth"),
        (GOOD_TOKEN, "no.such", "unknown_method"),
    ],
)
async def test_the_right_token_for_each_method(slack: FakeSlack, token: str, method: str, error: str) -> None:
    async with aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = await session.post(f"{slack.url}/api/{method}", headers=headers)
        assert await answer.json() == {"ok": False, "error": error}


async def test_the_sdk_uploads_a_file_into_a_thread(slack: FakeSlack, client: AsyncWebClient) -> None:
    root = await client.chat_postMessage(channel="#incidents", text="a page")
    sent = await client.files_upload_v2(
        file=PNG,
        filename="signal.png",
        title="Errors a minute",
        alt_txt="A line that jumps",
        channel=CHANNEL,
        thread_ts=root["ts"],
        initial_comment="the signal",
    )
    assert sent["file"]["title"] == "Errors a minute"
    (file,) = slack.files
    assert (file.content, file.alt_text) == (PNG, "A line that jumps")
    thread = (await client.conversations_replies(channel=CHANNEL, ts=root["ts"]))["messages"]
    assert [each["text"] for each in thread] == ["a page", "the signal"]
    (told,) = thread[1]["files"]
    assert (told["id"], told["name"], told["title"]) == (file.id, "signal.png", "Errors a minute")
    async with aiohttp.ClientSession() as session:
        answer = await session.get(told["url_private"])
        assert (answer.content_type, await answer.read()) == ("image/png", PNG)
    assert slack.calls.count(UPLOAD) == 1
    history = (await client.conversations_history(channel=CHANNEL))["messages"]
    assert [each["text"] for each in history] == ["a page"]


async def test_what_slack_does_not_take_of_a_file(slack: FakeSlack, client: AsyncWebClient) -> None:
    for length in (0, -1):
        call = client.files_getUploadURLExternal(filename="a.png", length=length)
        assert await error_of(call) == "invalid_arguments"
    asked = await client.files_getUploadURLExternal(filename="a.png", length=3)
    files: list[dict[str, str | None]] = [{"id": asked["file_id"], "title": "A"}]
    complete = client.files_completeUploadExternal
    assert await error_of(complete(files=files, channel_id=CHANNEL)) == "file_not_found"
    async with aiohttp.ClientSession() as session:
        assert (await session.post(asked["upload_url"], data=b"four")).status == 400
        assert (await session.post(f"{slack.url}/upload/v1/F1", data=b"abc")).status == 404
        slack.fail(UPLOAD, Fault.SERVER_ERROR)
        assert (await session.post(asked["upload_url"], data=b"abc")).status == 500
        assert slack.files[0].content is None
        assert (await session.post(asked["upload_url"], data=b"abc")).status == 200
    assert await error_of(complete(files=files, channel_id="incidents")) == "channel_not_found"
    assert await error_of(complete(files=files, channel_id=CHANNEL, thread_ts="1.0")) == "thread_not_found"
    assert await error_of(complete(files=[])) == "invalid_arguments"
    assert await error_of(client.api_call("files.upload")) == "method_deprecated"
    assert slack.messages == []
    assert (await complete(files=files, channel_id=CHANNEL))["files"][0]["title"] == "A"
    assert [each.files for each in slack.messages] == [slack.files]


async def test_a_reply_is_in_the_channel_only_when_it_was_sent_there_too(
    slack: FakeSlack, client: AsyncWebClient
) -> None:
    root = await client.chat_postMessage(channel=CHANNEL, text="root")
    ts = root["ts"]
    await client.chat_postMessage(channel=CHANNEL, text="aside", thread_ts=ts)
    await client.chat_postMessage(channel=CHANNEL, text="loud", thread_ts=ts, reply_broadcast=True)
    history = (await client.conversations_history(channel=CHANNEL))["messages"]
    assert [each["text"] for each in history] == ["loud", "root"]
    replies = await client.conversations_replies(channel=CHANNEL, ts=ts, limit=2)
    assert [each["text"] for each in replies["messages"]] == ["root", "aside"]
    cursor = replies["response_metadata"]["next_cursor"]
    rest = await client.conversations_replies(channel=CHANNEL, ts=ts, limit=2, cursor=cursor)
    assert [each["text"] for each in rest["messages"]] == ["loud"]
    assert await error_of(client.conversations_replies(channel=CHANNEL, ts="1.0")) == "thread_not_found"


async def test_people_are_known_and_told_things_alone(slack: FakeSlack, client: AsyncWebClient) -> None:
    told = (await client.users_info(user=OPERATOR.id))["user"]
    assert (told["name"], told["real_name"]) == (OPERATOR.name, OPERATOR.real_name)
    assert told["profile"]["email"] == OPERATOR.email
    assert await error_of(client.users_info(user="U0NOBODY")) == "user_not_found"
    await client.chat_postEphemeral(channel=CHANNEL, user=OPERATOR.id, text="only you")
    assert [(each.user, each.text) for each in slack.ephemerals] == [(OPERATOR.id, "only you")]
    assert slack.messages == []
    call = client.chat_postEphemeral(channel=CHANNEL, user="U0NOBODY", text="x")
    assert await error_of(call) == "user_not_in_channel"


async def test_time_stamps_are_unique_and_rise(slack: FakeSlack, client: AsyncWebClient) -> None:
    slack.now_s = lambda: 1_800_000_000.0
    await asyncio.gather(*(client.chat_postMessage(channel=CHANNEL, text=str(n)) for n in range(20)))
    stamps = [each.ts for each in slack.messages]
    assert stamps == sorted(set(stamps))
    assert stamps[0] == "1800000000.000000"
