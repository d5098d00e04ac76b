"""The web page of the fake Slack: a channel as people would see it, with buttons that work.

Rendered by the server; a small script reloads what changed. Nothing on it is trusted: all is escaped, and the
page may load nothing but its own style, script and pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from aiohttp import web
from jinja2 import Environment, PackageLoader

from responders.fake_slack.interactions import NoSuchButtonError
from responders.fake_slack.mrkdwn import mrkdwn, plain
from responders.fake_slack.workspace import Ephemeral, Posted, Workspace

if TYPE_CHECKING:
    from responders.fake_slack.server import FakeSlack

_STATIC: Final[Mapping[str, str]] = {"channel.css": "text/css", "live.js": "text/javascript"}
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self';"
    " img-src 'self' http: https: data:"
)
_NO_CACHE: Final = {"Cache-Control": "no-store", "Content-Security-Policy": _POLICY}


@cache
def _templates() -> Environment:
    environment = Environment(loader=PackageLoader("responders.fake_slack", "web"), autoescape=True)
    environment.filters.update(mrkdwn=mrkdwn, plain=plain, clock=_clock, moment=_moment)
    return environment


def render_channel(workspace: Workspace, channel: str, viewer_id: str, command: str) -> str:
    """The HTML of a channel, as ``viewer_id`` acts in it."""
    here = [each for each in workspace.messages if each.channel == channel]
    alone = [each for each in workspace.ephemerals if each.channel == channel]
    shown: list[Posted | Ephemeral] = [each for each in here if each.thread_ts is None or each.broadcast]
    shown += [each for each in alone if each.thread_ts is None and each.answers is None]
    threads: dict[str, list[Posted | Ephemeral]] = {}
    everything: list[Posted | Ephemeral] = [*here, *alone]
    for each in everything:
        if each.thread_ts is not None:
            threads.setdefault(each.thread_ts, []).append(each)
    answers: dict[str, list[Ephemeral]] = {}
    for said in alone:
        if said.answers is not None and said.thread_ts is None:
            answers.setdefault(said.answers, []).append(said)
    return (
        _templates()
        .get_template("channel.html")
        .render(
            channel=workspace.channel_name(channel),
            channels=workspace.channels,
            items=sorted(shown, key=_by_ts),
            threads={ts: sorted(held, key=_by_ts) for ts, held in threads.items()},
            answers=answers,
            users={each.id: each for each in workspace.users},
            people={each.id: each.real_name for each in workspace.users},
            viewer=viewer_id,
            command=command,
            revision=workspace.revision,
        )
    )


def add_routes(app: web.Application, slack: FakeSlack) -> None:
    """The page, what it loads, and where its buttons and its command box post to."""

    async def channel(request: web.Request) -> web.Response:
        name = request.query.get("channel", next(iter(slack.channels)))
        channel_id = slack.channel_id(name)
        viewer = request.query.get("as", slack.users[0].id)
        if channel_id is None or slack.user(viewer) is None:
            return web.Response(status=404, text="no such channel or person")
        html = render_channel(slack, channel_id, viewer, slack.command_name)
        return web.Response(text=html, content_type="text/html", headers=_NO_CACHE)

    async def static(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in _STATIC:
            return web.Response(status=404)
        text = files(__package__).joinpath("web", name).read_text()
        return web.Response(text=text, content_type=_STATIC[name])

    async def live(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **_NO_CACHE})
        await response.prepare(request)
        revision = int(request.query.get("since", "0"))
        while True:
            await slack.changed_since(revision)
            revision = slack.revision
            await response.write(f"data: {revision}\n\n".encode())

    async def press(request: web.Request) -> web.Response:
        form = await _form(request)
        message = slack.message(form.get("channel", ""), form.get("ts", ""))
        user = slack.user(form.get("as", ""))
        if message is None or user is None:
            return web.Response(status=404, text="no such message or person")
        try:
            await slack.press(form.get("action_id", ""), message, user, form.get("value"), stale=True)
        except NoSuchButtonError:
            return web.Response(status=404, text="no such button")
        return _back(form)

    async def command(request: web.Request) -> web.Response:
        form = await _form(request)
        user = slack.user(form.get("as", ""))
        if user is None or slack.channel_id(form.get("channel", "")) is None:
            return web.Response(status=404, text="no such channel or person")
        text = form.get("text", "").strip().removeprefix(slack.command_name).strip()
        await slack.command(text, user, form["channel"])
        return _back(form)

    app.router.add_get("/", channel)
    app.router.add_get("/static/{name}", static)
    app.router.add_get("/live", live)
    app.router.add_post("/press", press)
    app.router.add_post("/command", command)


async def _form(request: web.Request) -> dict[str, str]:
    """The fields of a form of this page; other pages may not press.

    Raises:
        HTTPForbidden: another page posted it.
    """
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"{request.scheme}://{request.host}":
        raise web.HTTPForbidden(text="not from this page")
    return {key: value for key, value in (await request.post()).items() if isinstance(value, str)}


def _back(form: Mapping[str, str]) -> web.Response:
    query = urlencode({"as": form["as"], "channel": form["channel"]})
    return web.Response(status=303, headers={"Location": f"/?{query}"})


def _by_ts(shown: Posted | Ephemeral) -> str:
    return shown.ts


def _clock(ts: str) -> str:
    return f"{datetime.fromtimestamp(float(ts), UTC):%H:%M}"


def _moment(ts: str) -> str:
    return f"{datetime.fromtimestamp(float(ts), UTC):%Y-%m-%d %H:%M:%S} UTC"
