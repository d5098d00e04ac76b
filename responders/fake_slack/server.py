"""The fake Slack as a server: routes, tokens, the faults that calls meet on their way, and the people who
press and type.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from responders.fake_slack import methods, page, uploads
from responders.fake_slack.faults import EVERY, TRANSIENT, AnyFault, Fault, Faults, Refused
from responders.fake_slack.interactions import (
    NoSuchButtonError,
    ResponseUrls,
    block_actions,
    buttons,
    complain,
    find_button,
    post_signed,
    say,
    slash_command,
)
from responders.fake_slack.socket_mode import Heard, Kind, SocketMode
from responders.fake_slack.workspace import OPERATOR, Posted, User, Workspace

GOOD_TOKEN: Final = "xoxb-fake"  # noqa: S105 - not a secret
GOOD_APP_TOKEN: Final = "xapp-fake"  # noqa: S105 - not a secret
SIGNING_SECRET: Final = "fake-signing-secret"  # noqa: S105 - not a secret

UPLOAD: Final = "upload"
"""In place of a method's name: the POST of a file's bytes."""
RESPONSE_URL: Final = "response_url"
"""In place of a method's name: the POST of an answer."""

_JSON_ARGUMENTS: Final = ("blocks", "metadata")
"""Structured arguments, which a form carries as JSON in a string."""


@dataclass
class FakeSlack(Workspace):
    """A workspace that listens. ``calls`` are the methods called, in order."""

    calls: list[str] = field(default_factory=list)
    retry_after_s: int = 1
    refusal: str = "channel_not_found"
    hang_s: float = 30.0
    trickle_s: float = 1.0
    """Seconds between the bytes of an answer that trickles."""
    faults: Faults = field(default_factory=Faults)
    events_url: str | None = None
    """Where presses and commands are posted, signed; None for Socket Mode. Slack too has either or."""
    commands_url: str | None = None
    """Where commands are posted, if elsewhere."""
    signing_secret: str = SIGNING_SECRET
    command_name: str = "/watchkeeper"
    socket: SocketMode = field(default_factory=SocketMode)
    unheard: list[Any] = field(default_factory=list)
    """What the app answered where Slack reads no answer: to a press, except over its ``response_url``."""
    _responses: ResponseUrls = field(init=False)
    _runner: web.AppRunner | None = None

    def __post_init__(self) -> None:
        self._responses = ResponseUrls(self)

    def fail(self, method: str, *faults: AnyFault) -> None:
        """The next calls of ``method`` meet ``faults``, one each."""
        self.faults.next(method, *faults)

    def keep_failing(self, fault: AnyFault, method: str = EVERY) -> None:
        """Every call of ``method`` meets ``fault`` until `heal`."""
        self.faults.keep(fault, method)

    def fail_at_random(
        self,
        seed: int,
        share: float,
        faults: Iterable[AnyFault] = TRANSIENT,
        methods: Iterable[str] = (),
    ) -> None:
        """Until `heal`, each call meets one of ``faults`` with probability ``share``."""
        self.faults.mix(seed, share, faults, methods)

    def heal(self) -> None:
        """No fault is left to come."""
        self.faults.clear()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen; the base URL of the Web API, to give to a client.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_route("*", "/api/{method}", self._serve)
        app.router.add_post("/upload/v1/{file}", self._upload)
        app.router.add_get("/files/{file}/{name}", self._file)
        app.router.add_post("/responses/{team}/{key}", self._response)
        app.router.add_get("/link/", self.socket.connect)
        page.add_routes(app, self)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.url = f"http://{host}:{self._runner.addresses[0][1]}"
        return f"{self.url}/api/"

    async def stop(self) -> None:
        await self.socket.stop()
        if self._runner is not None:
            await self._runner.cleanup()

    async def press(
        self,
        action_id: str,
        message: Posted | None = None,
        user: User = OPERATOR,
        value: str | None = None,
        stale: bool = False,
    ) -> Heard:
        """``user`` presses a button of a message (the last that shows it, unless named), and the app is told.

        ``stale`` finds it in what the message showed before its edits too, as a client does that missed
        them. ``value`` chooses among buttons of one action, or makes one up.

        Raises:
            NoSuchButtonError: there is no such button.
        """
        if message is None:
            message = next((each for each in reversed(self.messages) if _shows(each, action_id, stale)), None)
        if message is None:
            raise NoSuchButtonError(f"no message shows a button {action_id!r}")
        button = find_button(message, action_id, value, stale)
        response_url = self._responses.issue(message.channel, user, message)
        payload = block_actions(self, message, button, user, response_url)
        heard = await self._tell("interactive", payload, self.events_url)
        if heard.response is not None:
            self.unheard.append(heard.response)
        if heard.error is not None:
            complain(self, message.channel, user, f"The button {action_id}", heard.error, message.ts)
        return heard

    async def command(self, text: str, user: User = OPERATOR, channel: str = "#incidents") -> Heard:
        """``user`` types the slash command with ``text``; what the app answers at once is shown to them."""
        channel_id = self.channel_id(channel)
        if channel_id is None:
            raise LookupError(f"no channel {channel!r}")
        response_url = self._responses.issue(channel_id, user, None)
        payload = slash_command(self, self.command_name, text, user, channel_id, response_url)
        heard = await self._tell("slash_commands", payload, self.commands_url or self.events_url)
        if heard.error is not None:
            complain(self, channel_id, user, self.command_name, heard.error, None)
        elif heard.response:
            said = heard.response if isinstance(heard.response, dict) else {"text": str(heard.response)}
            say(self, channel_id, user, said, None)
        return heard

    async def _tell(self, kind: Kind, payload: Mapping[str, Any], url: str | None) -> Heard:
        if url is None:
            return await self.socket.deliver(kind, payload)
        return await post_signed(url, self.signing_secret, kind, payload, self.now_s)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        self.calls.append(method)
        return await self._through_faults(method, request, lambda: self._called(method, request))

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(UPLOAD)

        async def received() -> web.Response:
            status, text = uploads.receive(self, request.match_info["file"], await _content(request))
            return web.Response(status=status, text=text)

        return await self._through_faults(UPLOAD, request, received)

    async def _response(self, request: web.Request) -> web.StreamResponse:
        self.calls.append(RESPONSE_URL)

        async def answered() -> web.Response:
            status, told = self._responses.answer(request.match_info["key"], await _arguments(request))
            return web.json_response(told, status=status)

        return await self._through_faults(RESPONSE_URL, request, answered)

    async def _file(self, request: web.Request) -> web.Response:
        file = self.file(request.match_info["file"])
        if file is None or file.content is None:
            return web.Response(status=404)
        kind = "image/png" if file.content.startswith(b"\x89PNG") else "application/octet-stream"
        return web.Response(body=file.content, content_type=kind)

    async def _called(self, method: str, request: web.Request) -> web.Response:
        problem = _token_problem(method, request.headers.get("Authorization", ""))
        if problem is not None:
            return _refused(problem)
        if method == "apps.connections.open":
            return web.json_response(self.socket.open(self.url))
        known = methods.METHODS.get(method)
        if known is None:
            return _refused("unknown_method")
        return web.json_response(known(self, await _arguments(request)))

    async def _through_faults(
        self, name: str, request: web.Request, act: Callable[[], Awaitable[web.Response]]
    ) -> web.StreamResponse:
        fault = self.faults.met_by(name)
        if fault is not None and not _accepts(fault):
            return await self._unheard(request, fault)
        answer = await act()
        match fault:
            case Fault.ACCEPT_THEN_TIME_OUT:
                await asyncio.sleep(self.hang_s)
            case Fault.ACCEPT_THEN_RESET:
                _cut(request)
            case Fault.ACCEPT_THEN_SERVER_ERROR:
                return web.Response(status=503, text="upstream error")
            case Fault.ACCEPT_THEN_TRICKLE:
                return await self._trickle(request, answer)
        return answer

    async def _unheard(self, request: web.Request, fault: AnyFault) -> web.Response:
        """The answer to a call that does nothing."""
        match fault:
            case Refused(error):
                return _refused(error)
            case Fault.REFUSED:
                return _refused(self.refusal)
            case Fault.RATE_LIMITED:
                headers = {"Retry-After": str(self.retry_after_s)}
                return web.json_response(methods.refused("ratelimited"), status=429, headers=headers)
            case Fault.RESET:
                _cut(request)
            case Fault.TIME_OUT:
                await asyncio.sleep(self.hang_s)
        return web.Response(status=500, text="upstream error")

    async def _trickle(self, request: web.Request, answer: web.Response) -> web.StreamResponse:
        """The same answer, so slowly that a time limit on the silence between bytes never ends it."""
        body = answer.body if isinstance(answer.body, bytes) else b""
        response = web.StreamResponse(headers={"Content-Length": str(len(body))})
        response.content_type = answer.content_type
        await response.prepare(request)
        for byte in body:
            await response.write(bytes((byte,)))
            await asyncio.sleep(self.trickle_s)
        return response


def _token_problem(method: str, authorization: str) -> str | None:
    """App-level tokens open connections and nothing else; bot tokens do all but that."""
    token = authorization.removeprefix("Bearer ").strip()
    if not token:
        return "not_authed"
    if token not in (GOOD_TOKEN, GOOD_APP_TOKEN):
        return "invalid_auth"
    for_apps = method == "apps.connections.open"
    return None if for_apps == (token == GOOD_APP_TOKEN) else "not_allowed_token_type"


def _shows(message: Posted, action_id: str, stale: bool) -> bool:
    versions = [message.blocks, *(message.past if stale else ())]
    return any(each.get("action_id") == action_id for blocks in versions for each in buttons(blocks))


def _accepts(fault: AnyFault) -> bool:
    return isinstance(fault, Fault) and fault.name.startswith("ACCEPT_THEN")


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _refused(error: str) -> web.Response:
    return web.json_response(methods.refused(error))


async def _arguments(request: web.Request) -> Mapping[str, Any]:
    if request.content_type == "application/json":
        body: Mapping[str, Any] = await request.json()
        return body
    given: dict[str, Any] = dict(await request.post()) | dict(request.query)
    for name in _JSON_ARGUMENTS:
        if isinstance(given.get(name), str):
            given[name] = json.loads(given[name])
    return given


async def _content(request: web.Request) -> bytes:
    """A file's bytes: the body, or the first file of a form."""
    if request.content_type != "multipart/form-data":
        return await request.read()
    form = await request.post()
    field_ = next((each for each in form.values() if isinstance(each, web.FileField)), None)
    return b"" if field_ is None else field_.file.read()
