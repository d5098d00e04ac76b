"""Runs drills against a running engine, or against one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
from aiokafka.errors import KafkaError
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cli.common import stderr
from cli.errors import UserError
from config.kafka import client_options
from config.settings import Settings
from drills.live import Bus, Watch, play
from drills.score import Score
from drills.script import Drill

_START_TIMEOUT_S = 200.0
"""What `up` allows itself, and its broker."""
_ANSWER_WITHIN_S = 5.0


async def run(
    settings: Settings,
    drills: Sequence[Drill],
    *,
    seed: int,
    own_engine: bool,
    quiet: bool,
    http: str | None = None,
) -> list[Score]:
    """Plays the drills one after the other. ``http`` is a running engine's HTTP API, when it is not where the
    settings have it.

    Raises:
        UserError: the engine does not start or does not answer, or its keys cannot be found.
    """
    async with contextlib.AsyncExitStack() as stack:
        if own_engine:
            bus = await stack.enter_async_context(own())
        else:
            bus = running(settings, http)
            if any(drill.proof is not None for drill in drills):
                await _must_answer(str(bus.http))
        watch = await _watching(stack, bus)
        progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=stderr,
            disable=quiet,
        )
        scores = []
        with progress:
            for drill in drills:
                task = progress.add_task(f"{drill.name}: {drill.story}")
                run_id = secrets.token_hex(4)
                scores.append(await play(drill, bus, watch, seed=seed, run=run_id, tenant=f"drill-{run_id}"))
                progress.stop_task(task)
    return scores


async def _watching(stack: contextlib.AsyncExitStack, bus: Bus) -> Watch:
    watch = Watch(bus)
    try:
        return await stack.enter_async_context(watch)
    except KafkaError as error:
        raise UserError(
            f"no engine's broker at {bus.bootstrap} ({type(error).__name__}): give --bootstrap HOST:PORT, as"
            " the READY line of watchkeeper up has it, or no --bootstrap for an engine of the drill's own"
        ) from None


async def _must_answer(address: str) -> None:
    """What such a drill proves is seen at `/v1/allow` too: without it, it could only fail, a minute later.

    Raises:
        UserError: no engine answers there.
    """
    timeout = aiohttp.ClientTimeout(total=_ANSWER_WITHIN_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{address}/healthz") as answer,
        ):
            said = f"HTTP {answer.status}" if answer.status != 200 else None
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        said = type(error).__name__
    if said is not None:
        raise UserError(
            f"no engine's HTTP API at {address} ({said}): give --http http://HOST:PORT, as the READY line of"
            " watchkeeper up has it"
        )


def running(settings: Settings, http: str | None = None) -> Bus:
    """The engine that the settings name; its HTTP API at ``http``, when that is given.

    Raises:
        UserError: its public keys are not in the data directory.
    """
    trusted = settings.data_dir / "keys" / "trusted.json"
    if not trusted.is_file():
        raise UserError(f"no {trusted}: give --data-dir the data directory of the running engine")
    options = client_options(settings.kafka)
    bootstrap = options.pop("bootstrap_servers")
    address = http or f"http://{settings.http.host}:{settings.http.port}"
    return Bus(bootstrap, trusted, options, address.rstrip("/"))


@contextlib.asynccontextmanager
async def own(*arguments: str) -> AsyncIterator[Bus]:
    """An engine on embedded defaults in a folder of its own, stopped and removed afterwards.

    Raises:
        UserError: it does not start; the message is its own.
    """
    with tempfile.TemporaryDirectory(prefix="watchkeeper-") as folder:
        async with engine(Path(folder), *arguments) as ready:
            trusted = Path(folder) / "keys" / "trusted.json"
            yield Bus(str(ready["kafka"]), trusted, http=str(ready["http"]))


@contextlib.asynccontextmanager
async def engine(data_dir: Path, *arguments: str) -> AsyncIterator[dict[str, object]]:
    """`watchkeeper up` as a child on free ports; yields what its READY line says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cli.main",
        "up",
        "--data-dir",
        str(data_dir),
        "--kafka-port",
        "0",
        "--http-port",
        "0",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    words: list[str] = []
    listening = asyncio.create_task(_listen(process.stderr, words))
    try:
        yield await _ready(process.stdout, words)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await listening


async def _ready(stdout: asyncio.StreamReader, words: list[str]) -> dict[str, object]:
    try:
        async with asyncio.timeout(_START_TIMEOUT_S):
            async for raw in stdout:
                line = raw.decode(errors="replace")
                if line.startswith("READY "):
                    ready: dict[str, object] = json.loads(line.removeprefix("READY "))
                    return ready
    except TimeoutError:
        raise UserError(f"the engine was not ready within {_START_TIMEOUT_S:.0f} s") from None
    await asyncio.sleep(0.1)  # its last words may still be on the way
    raise UserError(
        words[-1].removeprefix("watchkeeper: ") if words else "the engine ended before it was ready"
    )


async def _listen(stream: asyncio.StreamReader, words: list[str]) -> None:
    async for raw in stream:
        words.append(raw.decode(errors="replace").rstrip())
