"""`up`, `stream`, `respond`: the processes of the engine."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from cli.broker import EmbeddedBroker, port_taken
from cli.common import Bootstrap, Config, DataDir, ensure_data_dir, print_ready, say, settings_from
from cli.errors import UserError
from cli.supervisor import Supervisor
from config.settings import Settings
from streams.admin import create_topics

T = TypeVar("T")
KafkaPort = Annotated[
    int,
    typer.Option("--kafka-port", min=0, max=65535, help="Port of the embedded broker; 0 picks a free one."),
]
HttpPort = Annotated[
    int | None,
    typer.Option("--http-port", min=0, max=65535, help="Port of the HTTP API; 0 picks a free one.  [8080]"),
]
_PANEL = "Run the engine"


def register(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    for command in (up, stream, respond):
        app.command(rich_help_panel=_PANEL)(command)


def up(
    config: Config = None,
    data_dir: DataDir = None,
    kafka_port: KafkaPort = 9092,
    http_port: HttpPort = None,
    bootstrap: Bootstrap = None,
) -> None:
    """The whole engine in this terminal: broker, stream worker, responder, HTTP API and SQLite.

    Prints one line READY {"kafka": "host:port", "http": "http://host:port"} when events are accepted.
    Ctrl-C or SIGTERM stops it cleanly. With --bootstrap it uses that Kafka; else an embedded broker, which
    keeps its topics in memory: incidents survive a restart, events do not.
    """
    settings = settings_from(config, data_dir, bootstrap)
    asyncio.run(_up(settings, config, None if bootstrap else kafka_port, http_port))


def stream(config: Config = None, data_dir: DataDir = None, bootstrap: Bootstrap = None) -> None:
    """A stream worker: OTLP conversion, session invariants and behaviour, on one Kafka group.

    Start as many as you have partitions; they share the work. Ends on SIGTERM after a last checkpoint.
    """
    from streams.app import run_worker

    settings = settings_from(config, data_dir, bootstrap)
    ensure_data_dir(settings)
    run_worker(settings, on_ready=lambda: print_ready(stage="stream"))


def respond(
    config: Config = None, data_dir: DataDir = None, bootstrap: Bootstrap = None, http_port: HttpPort = None
) -> None:
    """The responder and the HTTP API: incidents, pages, containment.

    Two may run against one PostgreSQL: each effect is claimed by one of them.
    """
    from cli.responder import run_responder

    settings = settings_from(config, data_dir, bootstrap)
    ensure_data_dir(settings)
    if http_port is not None:
        settings = settings.model_copy(update={"http": settings.http.model_copy(update={"port": http_port})})
    asyncio.run(run_responder(settings, stop_on_signals))


def stop_on_signals() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set. Call it inside the running loop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def run_until_told(work: Coroutine[Any, Any, T]) -> T:
    """Runs it to its end. SIGTERM cancels it, and stops the engine that it has started: exit 143."""

    async def told() -> T:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(told())
    except asyncio.CancelledError:
        raise SystemExit(128 + signal.SIGTERM) from None


async def _up(settings: Settings, config: Path | None, kafka_port: int | None, http_port: int | None) -> None:
    folder = ensure_data_dir(settings)
    http = settings.http.port if http_port is None else http_port
    if http and port_taken(http):
        raise UserError(
            f"port {http} is taken: stop what listens there, or give --http-port 0 to pick a free one"
        )
    stop = stop_on_signals()
    broker = None if kafka_port is None else EmbeddedBroker(folder, kafka_port)
    supervisor: Supervisor | None = None
    try:
        if broker is not None:
            broker.start()
            settings = _for_embedded(settings, broker.address)
        # The tables and keys are made by the responder, so that this process need not load what makes them.
        await create_topics(settings.kafka)
        supervisor = Supervisor(_environment(settings), folder, say)
        options = ("--config", str(config)) if config is not None else ()
        _, responder = await asyncio.gather(
            supervisor.start("stream", "stream", *options),
            supervisor.start("respond", "respond", "--http-port", str(http), *options),
        )
        print_ready(kafka=settings.kafka.bootstrap, http=responder["http"])
        await _until(stop, supervisor, broker)
    finally:
        if supervisor is not None:
            await supervisor.stop()
        if broker is not None:
            broker.stop()


async def prepare(settings: Settings) -> None:
    """What production needs before its first start, and what may be done again: topics, tables, keys.

    Raises:
        UserError, TopicError, StoreError, KeysError: what cannot be made, and what to do.
    """
    from responders.keys import load_or_create
    from responders.store.migrations import upgrade

    await create_topics(settings.kafka)
    await asyncio.to_thread(upgrade, settings.database_url)
    load_or_create(settings.data_dir)


def _for_embedded(settings: Settings, address: str) -> Settings:
    """The embedded broker has no producer ids, and joins a group only after the rebalance time-out."""
    kafka = settings.kafka.model_copy(
        update={"bootstrap": address, "idempotent_producer": False, "rebalance_timeout_ms": 1_000}
    )
    return settings.model_copy(update={"kafka": kafka})


def _environment(settings: Settings) -> dict[str, str]:
    """What a child must be told because it was decided here; the rest it reads itself."""
    metrics = settings.stream.metrics_file or settings.data_dir / "stream.prom"
    return {
        "WATCHKEEPER_DATA_DIR": str(settings.data_dir),
        "WATCHKEEPER_STREAM__METRICS_FILE": str(metrics),
        "WATCHKEEPER_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "WATCHKEEPER_KAFKA__IDEMPOTENT_PRODUCER": str(settings.kafka.idempotent_producer).lower(),
        "WATCHKEEPER_KAFKA__REBALANCE_TIMEOUT_MS": str(settings.kafka.rebalance_timeout_ms),
    }


async def _until(stop: asyncio.Event, supervisor: Supervisor, broker: EmbeddedBroker | None) -> None:
    """Waits for a signal.

    Raises:
        UserError: a part of the engine ended for good.
    """
    watch = [asyncio.create_task(stop.wait()), asyncio.create_task(supervisor.wait())]
    if broker is not None:
        watch.append(asyncio.create_task(broker.wait()))
    done, pending = await asyncio.wait(watch, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()
