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

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from cli.common import stderr
from cli.errors import UserError
from config.kafka import client_options
from config.settings import Settings
from drills.live import Bus, Watch, play
from drills.score import Score
from drills.script import Drill

_START_TIMEOUT_S = 40.0


async def run(
    settings: Settings, drills: Sequence[Drill], *, seed: int, own_engine: bool, quiet: bool
) -> list[Score]:
    """Plays the drills one after the other.

    Raises:
        UserError: the engine does not start, or its keys cannot be found.
    """
    async with contextlib.AsyncExitStack() as stack:
        if own_engine:
            bus = await stack.enter_async_context(own())
        else:
            bus = running(settings)
        watch = await stack.enter_async_context(Watch(bus))
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


def running(settings: Settings) -> Bus:
    """The engine that the settings name.

    Raises:
        UserError: its public keys are not in the data directory.
    """
    trusted = settings.data_dir / "keys" / "trusted.json"
    if not trusted.is_file():
        raise UserError(f"no {trusted}: give --data-dir the data directory of the running engine")
    options = client_options(settings.kafka)
    bootstrap = options.pop("bootstrap_servers")
    return Bus(bootstrap, trusted, options, f"http://{settings.http.host}:{settings.http.port}")


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
