"""One real Apache Kafka on loopback: broker and controller in one process, KRaft mode.

In tests: `with KafkaBroker(folder) as broker: …`, or the fixtures `kafka` and `kafka_broker`.
By hand: `make kafka`, or this module as a program.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from aiokafka.errors import KafkaError

from tests.integration.parts.kafka_client import Kafka
from tests.integration.parts.kafka_jars import CACHE, LOGGING, REPOSITORY, fetch_jars, find_java
from tests.integration.parts.ports import LOOPBACK, free_port, port_is_free
from tests.integration.parts.process import Child, PartError

_READY_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 20.0
_FORMAT_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class ProxiedListener:
    """A way in through a proxy: the broker listens on `bind` and sends clients to `advertised`."""

    bind: str
    advertised: str

    @property
    def advertised_port(self) -> int:
        return int(self.advertised.rpartition(":")[2])


class KafkaBroker(Kafka):
    """Ports and data stay the same over `stop`, `kill` and `start`."""

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        proxied_listeners: int = 2,
        settings: dict[str, str] | None = None,
        heap_mb: int = 512,
    ) -> None:
        self._port = free_port() if port is None else port
        super().__init__(f"{LOOPBACK}:{self._port}")
        self.data_dir = data_dir.resolve()
        self.proxied = tuple(
            ProxiedListener(bind=f"{LOOPBACK}:{free_port()}", advertised=f"{LOOPBACK}:{free_port()}")
            for _ in range(proxied_listeners)
        )
        self._controller_port = free_port()
        self._settings = settings or {}
        self._heap_mb = heap_mb
        self._child: Child | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        """What the broker wrote, over all its starts."""
        return self.data_dir / "broker.log"

    @property
    def pid(self) -> int:
        if self._child is None:
            raise PartError("the broker does not run: call start() first")
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.exit_code is None

    def start(self, timeout_s: float = _READY_TIMEOUT_S) -> None:
        """Returns when the broker answers; the first start formats the storage."""
        if self.running:
            return
        if not port_is_free(self._port):
            raise PartError(f"port {self._port} is taken: stop what listens there or choose another port")
        java, libs = find_java(), fetch_jars()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._properties.write_text(
            "".join(f"{name}={value}\n" for name, value in self._configuration().items())
        )
        command: list[str | Path] = [java, f"-Xmx{self._heap_mb}m", f"-Xms{min(self._heap_mb, 256)}m"]
        command += ["-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true"]
        command += [f"-Dlog4j2.configurationFile={LOGGING}", "-cp", f"{libs}/*"]
        self._format([*command, "kafka.tools.StorageTool"])
        self._child = Child([*command, "kafka.Kafka", self._properties], log=self.log, cwd=self.data_dir)
        self._await_ready(time.monotonic() + timeout_s)

    def stop(self) -> None:
        """SIGTERM, as an operator would; a broker that hangs is killed."""
        child, self._child = self._child, None
        if child is not None:
            child.stop(_STOP_TIMEOUT_S)

    def kill(self) -> None:
        """SIGKILL: no goodbye to clients, no clean shutdown of the log."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def send_signal(self, number: signal.Signals) -> None:
        """SIGSTOP and SIGCONT make it hang and wake."""
        if self._child is not None:
            self._child.send_signal(number)

    def wait(self, timeout_s: float | None = None) -> int:
        """The exit code once it ends; subprocess.TimeoutExpired when it still runs."""
        if self._child is None:
            raise PartError("the broker does not run: call start() first")
        return self._child.wait(timeout_s)

    def log_tail(self) -> str:
        return "" if self._child is None else self._child.log_tail()

    @property
    def _properties(self) -> Path:
        return self.data_dir / "server.properties"

    def _configuration(self) -> dict[str, str]:
        listeners = {"PLAINTEXT": (self.bootstrap, self.bootstrap)}
        listeners |= {f"PROXIED{i}": (way.bind, way.advertised) for i, way in enumerate(self.proxied)}
        controller = f"{LOOPBACK}:{self._controller_port}"
        protocols = ",".join(f"{name}:PLAINTEXT" for name in [*listeners, "CONTROLLER"])
        bound = [f"{name}://{bind}" for name, (bind, _) in listeners.items()]
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": ",".join([*bound, f"CONTROLLER://{controller}"]),
            "advertised.listeners": ",".join(f"{name}://{told}" for name, (_, told) in listeners.items()),
            "listener.security.protocol.map": protocols,
            "log.dirs": str(self.data_dir / "log"),
            # One node: nothing can be replicated, and nobody is worth waiting for.
            "default.replication.factor": "1",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "share.coordinator.state.topic.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "auto.create.topics.enable": "false",
            # After a kill the new process may register only when the old one's session has run out.
            "broker.session.timeout.ms": "4000",
            "broker.heartbeat.interval.ms": "500",
            # Event times in tests are years apart; retention by time would delete what was just written.
            "log.retention.ms": "-1",
            # Stock sizes are for big machines: this buffer alone would take a quarter of the heap.
            "log.cleaner.dedupe.buffer.size": "16777216",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "background.threads": "2",
        } | self._settings

    def _format(self, tool: Sequence[str | Path]) -> None:
        if (self.data_dir / "log" / "meta.properties").exists():
            return
        cluster_id = uuid.uuid4().hex[:22]
        command = [*tool, "format", "--ignore-formatted", "-t", cluster_id, "-c", self._properties]
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_FORMAT_TIMEOUT_S)
        if run.returncode != 0:
            raise PartError(
                f"could not format {self.data_dir} for Kafka: {(run.stderr or run.stdout).strip()}"
            )

    def _await_ready(self, deadline: float) -> None:
        while True:
            if not self.running:
                raise PartError(f"the broker ended while it started; its log ends:\n{self.log_tail()}")
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                # Connecting first is cheap; a whole client for every try would slow the start it waits for.
                if not port_is_free(self._port):
                    self.ping()
                    return
            if time.monotonic() > deadline:
                tail = self.log_tail()
                self.kill()
                raise PartError(f"the broker did not answer in time; its log ends:\n{tail}")
            time.sleep(0.05)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a broker in the foreground until SIGINT or SIGTERM."""
    options = _parser().parse_args(arguments)
    try:
        if options.fetch_only:
            find_java()
            print(f"Apache Kafka's jars are in {fetch_jars()}")
            return 0
        return _run_in_foreground(options.port, options.data_dir.resolve(), options.heap_mb)
    except PartError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _run_in_foreground(port: int, data_dir: Path, heap_mb: int) -> int:
    asked = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        asked.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    print("starting Apache Kafka; the first time fetches its jars (about 45 MB)", flush=True)
    with KafkaBroker(data_dir, port=port or None, proxied_listeners=0, heap_mb=heap_mb) as broker:
        print(f"Apache Kafka is ready on {broker.bootstrap}, data and log in {data_dir}; Ctrl-C stops it")
        print(f"point Watchkeeper at it: export WATCHKEEPER_KAFKA__BOOTSTRAP={broker.bootstrap}", flush=True)
        while not asked.wait(0.2):
            if not broker.running:
                raise PartError(f"the broker ended by itself; its log ends:\n{broker.log_tail()}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.integration.parts.kafka",
        description="Runs one real Apache Kafka broker on loopback until Ctrl-C. Needs Java 17; the first "
        "run fetches the jars with Maven into .cache/kafka. Data stays in the data folder, and the next run "
        "goes on with it.",
        epilog="Topics are not created by themselves: run `watchkeeper topics create` once the broker is "
        "ready. WATCHKEEPER_TEST_KAFKA=host:port makes the tests use this broker instead of their own.",
    )
    default_data = CACHE / "data"
    parser.add_argument(
        "--port", type=int, default=9092, help="where clients connect; 0 picks a free port (default: 9092)"
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=default_data,
        help="where topics and the log are kept; remove it to begin anew "
        f"(default: {default_data.relative_to(REPOSITORY)})",
    )
    parser.add_argument("--heap-mb", type=int, default=512, help="the broker's Java heap (default: 512)")
    parser.add_argument(
        "--fetch-only", action="store_true", help="fetch the jars if they are not there, and end"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
