"""Pages to any HTTP receiver, signed as the Standard Webhooks specification says, so that its libraries
verify them.

Three headers: ``webhook-id`` (the same when a page is sent again: receivers drop what they have),
``webhook-timestamp`` (seconds) and ``webhook-signature``: ``v1,`` and the base64 of HMAC-SHA256 over
``id.timestamp.body``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from datetime import datetime
from typing import Final, Literal

import aiohttp
import orjson
from pydantic import SecretStr

from responders.channels import http_channel
from responders.effects import Delivered, Outcome
from responders.pages.about import About
from responders.pages.page import Message
from responders.sender import Outgoing

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - says that a secret follows


class WebhookChannel:
    """One receiver."""

    def __init__(
        self,
        name: str,
        url: SecretStr,
        secret: SecretStr,
        session: aiohttp.ClientSession,
        clock: Callable[[], datetime],
        timeout_s: float = http_channel.TIMEOUT_S,
    ) -> None:
        self.name = name
        self._url = url
        self._key = key_of(secret)
        self._session = session
        self._clock = clock
        self._timeout_s = timeout_s

    async def send(self, page: Outgoing) -> Outcome:
        webhook_id = _id("page", page.key)
        outcome = await self._post(webhook_id, "incident.page", page.message.about)
        return Delivered(self.name, webhook_id) if isinstance(outcome, Delivered) else outcome

    async def edit(self, conversation: str, message_id: str, message: Message) -> Outcome:
        webhook_id = _id("update", f"{message_id}:{message.about.version}")
        outcome = await self._post(webhook_id, "incident.updated", message.about)
        return Delivered(conversation, message_id) if isinstance(outcome, Delivered) else outcome

    async def check(self) -> str:
        """Whether something answers at the address. Raises ChannelError."""
        outcome = await http_channel.request(
            self._session, "HEAD", self._url.get_secret_value(), timeout_s=self._timeout_s
        )
        answers = isinstance(outcome, Delivered) or outcome.reason.startswith("HTTP 4")
        http_channel.checked(
            Delivered() if answers else outcome, self.name, "check the address and the receiver"
        )
        return "the receiver answers"

    async def _post(
        self, webhook_id: str, event_type: Literal["incident.page", "incident.updated"], about: About
    ) -> Outcome:
        now = self._clock()
        body = orjson.dumps({"type": event_type, "timestamp": now.isoformat(), "data": about.plain()})
        timestamp = str(int(now.timestamp()))
        headers = {
            "webhook-id": webhook_id,
            "webhook-timestamp": timestamp,
            "webhook-signature": signature(self._key, webhook_id, timestamp, body),
            "User-Agent": "Watchkeeper",
        }
        url = self._url.get_secret_value()
        return await http_channel.post(self._session, url, body, headers, timeout_s=self._timeout_s)


def key_of(secret: SecretStr) -> bytes:
    """The key's bytes: base64 after ``whsec_``, else the text itself.

    Raises:
        ChannelError: what follows ``whsec_`` is not base64.
    """
    text = secret.get_secret_value()
    if not text.startswith(SECRET_PREFIX):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise http_channel.ChannelError(
            "a webhook's secret that starts with whsec_ must go on in base64: make one with"
            " echo whsec_$(openssl rand -base64 32)"
        ) from None


def signature(key: bytes, webhook_id: str, timestamp: str, body: bytes) -> str:
    """The header ``webhook-signature``; the example is the specification's own.

    >>> secret = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    >>> body = b'{"test": 2432232314}'
    >>> signature(key_of(secret), "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", body)
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def _id(kind: str, key: str) -> str:
    """The same for the same page, and nothing but letters and digits, whatever the key is made of."""
    return f"{kind}_{hashlib.sha256(key.encode()).hexdigest()[:32]}"
