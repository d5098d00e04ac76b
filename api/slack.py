"""`POST /slack/interactions`: what people press and type in Slack, once it is proved that Slack sent it.

Slack wants an answer within 3 s and shows nothing of what answers a press: a person is told at the address
that comes with the request, a command that is done in time in the answer itself.

The signature is HMAC-SHA256 over time stamp and body, at most five minutes old (Slack, "Verifying requests
from Slack"); a signature counts once. Without a signing secret nothing can be proved, so nothing is taken.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

import orjson
from slack_sdk.signature import Clock, SignatureVerifier
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.bodies import read_body
from api.errors import ApiError
from api.metrics import Metrics
from api.ports import SlackHandler
from responders.slack.interactions import Answer

MAX_BODY_BYTES = 256 * 1024
MAX_AGE_S = 300
ANSWER_WITHIN_S = 2.0
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
        handler: what the buttons and the command do.
        now_s: the wall clock, seconds since 1970.
    """

    def __init__(
        self,
        signing_secret: str | None,
        handler: SlackHandler,
        metrics: Metrics,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        known = signing_secret if signing_secret and signing_secret.strip() else None
        self._verifier = None if known is None else SignatureVerifier(known, _Clock(now_s))
        self._handler = handler
        self._metrics = metrics
        self._now_s = now_s
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._serving: set[asyncio.Task[Answer | None]] = set()

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
        payload = _payload(body)
        self._metrics.slack.labels("accepted").inc()
        late = asyncio.Event()
        task = asyncio.ensure_future(self._serve(payload, late))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        done, _ = await asyncio.wait({task}, timeout=ANSWER_WITHIN_S)
        if not done:
            late.set()
            return Response(status_code=200)
        answer = task.result()
        return Response(status_code=200) if answer is None else JSONResponse(answer.payload())

    async def _serve(self, payload: Mapping[str, Any], late: asyncio.Event) -> Answer | None:
        """What is left to say in the answer to the request: nothing, once the person has been told."""
        answer = await self._handler.take(payload)
        if answer is None or ("command" in payload and not late.is_set()):
            return answer
        return None if await self._handler.reply(_address(payload), answer) else answer

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


def _address(payload: Mapping[str, Any]) -> str:
    url = payload.get("response_url")
    return url if isinstance(url, str) else ""


def _payload(body: bytes) -> dict[str, Any]:
    """An interaction's JSON, or the fields of a slash command."""
    try:
        form = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=100)
        fields: Any = {name: values[0] for name, values in form.items()}
        payload = fields if "command" in fields else orjson.loads(fields["payload"])
    except (KeyError, ValueError):
        payload = None
    if not isinstance(payload, dict):
        raise ApiError(400, "malformed", "the body has neither a payload in JSON nor a command")
    return payload
