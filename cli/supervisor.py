"""Runs the engine's processes as children of one: starts them, restarts them, stops them.

A child says it is ready by one line `READY {json}` on standard output; its other lines are passed on. The
engine is crash-only, so a child that ends is started again; one that keeps ending takes everything down,
loudly.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cli.errors import UserError

_START_TIMEOUT_S = 120.0
"""Only what hangs takes so long: a machine with much else to do needs half a minute."""
_RESTARTS_PER_MINUTE = 3
_STOP_TIMEOUT_S = 10.0


@dataclass
class Child:
    """One process of the engine: `watchkeeper <arguments>`."""

    name: str
    arguments: tuple[str, ...]
    process: asyncio.subprocess.Process | None = None
    ready: asyncio.Future[dict[str, object]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    starts: deque[float] = field(default_factory=lambda: deque(maxlen=_RESTARTS_PER_MINUTE + 1))


class Supervisor:
    """Keeps children running until told to stop.

    Args:
        environment: added to this process's own for every child.
        log_dir: a child's standard error goes to `<log_dir>/<name>.log`.
        say: prints a line for the person at the terminal.
    """

    def __init__(self, environment: Mapping[str, str], log_dir: Path, say: Callable[[str], None]) -> None:
        self._environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self._log_dir = log_dir
        self._say = say
        self._children: list[Child] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self, name: str, *arguments: str) -> dict[str, object]:
        """Starts a child and returns what its READY line says.

        Raises:
            UserError: it ended, or was not ready in time; the message is its own last line.
        """
        child = Child(name, arguments)
        self._children.append(child)
        await self._spawn(child)
        self._tasks.append(asyncio.create_task(self._keep(child), name=f"keep {name}"))
        try:
            return await asyncio.wait_for(asyncio.shield(child.ready), _START_TIMEOUT_S)
        except TimeoutError:
            raise UserError(
                f"{name} was not ready within {_START_TIMEOUT_S:.0f} s: see {self._log(child)}"
            ) from None

    async def wait(self) -> None:
        """Returns when a child is given up.

        Raises:
            UserError: always; it names the child and its log.
        """
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        """Ends the children, last started first, each given time for its last checkpoint."""
        self._stopping = True
        for child in reversed(self._children):
            process = child.process
            if process is None or process.returncode is not None:
                continue
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
            except TimeoutError:
                self._say(f"{child.name} did not stop within {_STOP_TIMEOUT_S:.0f} s and was killed")
                process.kill()
                await process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _log(self, child: Child) -> Path:
        return self._log_dir / f"{child.name}.log"

    async def _spawn(self, child: Child) -> None:
        child.starts.append(asyncio.get_running_loop().time())
        with self._log(child).open("ab") as log:
            child.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "cli.main",
                *child.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=True,  # Ctrl-C reaches us alone; we stop the children in order
            )

    async def _keep(self, child: Child) -> None:
        while True:
            await self._relay(child)
            if self._stopping:
                return
            if not child.ready.done():
                child.ready.set_exception(UserError(self._last_words(child)))
                return
            first = child.starts[0]
            if len(child.starts) > _RESTARTS_PER_MINUTE and child.starts[-1] - first < 60:
                raise UserError(
                    f"{child.name} ended {len(child.starts)} times within a minute and was given up: "
                    f"see {self._log(child)}"
                )
            self._say(f"{child.name} ended unexpectedly and is started again: see {self._log(child)}")
            await asyncio.sleep(0.5 * len(child.starts))
            await self._spawn(child)

    async def _relay(self, child: Child) -> None:
        process = child.process
        assert process is not None
        assert process.stdout is not None
        async for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip("\n")
            if line.startswith("READY "):
                if not child.ready.done():
                    child.ready.set_result(json.loads(line.removeprefix("READY ")))
            else:
                self._say(line)
        await process.wait()

    def _last_words(self, child: Child) -> str:
        with contextlib.suppress(OSError, IndexError):
            lines = self._log(child).read_text(errors="replace").strip().splitlines()
            return lines[-1].removeprefix("watchkeeper: ")
        return f"{child.name} ended before it was ready: see {self._log(child)}"
