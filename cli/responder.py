"""Composes what `watchkeeper respond` runs: the responder and the HTTP API, in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import uvicorn
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from prometheus_client import REGISTRY

from api.allow import WantedDecider
from api.app import Parts, make_app
from api.ports import ControlOrder, JsonObject, ProducerError, SlackAction
from api.security import Access, is_loopback
from cli.common import print_ready
from cli.errors import UserError
from config.kafka import client_options
from config.settings import Settings
from responders import actions, keys, projections, service
from responders.decide import ActionRefused
from responders.handle import Responder
from watchkeeper_client.subscriber import ControlSubscriber
from watchkeeper_client.wanted import WantedState

# aiokafka has no types.
_Producer: Any = AIOKafkaProducer

_ENFORCEMENT_POINT = "http:/v1/allow"


async def run_responder(settings: Settings, stop_on_signals: Callable[[], asyncio.Event]) -> None:
    """Runs until a signal; READY is printed when detections are read and requests are answered.

    Raises:
        UserError, ServiceError: the port, store, keys, broker, policy or token cannot be used.
    """
    stop = stop_on_signals()
    listener = _listen(settings.http.host, settings.http.port)
    address = f"http://{settings.http.host}:{listener.getsockname()[1]}"
    async with _api(settings, listener) as health:

        def ready() -> None:
            health.responding = True
            print_ready(http=address)

        await service.run(settings, stop, ready)


def http_token(settings: Settings) -> str:
    """What state-changing requests must carry: the setting, or one made once in the data directory."""
    if settings.http.token is not None and settings.http.token.get_secret_value():
        return settings.http.token.get_secret_value()
    path = token_file(settings.data_dir)
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
    return path.read_text(encoding="ascii").strip()


def token_file(data_dir: Path) -> Path:
    """Where the token is when no setting gives one."""
    return data_dir / "http.token"


@dataclass
class _Health:
    """What `/readyz` asks."""

    decider: WantedDecider
    responding: bool = False

    async def problems(self) -> Mapping[str, str]:
        found = {}
        if not self.responding:
            found["responder"] = "not yet reading detections"
        if not self.decider.hearing:
            found["control"] = "agent.control has not been read to its end lately: see the broker"
        return found


class _BusProducer:
    """The API's way onto the bus."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer

    async def send(self, topic: str, key: bytes | None, value: bytes) -> None:
        try:
            await self._producer.send_and_wait(topic, value=value, key=key)
        except KafkaError as error:
            raise ProducerError(f"the bus did not take it ({type(error).__name__}): send it again") from None


class _Reads:
    """Projections as JSON."""

    def __init__(self, responder: Responder) -> None:
        self._store = responder.store

    def incidents(self, limit: int) -> list[JsonObject]:
        return [row.model_dump(mode="json") for row in projections.incidents(self._store, limit=limit)]

    def incident(self, incident_id: str, at: datetime | None) -> JsonObject:
        return projections.incident(self._store, incident_id, at).model_dump(mode="json")

    def agents(self) -> list[JsonObject]:
        return [row.model_dump(mode="json") for row in projections.agents(self._store)]


class _Acts:
    """What a person does over HTTP or from Slack."""

    def __init__(self, responder: Responder) -> None:
        self._responder = responder

    def acknowledge(self, incident_id: str, person: str) -> JsonObject:
        incident = actions.acknowledge(self._responder, incident_id, person)
        return {"incident_id": incident.incident_id, "state": incident.state}

    def resolve(self, incident_id: str, person: str) -> JsonObject:
        incident = actions.resolve(self._responder, incident_id, person)
        return {"incident_id": incident.incident_id, "state": incident.state}

    def control(self, order: ControlOrder, person: str) -> JsonObject:
        target = order.target.key
        if order.action == "resume":
            released = actions.resume(self._responder, target, person, order.reason)
            return {"released": [each.key for each in released]}
        if order.action == "halt":
            incident = actions.halt(self._responder, target, person, order.reason)
        else:
            rung = order.ladder or "static"
            incident = actions.degrade(self._responder, target, rung, person, order.reason)
        return {"incident_id": incident.incident_id, "target": target, "containment": incident.containment}

    def from_slack(self, action: SlackAction) -> str | None:
        """A pressed button: `acknowledge` or `resolve`, with the incident id as its value."""
        known = {"acknowledge": actions.acknowledge, "resolve": actions.resolve}
        act = known.get(action.action)
        if act is None:
            return None
        try:
            incident = act(self._responder, action.value, f"slack:{action.user}")
        except ActionRefused as error:
            return str(error)
        return f"{incident.incident_id} is {incident.state}"


@contextlib.asynccontextmanager
async def _api(settings: Settings, listener: socket.socket) -> AsyncIterator[_Health]:
    """The HTTP API on the listener, with its own way to the store, the bus and the wanted state."""
    responder = await asyncio.to_thread(actions.connect, settings)
    trusted = (await asyncio.to_thread(keys.load_or_create, settings.data_dir)).trusted()
    options = client_options(settings.kafka)
    producer = _Producer(acks="all", **options)
    state = WantedState(trusted, enforcement_point=_ENFORCEMENT_POINT)
    decider = WantedDecider(state)
    # It acknowledges nothing: a proxy that asks is behind it, and only then would `applied` be true.
    subscriber = ControlSubscriber(state, options, send=lambda _record: None, on_heard=decider.heard)
    health = _Health(decider)
    acts = _Acts(responder)
    secret = settings.slack.signing_secret
    app = make_app(
        Parts(
            incidents=_Reads(responder),
            actions=acts,
            producer=_BusProducer(producer),
            decider=decider,
            readiness=health,
            slack=acts.from_slack,
        ),
        Access(http_token(settings), is_loopback(settings.http.host)),
        slack_signing_secret=None if secret is None else secret.get_secret_value(),
        registry=REGISTRY,
    )
    server = _Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=3))
    try:
        await _start(producer, settings)
        async with asyncio.TaskGroup() as group:
            hearing = group.create_task(subscriber.run())
            serving = group.create_task(server.serve(sockets=[listener]))
            try:
                yield health
            finally:
                server.should_exit = True
                hearing.cancel()
                await asyncio.wait({serving})
    finally:
        await producer.stop()
        await asyncio.to_thread(responder.store.close)


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


async def _start(producer: Any, settings: Settings) -> None:
    try:
        await producer.start()
    except KafkaError:
        raise UserError(
            f"no Kafka broker at {settings.kafka.bootstrap}: start one with make kafka or docker compose up, "
            "or set WATCHKEEPER_KAFKA__BOOTSTRAP"
        ) from None


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket, so that a taken port is known before anything else starts."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UserError(
            f"cannot listen on {host}:{port} ({error.strerror}): give another --http-port, 0 for a free one"
        ) from None
    return listener
