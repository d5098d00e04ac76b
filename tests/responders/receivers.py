"""What pages are sent to, small but like the originals: they check what they get, know what they have, and
fail on demand.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Any, Final

from aiohttp import web

RETRY_AFTER_S: Final = 7
ROUTING_KEY: Final = "0123456789abcdef0123456789abcdef"
WEBHOOK_SECRET: Final = "whsec_" + base64.b64encode(b"a key of twenty-four bytes").decode()
AUTHORIZATION: Final = "Bearer letmein-alertmanager"
LABEL_NAME: Final = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class Fault(Enum):
    """What can go wrong with a request. The first two do nothing; the others do it all the same."""

    RATE_LIMITED = auto()
    SERVER_ERROR = auto()
    ACCEPT_THEN_TIME_OUT = auto()
    ACCEPT_THEN_RESET = auto()
    ACCEPT_THEN_SERVER_ERROR = auto()
    ACCEPT_THEN_TRICKLE = auto()


@dataclass
class Receiver:
    """An HTTP server on loopback; subclasses say what they take."""

    hang_s: float = 30.0
    faults: deque[Fault] = field(default_factory=deque)
    requests: int = 0
    url: str = ""
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        fault = self.faults.popleft() if self.faults else None
        if fault is Fault.RATE_LIMITED:
            return web.Response(status=429, headers={"Retry-After": str(RETRY_AFTER_S)})
        if fault is Fault.SERVER_ERROR:
            return web.Response(status=500, text="upstream error")
        answer = self.take(request, await request.read())
        if fault is Fault.ACCEPT_THEN_TIME_OUT:
            await asyncio.sleep(self.hang_s)
        if fault is Fault.ACCEPT_THEN_RESET and request.transport is not None:
            request.transport.abort()
        if fault is Fault.ACCEPT_THEN_SERVER_ERROR:
            return web.Response(status=503)
        if fault is Fault.ACCEPT_THEN_TRICKLE:
            return await self._trickle(request)
        return answer

    async def _trickle(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=200, headers={"Content-Length": "1000"})
        await response.prepare(request)
        for _ in range(int(self.hang_s * 20)):
            await response.write(b" ")
            await asyncio.sleep(0.05)
        return response

    def take(self, request: web.Request, body: bytes) -> web.Response:
        raise NotImplementedError


@dataclass
class Alert:
    """An alert of PagerDuty's; ``triggers`` counts the events it was made of."""

    state: str
    payload: Mapping[str, Any]
    triggers: int = 1


@dataclass
class FakePagerDuty(Receiver):
    """The Events API v2: a trigger for an open alert joins it; nothing else but a trigger makes one."""

    alerts: dict[str, list[Alert]] = field(default_factory=dict)

    def take(self, request: web.Request, body: bytes) -> web.Response:
        event = json.loads(body)
        problem = self._problem(request, event)
        if problem is not None:
            answer = {"status": "invalid event", "message": "Event object is invalid", "errors": [problem]}
            return web.json_response(answer, status=400)
        action, key = event["event_action"], event["dedup_key"]
        alerts = self.alerts.setdefault(key, [])
        current = alerts[-1] if alerts and alerts[-1].state != "resolved" else None
        match action:
            case "trigger" if current is None:
                alerts.append(Alert("triggered", event["payload"]))
            case "trigger" if current is not None:
                current.triggers += 1
            case "acknowledge" if current is not None:
                current.state = "acknowledged"
            case "resolve" if current is not None:
                current.state = "resolved"
        return web.json_response({"status": "success", "dedup_key": key}, status=202)

    @property
    def notified(self) -> int:
        return sum(len(alerts) for alerts in self.alerts.values())

    def _problem(self, request: web.Request, event: Mapping[str, Any]) -> str | None:
        if (request.method, request.path) != ("POST", "/v2/enqueue"):
            return "not found"
        if event.get("routing_key") != ROUTING_KEY:
            return f"Invalid routing key {event.get('routing_key')}"
        if not 0 < len(event.get("dedup_key", "")) <= 255:
            return "'dedup_key' is missing or too long"
        if event.get("event_action") not in ("trigger", "acknowledge", "resolve"):
            return "'event_action' is invalid"
        payload = event.get("payload", {})
        if event["event_action"] == "trigger" and not (
            0 < len(payload.get("summary", "")) <= 1024
            and payload.get("source")
            and payload.get("severity") in ("critical", "error", "warning", "info")
        ):
            return "'payload' is invalid"
        return None


@dataclass
class FakeWebhook(Receiver):
    """A receiver that verifies by the Standard Webhooks specification and keeps each id once."""

    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    got: list[str] = field(default_factory=list)
    now: datetime | None = None

    def take(self, request: web.Request, body: bytes) -> web.Response:
        if request.method == "HEAD":
            return web.Response(status=405)
        webhook_id, timestamp = request.headers["webhook-id"], request.headers["webhook-timestamp"]
        key = base64.b64decode(WEBHOOK_SECRET.removeprefix("whsec_"))
        signed = hmac.new(key, f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
        version, _, given = request.headers["webhook-signature"].partition(",")
        try:
            good = version == "v1" and hmac.compare_digest(base64.b64decode(given), signed)
        except binascii.Error:
            good = False
        if self.now is not None and abs(int(timestamp) - self.now.timestamp()) > 300:
            good = False
        if not good:
            return web.Response(status=401)
        self.got.append(webhook_id)
        self.kept.setdefault(webhook_id, json.loads(body))
        return web.Response(status=204)

    @property
    def notified(self) -> int:
        return sum(each["type"] == "incident.page" for each in self.kept.values())


@dataclass
class FakeAlertmanager(Receiver):
    """`/api/v2/alerts`: an alert is its labels, and fires until its ``endsAt``."""

    alerts: dict[frozenset[tuple[str, str]], dict[str, Any]] = field(default_factory=dict)
    fired: set[frozenset[tuple[str, str]]] = field(default_factory=set)
    now: datetime | None = None

    def take(self, request: web.Request, body: bytes) -> web.Response:
        if request.headers.get("Authorization") != AUTHORIZATION:
            return web.Response(status=401, text="Unauthorized")
        if (request.method, request.path) == ("GET", "/api/v2/status"):
            return web.json_response({"cluster": {"status": "ready"}})
        if (request.method, request.path) != ("POST", "/api/v2/alerts"):
            return web.json_response({"code": 404, "message": "path not found"}, status=404)
        for alert in json.loads(body):
            labels = frozenset(alert["labels"].items())
            starts, ends = (datetime.fromisoformat(alert[name]) for name in ("startsAt", "endsAt"))
            if not alert["labels"] or not all(LABEL_NAME.fullmatch(name) for name in alert["labels"]):
                return web.json_response("at least one label pair required", status=400)
            if starts.tzinfo is None or ends < starts:
                return web.json_response("start time must be before end time", status=400)
            self.alerts[labels] = alert
            if self.now is not None and ends > self.now:
                self.fired.add(labels)
        return web.Response(status=200)

    @property
    def notified(self) -> int:
        return len(self.fired)

    def firing(self, now: datetime) -> list[dict[str, str]]:
        return [
            each["labels"] for each in self.alerts.values() if datetime.fromisoformat(each["endsAt"]) > now
        ]


@dataclass
class FakeService(Receiver):
    """A service that Apprise notifies: it knows nothing again."""

    notes: list[dict[str, Any]] = field(default_factory=list)

    def take(self, request: web.Request, body: bytes) -> web.Response:
        if request.path != "/good":
            return web.Response(status=404)
        self.notes.append(json.loads(body))
        return web.Response(status=200)

    @property
    def notified(self) -> int:
        return len(self.notes)
