"""The HTTP API: one factory, everything it needs is given to it.

`make_app` is the composition; routes are listed once, in `_routes`. Nothing here reads settings, opens a
database or connects to a bus.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api.allow import Allow
from api.errors import ApiError, on_api_error, on_http_exception
from api.incidents import IncidentRoutes
from api.ingest import Ingest
from api.metrics import Metrics, make_metrics
from api.ports import Actions, Decider, Incidents, Producer, Readiness, SlackHandler
from api.security import Access
from api.slack import SlackInteractions

# An auth request that carries the method of the call it is about.
_ANY_METHOD = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Parts:
    """What the API is made of."""

    incidents: Incidents
    actions: Actions
    producer: Producer
    decider: Decider
    readiness: Readiness
    slack: SlackHandler


def make_app(
    parts: Parts,
    access: Access,
    *,
    slack_signing_secret: str | None = None,
    registry: CollectorRegistry | None = None,
    metrics_beside: Callable[[], bytes] = bytes,
    now_s: Callable[[], float] = time.time,
) -> Starlette:
    """The ASGI application.

    Args:
        parts: where requests go.
        access: the token, and whether the listener is on loopback.
        slack_signing_secret: without it `/slack/interactions` answers 503.
        registry: what `/metrics` shows beside the API's own counters; default: an empty one.
        metrics_beside: what `/metrics` shows after these, of another process; in Prometheus' text format.
        now_s: the wall clock, seconds since 1970.
    """
    metrics = make_metrics(registry)
    health = _Health(parts.readiness, metrics.registry, metrics_beside)
    return Starlette(
        routes=_routes(parts, access, metrics, health, slack_signing_secret, now_s),
        exception_handlers={ApiError: on_api_error, HTTPException: on_http_exception},
    )


def _routes(
    parts: Parts,
    access: Access,
    metrics: Metrics,
    health: _Health,
    slack_signing_secret: str | None,
    now_s: Callable[[], float],
) -> list[Route]:
    ingest = Ingest(parts.producer, access, metrics, lambda: now_s() * 1000)
    incidents = IncidentRoutes(parts.incidents, parts.actions, access)
    allow = Allow(parts.decider, metrics)
    slack = SlackInteractions(slack_signing_secret, parts.slack, metrics, now_s)
    return [
        Route("/healthz", health.alive),
        Route("/readyz", health.ready),
        Route("/metrics", health.metrics),
        Route("/v1/incidents", incidents.list_incidents),
        Route("/v1/incidents/{incident_id}", incidents.incident),
        Route("/v1/incidents/{incident_id}/ack", incidents.acknowledge, methods=["POST"]),
        Route("/v1/incidents/{incident_id}/resolve", incidents.resolve, methods=["POST"]),
        Route("/v1/agents", incidents.agents),
        Route("/v1/control", incidents.control, methods=["POST"]),
        Route("/v1/allow", allow.by_query),
        Route("/v1/allow/{path:path}", allow.by_headers, methods=_ANY_METHOD),
        Route("/v1/events", ingest.events, methods=["POST"]),
        Route("/v1/traces", ingest.traces, methods=["POST"]),
        Route("/v1/logs", ingest.logs, methods=["POST"]),
        Route("/slack/interactions", slack.interactions, methods=["POST"]),
    ]


class _Health:
    def __init__(
        self, readiness: Readiness, registry: CollectorRegistry, beside: Callable[[], bytes]
    ) -> None:
        self._readiness = readiness
        self._registry = registry
        self._beside = beside

    async def alive(self, _: Request) -> Response:
        """200 while the loop turns."""
        return JSONResponse({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """200 when every part can work, with what is to be mended meanwhile, else 503 with what is wrong."""
        problems = dict(await self._readiness.problems())
        if problems:
            return JSONResponse({"status": "not ready", "problems": problems}, 503)
        notices = dict(await self._readiness.notices())
        return JSONResponse({"status": "ready", **({"notices": notices} if notices else {})})

    async def metrics(self, _: Request) -> Response:
        """Prometheus' text format."""
        text = generate_latest(self._registry) + await asyncio.to_thread(self._beside)
        return Response(text, media_type=CONTENT_TYPE_LATEST)
