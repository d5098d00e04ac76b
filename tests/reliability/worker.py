"""`watchkeeper stream` as a process of its own, and the moments at which something is done to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.integration.parts.kafka_jars import REPOSITORY
from tests.integration.parts.kafka_proxy import Api, KafkaProxy, Seen, Side
from tests.integration.parts.process import Child
from tests.reliability.workload import LATENESS_MS, PARTITIONS, WINDOW_MS

SESSION_TIMEOUT_MS = 2_000
READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 10.0
"""How long the worker may take to end after SIGTERM."""

COMMAND = (sys.executable, "-m", "cli.main", "stream")


def environment(bootstrap: str, group: str, data_dir: Path, **settings: object) -> dict[str, str]:
    """Small batches and frequent checkpoints, so that there is much to fall between; `settings` override."""
    ours: dict[str, object] = {
        "DATA_DIR": data_dir,
        "KAFKA__BOOTSTRAP": bootstrap,
        "KAFKA__PARTITIONS": PARTITIONS,
        "KAFKA__GROUP_PREFIX": group,
        "KAFKA__SESSION_TIMEOUT_MS": SESSION_TIMEOUT_MS,
        "KAFKA__REBALANCE_TIMEOUT_MS": SESSION_TIMEOUT_MS,
        "STREAM__BATCH_RECORDS": 100,
        "STREAM__CHECKPOINT_MS": 200,
        "STREAM__CHECKPOINT_EVENTS": 300,
        "STREAM__WINDOW_MS": WINDOW_MS,
        "STREAM__LATENESS_MS": LATENESS_MS,
        "STREAM__IDLE_CLOCK": "events",
        **settings,
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WATCHKEEPER_")}
    return inherited | {f"WATCHKEEPER_{name}": str(value) for name, value in ours.items()}


class StreamWorker:
    """One worker at a time, which may be started again; every start writes to the same log."""

    def __init__(self, env: Mapping[str, str], log: Path, command: Sequence[str] = COMMAND) -> None:
        self._env = dict(env)
        self._command = command
        self.log = log
        self.child: Child | None = None
        self._begins = 0

    @property
    def pid(self) -> int:
        assert self.child is not None, "the worker was not started"
        return self.child.pid

    @property
    def running(self) -> bool:
        return self.child is not None and self.child.exit_code is None

    def start(self) -> None:
        self._begins = self.log.stat().st_size if self.log.exists() else 0
        self.child = Child(self._command, log=self.log, env=self._env, cwd=REPOSITORY)

    def await_ready(self) -> None:
        """Until READY is printed, by this start and not by one before."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while b"READY " not in self.log.read_bytes()[self._begins :]:
            assert self.running, f"the worker ended:\n{self.log_tail()}"
            assert time.monotonic() < deadline, f"the worker is not ready:\n{self.log_tail()}"
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout_s: float) -> int:
        """The exit code; fails when it does not end."""
        assert self.child is not None
        try:
            return self.child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker did not end in {timeout_s:g} s:\n{self.log_tail()}") from None

    def stop(self) -> None:
        """SIGTERM: it must end in time and with 0."""
        assert self.running, f"the worker ended by itself:\n{self.log_tail()}"
        self.signal(signal.SIGTERM)
        code = self.wait(STOP_TIMEOUT_S)
        assert code == 0, f"exit code {code} after SIGTERM:\n{self.log_tail()}"

    def end(self) -> None:
        """However it is: gone afterwards."""
        if self.child is not None:
            self.child.kill()

    def log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-4_000:] if self.log.exists() else ""


@dataclass(frozen=True, slots=True)
class Moment:
    """The `nth` request of a kind to pass a worker's proxy, before it goes on: no answer, or no request then,
    has reached the other side."""

    api: Api
    side: Side
    nth: int

    def __str__(self) -> str:
        return f"{self.nth}. {self.api.name} {self.side.value}"


class Trap:
    """Does something to the worker behind one of the proxies: to the one that gets to the moment first."""

    def __init__(self, workers: Sequence[StreamWorker], proxies: Sequence[KafkaProxy]) -> None:
        self._lock = threading.Lock()
        self._moment: Moment | None = None
        self._action: Callable[[StreamWorker], None] = StreamWorker.end
        self._counts: dict[int, int] = {}
        self._caught: StreamWorker | None = None
        self._sprung = threading.Event()
        for index, (worker, proxy) in enumerate(zip(workers, proxies, strict=True)):
            for api in (Api.PRODUCE, Api.OFFSET_COMMIT):
                for side in Side:
                    proxy.on(api, self._listener(index, worker, api, side), side=side)

    def arm(self, moment: Moment, action: Callable[[StreamWorker], None]) -> None:
        """`action` runs on a proxy's thread, which passes nothing on meanwhile."""
        with self._lock:
            self._counts.clear()
            self._caught = None
            self._sprung.clear()
            self._action = action
            self._moment = moment

    def caught(self, timeout_s: float = 60.0) -> StreamWorker:
        """The worker it was done to, once it was."""
        assert self._sprung.wait(timeout_s), f"no worker came to the moment: {self._moment}"
        assert self._caught is not None
        return self._caught

    def _listener(self, index: int, worker: StreamWorker, api: Api, side: Side) -> Callable[[Seen], None]:
        def look(_: Seen) -> None:
            with self._lock:
                moment = self._moment
                if moment is None or (moment.api, moment.side) != (api, side) or not worker.running:
                    return
                self._counts[index] = self._counts.get(index, 0) + 1
                if self._counts[index] < moment.nth:
                    return
                self._moment = None
                self._action(worker)
                self._caught = worker
                self._sprung.set()

        return look


def send(number: signal.Signals) -> Callable[[StreamWorker], None]:
    """The action of sending a signal."""
    return lambda worker: worker.signal(number)
