"""The fake Slack's web page: what is posted is shown, escaped; its buttons and its command box work."""

from __future__ import annotations

import asyncio
import doctest
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from slack_sdk.web.async_client import AsyncWebClient

from responders.fake_slack import GOOD_TOKEN, OPERATOR, VIEWER, FakeSlack, SocketMode, faults, mrkdwn

CHANNEL = "C0INCIDENTS"
PNG = b"\x89PNG\r\n\x1a\n..."
EVIL = '<img src=x onerror="alert(1)">'


@pytest.fixture
async def slack() -> AsyncIterator[FakeSlack]:
    fake = FakeSlack(socket=SocketMode(acknowledge_within_s=0.05))
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def client(slack: FakeSlack) -> AsyncIterator[AsyncWebClient]:
    async with aiohttp.ClientSession() as session:
        yield AsyncWebClient(GOOD_TOKEN, f"{slack.url}/api/", session=session, retry_handlers=[])


@pytest.fixture
async def browser(slack: FakeSlack) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(slack.url) as session:
        yield session


def text(words: str, kind: str = "mrkdwn") -> dict[str, Any]:
    return {"type": kind, "text": words}


CONFIRM = {
    "title": text("Halt billing?", "plain_text"),
    "text": text("It stops *now*."),
    "confirm": text("Halt it", "plain_text"),
    "deny": text("Not now", "plain_text"),
}
BLOCKS: list[dict[str, Any]] = [
    {"type": "header", "text": text(":rotating_light: billing loops", "plain_text")},
    {
        "type": "section",
        "text": text("*bold* _italic_ ~gone~ `a &lt; b`\nnext <https://example.com/a?b=1|runbook>"),
    },
    {"type": "section", "fields": [text("*Agent*\nbilling"), text(f"<@{OPERATOR.id}>")]},
    {"type": "divider"},
    {"type": "context", "elements": [text("INC-1 &amp; more")]},
    {"type": "image", "image_url": "https://example.com/x.png", "alt_text": "a line"},
    {
        "type": "actions",
        "elements": [
            {
                "type": "button",
                "action_id": "ack",
                "value": "INC-1",
                "text": text("Acknowledge", "plain_text"),
            },
            {
                "type": "button",
                "action_id": "halt",
                "value": "INC-1",
                "style": "danger",
                "confirm": CONFIRM,
                "text": text("Halt", "plain_text"),
            },
        ],
    },
]


async def page(browser: aiohttp.ClientSession, path: str = "/") -> str:
    answer = await browser.get(path)
    assert answer.status == 200
    return await answer.text()


async def test_a_page_is_shown_as_slack_would(client: AsyncWebClient, browser: aiohttp.ClientSession) -> None:
    assert "Nothing has been posted yet." in await page(browser)
    root = await client.chat_postMessage(channel=CHANNEL, text="notification", blocks=BLOCKS)
    await client.chat_postMessage(channel=CHANNEL, text="in the thread", thread_ts=root["ts"])
    await client.files_upload_v2(
        file=PNG, filename="signal.png", title="Calls a minute", channel=CHANNEL, thread_ts=root["ts"]
    )
    await client.chat_update(channel=CHANNEL, ts=root["ts"], text="notification", blocks=BLOCKS)
    shown = await page(browser)
    for part in (
        "# incidents",
        "<h2>🚨 billing loops</h2>",
        "<b>bold</b> <i>italic</i> <s>gone</s> <code>a &lt; b</code><br>next",
        '<a href="https://example.com/a?b=1">runbook</a>',
        "<div><b>Agent</b><br>billing</div>",
        f'<span class="mention">@{OPERATOR.real_name}</span>',
        "<hr>",
        "<span>INC-1 &amp; more</span>",
        '<img src="https://example.com/x.png" alt="a line">',
        '<button class="button ">Acknowledge</button>',
        '<summary class="button danger">Halt</summary>',
        "<p>It stops <b>now</b>.</p>",
        '<button class="button primary">Halt it</button>',
        "(edited)",
        "in the thread",
        "Calls a minute",
    ):
        assert part in shown
    assert "notification" not in shown, "the text is for notifications, where there are blocks"
    assert shown.index('class="thread"') < shown.index("in the thread")
    files = [part.split('"')[0] for part in shown.split('src="')[1:] if part.startswith("/files/")]
    assert await (await browser.get(files[0])).read() == PNG


async def test_a_reply_that_was_sent_to_the_channel_is_shown_once(
    client: AsyncWebClient, browser: aiohttp.ClientSession
) -> None:
    root = await client.chat_postMessage(channel=CHANNEL, text="root")
    thread = {"channel": CHANNEL, "thread_ts": root["ts"]}
    loud = await client.chat_postMessage(**thread, text="to all", reply_broadcast=True)
    shown = await page(browser)
    assert shown.count("to all") == 1
    assert shown.index('class="thread"') < shown.index(f'href="#m{loud["ts"]}"') < shown.index("to all")


async def test_nothing_that_is_posted_becomes_part_of_the_page(
    slack: FakeSlack, client: AsyncWebClient, browser: aiohttp.ClientSession
) -> None:
    evil: list[dict[str, Any]] = [
        {"type": "header", "text": text(EVIL, "plain_text")},
        {"type": "section", "text": text(f"{EVIL} *{EVIL}* `{EVIL}` ```{EVIL}``` <javascript:alert(1)|go>")},
        {
            "type": "actions",
            "elements": [
                {
                    "type": "button",
                    "action_id": '"><script>',
                    "value": '"><script>',
                    "text": text(EVIL, "plain_text"),
                },
                {"type": "button", "url": "javascript:alert(1)", "text": text("link", "plain_text")},
            ],
        },
    ]
    await client.chat_postMessage(channel=CHANNEL, text=EVIL, blocks=evil)
    await client.chat_postMessage(channel=CHANNEL, text=EVIL)
    await client.chat_postEphemeral(channel=CHANNEL, user=VIEWER.id, text=EVIL)
    await slack.command(EVIL)
    answer = await browser.get("/")
    shown = await answer.text()
    assert "onerror" in shown
    assert "<img src=x" not in shown
    assert "<script>" not in shown
    assert 'href="javascript' not in shown
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for name in ("channel.css", "live.js"):
        assert (await browser.get(f"/static/{name}")).status == 200
    for path in ("/static/page.py", "/static/..%2Fpage.py", "/?channel=nowhere", "/?as=U0NOBODY"):
        assert (await browser.get(path)).status == 404


@pytest.fixture
async def told(slack: FakeSlack) -> AsyncIterator[list[dict[str, Any]]]:
    """What an app behind `events_url` is told; it answers commands."""
    forms: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        forms.append(dict(await request.post()))
        return web.Response(text="as you wish" if "command" in forms[-1] else "")

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    slack.events_url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield forms
    await runner.cleanup()


async def test_buttons_and_the_command_box_reach_the_app(
    client: AsyncWebClient, browser: aiohttp.ClientSession, told: list[dict[str, Any]]
) -> None:
    sent = await client.chat_postMessage(channel=CHANNEL, text="page", blocks=BLOCKS)
    form = {"channel": CHANNEL, "ts": sent["ts"], "action_id": "halt", "value": "INC-1"}
    answer = await browser.post("/press", data={**form, "as": VIEWER.id})
    assert (answer.status, answer.url.query["as"]) == (200, VIEWER.id)
    payload = json.loads(told[0]["payload"])
    assert (payload["user"]["id"], payload["actions"][0]["action_id"]) == (VIEWER.id, "halt")
    answer = await browser.post(
        "/command", data={"channel": "incidents", "as": OPERATOR.id, "text": " /watchkeeper halt billing "}
    )
    assert told[1]["text"] == "halt billing"
    shown = await answer.text()
    assert "as you wish" in shown
    assert f"Only {OPERATOR.real_name} sees this" in shown


@pytest.mark.parametrize(
    ("changed", "headers", "status"),
    [
        ({"ts": "1.0"}, {}, 404),
        ({"as": "U0NOBODY"}, {}, 404),
        ({}, {"Origin": "http://evil.example"}, 403),
    ],
)
async def test_what_is_not_there_and_what_comes_from_elsewhere_is_refused(
    client: AsyncWebClient,
    browser: aiohttp.ClientSession,
    told: list[dict[str, Any]],
    changed: dict[str, str],
    headers: dict[str, str],
    status: int,
) -> None:
    sent = await client.chat_postMessage(channel=CHANNEL, text="page", blocks=BLOCKS)
    form = {"channel": CHANNEL, "ts": sent["ts"], "action_id": "halt", "as": OPERATOR.id} | changed
    assert (await browser.post("/press", data=form, headers=headers)).status == status
    if headers or "as" in changed:
        assert (await browser.post("/command", data=form, headers=headers)).status == status
    assert told == []


async def test_the_page_hears_of_changes(
    slack: FakeSlack, client: AsyncWebClient, browser: aiohttp.ClientSession
) -> None:
    async with browser.get(f"/live?since={slack.revision}") as live:
        assert live.content_type == "text/event-stream"
        waiting = asyncio.ensure_future(live.content.readline())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await client.chat_postMessage(channel=CHANNEL, text="news")
        assert await asyncio.wait_for(waiting, 60) == b"data: 1\n"


async def test_an_app_that_is_not_there_is_told_on_the_page(
    slack: FakeSlack, client: AsyncWebClient, browser: aiohttp.ClientSession
) -> None:
    await client.chat_postMessage(channel=CHANNEL, text="page", blocks=BLOCKS)
    await slack.press("ack")
    shown = await page(browser)
    assert "The button ack failed with the error <code>dispatch_failed</code>" in shown
    assert "from Slack itself" in shown


@pytest.mark.parametrize(
    ("words", "html"),
    [
        ("a_snake_case 2*3*4 :no_such_name: 10:30:45", "a_snake_case 2*3*4 :no_such_name: 10:30:45"),
        ("*a _b_*", "<b>a <i>b</i></b>"),
        ("&gt; quoted\n&gt; on\nafter", "<blockquote>quoted<br>on</blockquote>after"),
        ("```a < b\n*x*```", "<pre>a &lt; b\n*x*</pre>"),
        ("`*x*`", "<code>*x*</code>"),
        (
            "see https://example.com/a?b=1&amp;c=2.",
            'see <a href="https://example.com/a?b=1&amp;c=2">https://example.com/a?b=1&amp;c=2</a>.',
        ),
        ("<mailto:a@example.com>", '<a href="mailto:a@example.com">a@example.com</a>'),
        ("<!here> <#C1|general>", '<span class="mention">@here</span> <span class="mention">#general</span>'),
        ("<b>", "&lt;b&gt;"),
        ("&amp;lt;", "&amp;lt;"),
    ],
)
def test_mark_up(words: str, html: str) -> None:
    assert mrkdwn.mrkdwn(words) == html


@pytest.mark.parametrize("module", [mrkdwn, faults])
def test_examples_in_the_docstrings(module: Any) -> None:
    failed, ran = doctest.testmod(module)
    assert (failed, ran > 0) == (0, True)
