"""A call of Slack's Web API, and what its answer means: refused (nothing happened), busy, or broken (it may
have happened). The SDK's own retries are off: they would post again what has arrived.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from config.errors import CorrectableError
from responders.channels.http_channel import request
from responders.effects import Outcome, Permanent, Retryable

TIMEOUT_S: Final = 8
_BUSY: Final = frozenset({"ratelimited", "rate_limited", "team_added_to_org", "accesslimited"})
_IN_DOUBT: Final = frozenset({"internal_error", "fatal_error", "service_unavailable", "request_timeout"})
"""Errors after which Slack says that part of the operation may have succeeded."""

# The SDK logs whole requests at debug level.
logging.getLogger("slack_sdk").setLevel(logging.WARNING)

Answer = Mapping[str, Any] | Retryable | Permanent


class SlackRefusedError(CorrectableError):
    """Slack does not accept the token; the message is one line that says what to do."""


class WebApi:
    """Slack's methods under one token. Raises nothing that Slack or the network can cause."""

    def __init__(
        self, token: str, base_url: str, session: aiohttp.ClientSession, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._client = AsyncWebClient(
            token=token,
            base_url=base_url if base_url.endswith("/") else f"{base_url}/",
            session=session,
            timeout=timeout_s,  # type: ignore[arg-type]
            retry_handlers=[],  # the SDK's own posts again after a lost connection
        )
        self._session = session
        self._timeout_s = timeout_s

    async def call(self, method: str, arguments: Mapping[str, Any], *, form: bool = False) -> Answer:
        """``form``: the method takes no JSON."""
        given: dict[str, Any] = {"data" if form else "json": dict(arguments)}
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._client.api_call(method, **given)
        except SlackApiError as error:
            return _classified(method, error)
        except aiohttp.ClientConnectorError as error:
            return Retryable(f"{method}: {error.os_error.strerror or 'no connection'}")
        except TimeoutError:
            return Retryable(f"{method}: no answer within {self._timeout_s:g} s", in_doubt=True)
        except aiohttp.ClientError as error:
            return Retryable(f"{method}: {type(error).__name__}", in_doubt=True)
        return answer.data if isinstance(answer.data, dict) else {}

    async def put(self, upload_url: str, content: bytes) -> Outcome:
        """Send a file's content to where Slack said."""
        headers = {"Content-Type": "application/octet-stream"}
        return await request(
            self._session, "POST", upload_url, timeout_s=self._timeout_s, data=content, headers=headers
        )


def _classified(method: str, error: SlackApiError) -> Retryable | Permanent:
    """What an error answer means: refused (nothing happened), busy, or broken (it may have happened)."""
    response = error.response
    status = int(getattr(response, "status_code", 0) or getattr(response, "status", 0))
    data = getattr(response, "data", None)
    code = data.get("error", "") if isinstance(data, dict) else ""
    reason = f"{method}: {code or f'HTTP {status}'}"
    if status == 429 or code in _BUSY:
        headers = getattr(response, "headers", None) or {}
        return Retryable(reason, after_ms=_seconds(headers.get("Retry-After", "1")) * 1000)
    if status >= 500 or code in _IN_DOUBT or not code:
        return Retryable(reason, in_doubt=True)
    return Permanent(reason)


def _seconds(text: str) -> int:
    return min(max(int(text), 1), 600) if text.isdecimal() else 1
