"""`POST /v1/events`, `/v1/traces`, `/v1/logs`: telemetry that did not come by Kafka is put onto it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api import otlp_http
from api.bodies import media_type, read_body, require_json
from api.errors import ApiError
from api.metrics import Metrics
from api.ports import Producer, ProducerError
from api.security import Access
from schemas.base import MAX_FUTURE_MS, MAX_MESSAGE_BYTES, MAX_PAST_MS
from schemas.event import AGENT_EVENT, AgentEvent
from schemas.topics import EVENTS, OTLP_LOGS, OTLP_SPANS
from streams.decode import Flaw, clock_flaw, read_events

MAX_OTLP_BYTES = 4 * 1024 * 1024
_IN_THREAD_BYTES = 64 * 1024
_RETRY_AFTER = {"Retry-After": "5"}


class Ingest:
    """The handlers. A request is answered when the broker has what it brought."""

    def __init__(
        self,
        producer: Producer,
        access: Access,
        metrics: Metrics,
        now_ms: Callable[[], float] = lambda: time.time() * 1000,
    ) -> None:
        self._producer = producer
        self._access = access
        self._metrics = metrics
        self._now_ms = now_ms

    async def events(self, request: Request) -> Response:
        """One event or an array. 202: all taken; 207: some; 400: none, with the reasons either way."""
        self._access.require_ingest(request)
        require_json(request)
        found = read_events(await read_body(request, MAX_MESSAGE_BYTES))
        found = [self._timely(item) for item in found]
        taken = [item for item in found if not isinstance(item, Flaw)]
        rejected = [
            {"index": index, "reason": item.reason, "detail": item.detail}
            for index, item in enumerate(found)
            if isinstance(item, Flaw)
        ]
        await self._deliver([(EVENTS, event.session.encode(), _bytes(event)) for event in taken])
        self._metrics.events.labels("accepted").inc(len(taken))
        self._metrics.events.labels("rejected").inc(len(rejected))
        status = 202 if not rejected else 207 if taken else 400
        return JSONResponse({"accepted": len(taken), "rejected": rejected}, status)

    async def traces(self, request: Request) -> Response:
        """OTLP/HTTP traces, protobuf or JSON."""
        return await self._otlp(request, "traces", OTLP_SPANS)

    async def logs(self, request: Request) -> Response:
        """OTLP/HTTP logs, protobuf or JSON."""
        return await self._otlp(request, "logs", OTLP_LOGS)

    async def _otlp(self, request: Request, signal: otlp_http.Signal, topic: str) -> Response:
        media = media_type(request)
        counter = self._metrics.otlp_requests
        try:
            self._access.require_ingest(request)
            if media not in (otlp_http.PROTOBUF, otlp_http.JSON):
                detail = f"send Content-Type: {otlp_http.PROTOBUF} or {otlp_http.JSON}"
                raise ApiError(415, "unknown_type", detail)
            body = await read_body(request, MAX_OTLP_BYTES)
            if len(body) > _IN_THREAD_BYTES:
                parts = await asyncio.to_thread(otlp_http.read_request, body, signal, media)
            else:
                parts = otlp_http.read_request(body, signal, media)
            await self._deliver([(topic, parts.key, record) for record in parts.records])
        except ApiError as error:
            counter.labels(signal, "rejected").inc()
            return otlp_http.failure(error, media)
        counter.labels(signal, "partial" if parts.rejected else "accepted").inc()
        return otlp_http.success(signal, media, parts.rejected)

    async def _deliver(self, records: list[tuple[str, bytes | None, bytes]]) -> None:
        """Waits for all; what was taken before one failed is harmless to send again, ids make it one."""
        sends = [self._producer.send(*record) for record in records]
        results = await asyncio.gather(*sends, return_exceptions=True)
        for result in results:
            if isinstance(result, ProducerError):
                raise ApiError(503, "bus_unavailable", f"{result}; send all of it again", _RETRY_AFTER)
            if isinstance(result, BaseException):
                raise result

    def _timely(self, item: AgentEvent | Flaw) -> AgentEvent | Flaw:
        if isinstance(item, Flaw):
            return item
        ahead_ms = item.time.timestamp() * 1000 - self._now_ms()
        return item if -MAX_PAST_MS <= ahead_ms <= MAX_FUTURE_MS else clock_flaw(ahead_ms)


def _bytes(event: AgentEvent) -> bytes:
    """The event without what is not in the schema: content goes no further than here."""
    return AGENT_EVENT.dump_json(event, exclude_none=True)
