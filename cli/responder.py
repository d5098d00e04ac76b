"""Composes what `watchkeeper respond` runs: the responder and the HTTP API, in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from prometheus_client import REGISTRY

from api.adapters import KafkaProducer, ResponderActions, StoreIncidents
from api.allow import WantedDecider
from api.app import Parts, make_app
from api.health import HealthBoard, follow
from api.metrics import written
from api.security import Access, is_loopback
from cli.common import print_ready
from cli.errors import UserError
from config.kafka import client_options
from config.settings import Settings
from responders import actions, keys, service
from responders.policy_watch import PolicyWatch
from responders.slack.front import front_of
from responders.slack.socket_mode import Link
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
    async with _api(settings) as api:

        def ready() -> None:
            api.health.responding = True
            print_ready(http=address)

        serving = asyncio.create_task(api.server.serve(sockets=[listener]))
        hearing = asyncio.create_task(api.subscriber.run())
        beside = service.Beside(api.health.slack, lambda: api.health.decider.hearing, api.health.policy)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, beside.look.set)
        responding = asyncio.create_task(service.run(settings, stop, ready, beside))
        following = asyncio.create_task(api.follow_health())
        tasks = (serving, hearing, responding, following)
        # None of them ends by itself: the first that does was told to, or has failed.
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        stop.set()
        api.server.should_exit = True
        hearing.cancel()
        following.cancel()
        await asyncio.wait(tasks)
        for task in ended:
            task.result()


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
    slack: Link
    policy: PolicyWatch
    responding: bool = False

    async def problems(self) -> Mapping[str, str]:
        found = {}
        if not self.responding:
            found["responder"] = "not yet reading detections"
        if not self.decider.hearing:
            found["control"] = "agent.control has not been read to its end lately: see the broker"
        if self.slack.problem:
            found["slack buttons"] = self.slack.problem
        return found

    async def notices(self) -> Mapping[str, str]:
        return {"policy": f"not used as it is now: {self.policy.problem}"} if self.policy.problem else {}


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: the process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


@dataclass
class _Api:
    """What serves requests, and what keeps `/v1/allow` up to date."""

    server: _Server
    subscriber: ControlSubscriber
    health: _Health
    follow_health: Callable[[], Coroutine[Any, Any, None]]


@contextlib.asynccontextmanager
async def _api(settings: Settings) -> AsyncIterator[_Api]:
    """The HTTP API, with its own way to the store, the bus and the wanted state."""
    responder = await asyncio.to_thread(actions.connect, settings)
    trusted = (await asyncio.to_thread(keys.load_or_create, settings.data_dir)).trusted()
    options = client_options(settings.kafka)
    producer = _Producer(acks="all", **options)
    state = WantedState(trusted, enforcement_point=_ENFORCEMENT_POINT)
    decider = WantedDecider(state, settings.http.allow_fail_mode)
    watch = PolicyWatch(settings)
    watch.follow(responder)
    health, board = _Health(decider, Link(), watch), HealthBoard()
    acts = ResponderActions(responder)
    secret = settings.slack.signing_secret
    app = make_app(
        Parts(
            incidents=StoreIncidents(responder.store, board),
            actions=acts,
            producer=KafkaProducer(producer),
            decider=decider,
            readiness=health,
            slack=front_of(responder, settings),
        ),
        Access(http_token(settings), is_loopback(settings.http.host)),
        slack_signing_secret=None if secret is None else secret.get_secret_value(),
        registry=REGISTRY,
        metrics_beside=lambda: written(settings.stream.metrics_file),
    )
    try:
        await _start(producer, settings)
        yield _Api(
            _Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=3)),
            # It acknowledges nothing: a proxy that asks is behind it, and only then would `applied` be true.
            ControlSubscriber(state, options, send=lambda _record: None, on_heard=decider.heard),
            health,
            lambda: follow(board, options),
        )
    finally:
        await producer.stop()
        await asyncio.to_thread(responder.store.close)


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
