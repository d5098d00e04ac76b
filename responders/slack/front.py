"""Takes what Slack sends, over HTTP or Socket Mode, to the desk, and the answer back to the person.

Answers go to the response URL of the request: Slack shows nothing of what answers a press itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import aiohttp
import structlog
from slack_sdk.webhook.async_client import AsyncWebhookClient

from config.settings import Settings
from responders.effects import Permanent, Retryable
from responders.handle import Responder
from responders.slack.desk import Desk
from responders.slack.interactions import Answer, Workspace, may_answer_at, request_of
from responders.slack.web_api import WebApi

AT_ONCE: Final = 4
"""Requests that are served at a time: the store is for detections first."""
ANSWER_WITHIN_S: Final = 8
UNKNOWN: Final = Workspace()
_log = structlog.get_logger(__name__)


class Asks(Protocol):
    """Slack's Web API, as far as it says whose token it is."""

    async def call(self, method: str, arguments: Mapping[str, Any]) -> Any: ...


class Front:
    """One for a way in.

    Args:
        desk: what does it.
        base_url: of the Web API: an answer may go to its host, too.
        token: the bot's; None: whose requests are taken is known by their signature alone.
    """

    def __init__(self, desk: Desk, base_url: str, token: str | None) -> None:
        self._desk = desk
        self._base_url = base_url
        self._token = token
        self._workspace: Workspace | None = None
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def take(self, payload: Mapping[str, Any]) -> Answer | None:
        """Does what the payload asks; what to tell the person. None: nothing is asked, or it was before."""
        request = request_of(payload)
        if request is None:
            return None
        async with self._turns:
            workspace = await self._ours()
            return await asyncio.to_thread(self._desk.answer, request, workspace)

    async def reply(self, url: str, answer: Answer) -> bool:
        """Whether the person was told, at the address that came with the request."""
        if not may_answer_at(url, self._base_url):
            if url:
                _log.warning("no answer sent: its address is not Slack's")
            return False
        client = AsyncWebhookClient(url, timeout=ANSWER_WITHIN_S, retry_handlers=[])
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                done = await client.send_dict(answer.payload())
        except (TimeoutError, aiohttp.ClientError) as error:
            _log.warning("answer not delivered", reason=type(error).__name__)
            return False
        if done.status_code != 200:
            _log.warning("answer not delivered", reason=f"HTTP {done.status_code}")
        return done.status_code == 200

    async def serve(self, payload: Mapping[str, Any]) -> None:
        """Takes it, and tells the person."""
        answer = await self.take(payload)
        if answer is not None:
            await self.reply(str(payload.get("response_url") or ""), answer)

    async def _ours(self) -> Workspace:
        """Whose token it is; unknown while Slack does not say."""
        if self._workspace is None and self._token is not None:
            async with aiohttp.ClientSession() as session:
                self._workspace = await workspace_of(WebApi(self._token, self._base_url, session, 2.0))
        return self._workspace or UNKNOWN


def front_of(responder: Responder, settings: Settings, arrived: Callable[[], None] = lambda: None) -> Front:
    """A way in to the responder. ``arrived`` is called when something was decided."""
    slack = settings.slack
    token = None if slack.bot_token is None else slack.bot_token.get_secret_value()
    return Front(Desk(responder, arrived), slack.base_url, token)


async def workspace_of(api: Asks) -> Workspace | None:
    """The workspace and the app of a bot token; the app only when the token may ask. None: not known now."""
    who = await api.call("auth.test", {})
    if isinstance(who, Retryable | Permanent):
        return None
    bot = await api.call("bots.info", {"bot": who.get("bot_id")}) if who.get("bot_id") else Permanent("")
    if isinstance(bot, Retryable):
        return None
    about = {} if isinstance(bot, Permanent) else (bot.get("bot") or {})
    known = (who.get("team_id"), who.get("enterprise_id"), about.get("app_id"))
    team, enterprise, app = (each if isinstance(each, str) and each else None for each in known)
    return Workspace(team, enterprise, app)
