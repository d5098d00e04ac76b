"""One request to a channel that speaks HTTP, and what its answer means for a page.

Nothing here quotes an address or a body: both may hold secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import aiohttp

from config.errors import CorrectableError
from responders.effects import Delivered, Outcome, Permanent, Retryable

TIMEOUT_S: Final = 8.0
LONGEST_WAIT_S: Final = 600
_ANSWER_BYTES: Final = 4096
_BUSY: Final = frozenset({408, 425, 429})


class ChannelError(CorrectableError):
    """The channel cannot be used; the message is one line that says what to do."""


async def post(
    session: aiohttp.ClientSession,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    timeout_s: float = TIMEOUT_S,
    explain: Callable[[bytes], str] = lambda _: "",
) -> Outcome:
    """Post JSON. `Delivered` without ids, or why not; ``explain`` reads the reason out of a refusal."""
    headers = {"Content-Type": "application/json", **headers}
    return await request(
        session, "POST", url, timeout_s=timeout_s, explain=explain, data=body, headers=headers
    )


async def request(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    *,
    timeout_s: float = TIMEOUT_S,
    explain: Callable[[bytes], str] = lambda _: "",
    **options: Any,
) -> Outcome:
    """Any request. Redirects are not followed: a signed body is for whom it was addressed to."""
    try:
        async with session.request(
            method,
            url,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            allow_redirects=False,
            **options,
        ) as response:
            answer = await response.content.read(_ANSWER_BYTES)
            return classified(response.status, response.headers, explain(answer))
    except aiohttp.ClientConnectorError as error:
        return Retryable(f"no connection ({error.os_error.strerror or type(error).__name__})")
    except aiohttp.ConnectionTimeoutError:
        return Retryable("no connection in time")
    except TimeoutError:
        return Retryable(f"no answer within {timeout_s:g} s", in_doubt=True)
    except aiohttp.InvalidURL:
        return Permanent("the address is not a URL")
    except aiohttp.ClientError as error:
        return Retryable(f"the connection broke ({type(error).__name__})", in_doubt=True)


def classified(status: int, headers: Mapping[str, str], why: str = "") -> Outcome:
    """Taken; busy (nothing happened); broken (it may have happened); or refused for good.

    >>> classified(202, {}), classified(429, {"Retry-After": "7"})
    (Delivered(conversation='', message=''), Retryable(reason='HTTP 429', after_ms=7000, in_doubt=False))
    """
    if 200 <= status < 300:
        return Delivered()
    reason = f"HTTP {status}: {why}" if why else f"HTTP {status}"
    if status in _BUSY:
        return Retryable(reason, after_ms=_retry_after_ms(headers))
    if status >= 500:
        return Retryable(reason, after_ms=_retry_after_ms(headers), in_doubt=True)
    return Permanent(reason)


def _retry_after_ms(headers: Mapping[str, str]) -> int | None:
    """What the other side asks for, at most ten minutes; None when it does not say."""
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        seconds = float(text)
    else:
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return int(min(max(seconds, 1), LONGEST_WAIT_S) * 1000)


def checked(outcome: Outcome, part: str, advice: str) -> None:
    """Raises ChannelError unless it was delivered."""
    if not isinstance(outcome, Delivered):
        raise ChannelError(f"{part}: {outcome.reason}; {advice}")
