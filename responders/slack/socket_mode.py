"""Socket Mode: what people press and type comes over a connection that goes out, so no port need be open.

The SDK's client makes one connection and follows Slack's own refreshes; whether it still lives is watched
here. Its reconnecting is off: it tries again for ever, logs each failure with a traceback, and a refresh that
fails leaves it for dead. Paging does not depend on any of this.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import structlog
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.async_client import AsyncBaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse
from slack_sdk.web.async_client import AsyncWebClient

from responders.effects import Permanent, Retryable
from responders.metrics import SLACK_CONNECTED
from responders.pauses import pause
from responders.slack.web_api import WebApi

CONNECT_WITHIN_S: Final = 10.0
LOOK_EVERY_S: Final = 0.5
LOST_AFTER_LOOKS: Final = 2
STEADY_AFTER_S: Final = 5.0
"""A connection that lasts no longer is no cure: the next one is waited for longer."""
PING_EVERY_S: Final = 5.0
FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 60.0
REFUSED_WAIT_S: Final = 300.0
"""A token that is refused stays so until somebody acts: it is asked about seldom."""
_SEEN_AT_MOST: Final = 10_000
_KINDS: Final = frozenset({"interactive", "slash_commands"})
_log = structlog.get_logger(__name__)

# It logs payloads at debug level, and addresses with a ticket in its tracebacks.
_quiet = logging.getLogger("slack_sdk.socket_mode")
_quiet.setLevel(logging.CRITICAL + 1)


@dataclass(slots=True)
class Link:
    """How it stands; ``problem`` is one line that says what to do, empty while connected or not wanted."""

    problem: str = ""


class SocketMode:
    """One connection at a time, made anew until ``stop``.

    Args:
        app_token: ``xapp-…``, with the scope ``connections:write``.
        serve: does what a payload asks and answers it; called after Slack has its acknowledgement.
        link: told how it stands.
    """

    def __init__(
        self,
        app_token: str,
        base_url: str,
        serve: Callable[[Mapping[str, Any]], Coroutine[Any, Any, None]],
        link: Link,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        self._token = app_token
        self._base_url = base_url if base_url.endswith("/") else f"{base_url}/"
        self._serve = serve
        self._link = link
        self._first_wait_s = first_wait_s
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._serving: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Be connected until ``stop``; raises nothing that Slack or the network can cause."""
        wait_s = self._first_wait_s
        try:
            while not stop.is_set():
                url = await open_connection(self._token, self._base_url)
                if isinstance(url, Permanent):
                    self._tell(refusal(url))
                    await pause(stop, REFUSED_WAIT_S)
                    continue
                if isinstance(url, Retryable):
                    self._tell(_unreachable(url.reason))
                elif await self._connected(url, stop) >= STEADY_AFTER_S:
                    wait_s = self._first_wait_s
                # Spread out, so that many responders do not come back at the same moment.
                await pause(stop, wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)
        finally:
            SLACK_CONNECTED.set(0)
            for task in tuple(self._serving):
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)

    async def _connected(self, url: str, stop: asyncio.Event) -> float:
        """Serve one connection to its end; how many seconds it lasted."""
        loop, began_s = asyncio.get_running_loop(), 0.0
        client = SocketModeClient(
            self._token,
            logger=_quiet,
            web_client=AsyncWebClient(base_url=self._base_url, retry_handlers=[]),
            auto_reconnect_enabled=False,
            ping_interval=PING_EVERY_S,
        )
        client.socket_mode_request_listeners.append(self._received)
        client.wss_uri = url
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                await client.connect()  # type: ignore[no-untyped-call]
            self._tell("")
            began_s, missed = loop.time(), 0
            # For a moment there is none while Slack has it refreshed.
            while not stop.is_set() and missed < LOST_AFTER_LOOKS:
                await pause(stop, LOOK_EVERY_S)
                missed = 0 if await client.is_connected() else missed + 1
        except TimeoutError:
            self._tell(_unreachable("no connection"))
            return 0.0
        finally:
            await _closed(client)
        lasted_s = loop.time() - began_s
        SLACK_CONNECTED.set(0)
        if not stop.is_set():
            _log.info("Socket Mode connection lost; connecting again", lasted_s=round(lasted_s))
            if lasted_s < STEADY_AFTER_S:
                self._tell(_unreachable("it is closed again and again"))
        return lasted_s

    async def _received(self, client: AsyncBaseSocketModeClient, request: SocketModeRequest) -> None:
        """Slack wants its acknowledgement within 3 s, whatever becomes of the request."""
        try:
            await client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))
        except (aiohttp.ClientError, ConnectionError, RuntimeError) as error:
            _log.warning("Slack not acknowledged; it will send again", reason=type(error).__name__)
        if request.type not in _KINDS or self._was_here(request.envelope_id):
            return
        task = asyncio.ensure_future(self._serve(request.payload))
        self._serving.add(task)
        task.add_done_callback(self._ended)

    def _was_here(self, envelope_id: str) -> bool:
        if envelope_id in self._seen:
            return True
        self._seen[envelope_id] = None
        while len(self._seen) > _SEEN_AT_MOST:
            self._seen.popitem(last=False)
        return False

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("Slack request not served", exc_info=task.exception())

    def _tell(self, problem: str) -> None:
        """Once for each change."""
        SLACK_CONNECTED.set(0 if problem else 1)
        if problem and problem != self._link.problem:
            _log.error("Slack buttons do not work", reason=problem)
        elif not problem:
            _log.info("Slack buttons work", by="Socket Mode")
        self._link.problem = problem


async def open_connection(app_token: str, base_url: str) -> str | Retryable | Permanent:
    """The address of a new connection."""
    async with aiohttp.ClientSession() as session:
        answer = await WebApi(app_token, base_url, session).call("apps.connections.open", {})
    if isinstance(answer, Retryable | Permanent):
        return answer
    url = answer.get("url")
    return url if isinstance(url, str) and url else Retryable("apps.connections.open: no address")


def refusal(answer: Permanent) -> str:
    """What to do about an app token that Slack does not take."""
    return (
        f"Slack refuses the app token ({answer.reason}); set WATCHKEEPER_SLACK__APP_TOKEN to an app-level"
        " token (xapp-…) with the scope connections:write, and switch Socket Mode on in the app's settings"
    )


def _unreachable(reason: str) -> str:
    return f"no Socket Mode connection to Slack ({reason}): it is tried again; check the network if it lasts"


async def _closed(client: SocketModeClient) -> None:
    """Closed, and its tasks ended: the SDK only asks them to."""
    parts = (client.message_processor, client.current_session_monitor, client.message_receiver)
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            await client.close()  # type: ignore[no-untyped-call]
    except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
        _log.debug("connection not closed", reason=type(error).__name__)
    tasks = [part for part in parts if part is not None]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.aiohttp_client_session.close()
