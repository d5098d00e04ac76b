"""`POST /slack/interactions`: what people press in Slack, once it is proved that Slack sent it.

The signature is HMAC-SHA256 over time stamp and body, at most five minutes old (Slack, "Verifying requests
from Slack"); a signature counts once. Without a signing secret nothing can be proved, so nothing is taken.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import orjson
from slack_sdk.signature import Clock, SignatureVerifier
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.bodies import read_body
from api.errors import ApiError
from api.incidents import in_thread
from api.metrics import Metrics
from api.ports import SlackAction, SlackHandler

MAX_BODY_BYTES = 256 * 1024
MAX_AGE_S = 300
_MAX_SEEN = 100_000


class _Clock(Clock):
    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s

    def now(self) -> float:
        return self._now_s()


class SlackInteractions:
    """The handler.

    Args:
        signing_secret: the app's; None answers 503.
        handler: what the buttons do, called in a thread once per action.
        now_s: the wall clock, seconds since 1970.
    """

    def __init__(
        self,
        signing_secret: str | None,
        handler: SlackHandler,
        metrics: Metrics,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._verifier = SignatureVerifier(signing_secret, _Clock(now_s)) if signing_secret else None
        self._handler = handler
        self._metrics = metrics
        self._now_s = now_s
        self._seen: OrderedDict[str, float] = OrderedDict()

    async def interactions(self, request: Request) -> Response:
        """200 with what to tell the person; 401 for what Slack did not just send; 503 without a secret."""
        if self._verifier is None:
            detail = "Slack buttons are off: set WATCHKEEPER_SLACK__SIGNING_SECRET"
            raise ApiError(503, "no_signing_secret", detail)
        body = await read_body(request, MAX_BODY_BYTES)
        try:
            self._verify(self._verifier, request, body)
        except ApiError:
            self._metrics.slack.labels("refused").inc()
            raise
        said = []
        for action in _actions(_payload(body)):
            said.append(await in_thread(lambda action=action: self._handler(action)))  # type: ignore[misc]
        self._metrics.slack.labels("accepted").inc()
        text = "\n".join(line for line in said if line)
        if not text:
            return Response(status_code=200)
        return JSONResponse({"response_type": "ephemeral", "replace_original": False, "text": text})

    def _verify(self, verifier: SignatureVerifier, request: Request, body: bytes) -> None:
        signature = request.headers.get("x-slack-signature", "")
        timestamp = request.headers.get("x-slack-request-timestamp", "")
        try:
            genuine = verifier.is_valid(body, timestamp, signature)
        except (
            ValueError,
            TypeError,
        ):  # a time stamp that is no integer, a body or signature that is no text
            genuine = False
        if not genuine:
            raise ApiError(
                401, "bad_signature", "not signed by Slack within five minutes: check the secret and clock"
            )
        now_s = self._now_s()
        while self._seen and next(iter(self._seen.values())) < now_s - 2 * MAX_AGE_S:
            self._seen.popitem(last=False)
        if signature in self._seen:
            raise ApiError(401, "replayed", "this request was served before")
        if len(self._seen) >= _MAX_SEEN:
            raise ApiError(503, "too_many_requests", "too many interactions in ten minutes: try again later")
        self._seen[signature] = now_s


def _payload(body: bytes) -> dict[str, Any]:
    try:
        payload = orjson.loads(parse_qs(body.decode())["payload"][0])
    except (KeyError, UnicodeDecodeError, orjson.JSONDecodeError):
        payload = None
    if not isinstance(payload, dict):
        raise ApiError(400, "malformed", "the body has no payload in JSON")
    return payload


def _actions(payload: dict[str, Any]) -> list[SlackAction]:
    user = payload.get("user")
    user_id = user.get("id") if isinstance(user, dict) else None
    pressed = payload.get("actions")
    if not isinstance(user_id, str) or not isinstance(pressed, list):
        return []
    return [
        SlackAction(user_id, str(action.get("action_id", "")), str(action.get("value", "")), payload)
        for action in pressed
        if isinstance(action, dict)
    ]
