"""Seconds from `watchkeeper halt --all` until the gates of 1,000 subscribed agents deny.

    .venv/bin/python -m bench.global_stop

Every agent has its own subscriber, consumer, register and gate, in a few processes on this machine, beside
the broker and `watchkeeper up`. The clock runs from the moment the order is in the store (`issued_at`
of the command) until an agent's own gate answers no; what the command itself takes to start is told apart.
Then the agents are let go, and stopped again. A round counts when every agent has denied and acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer
from rich.console import Console

from bench import report
from bench.broker import running_broker
from bench.latency import engine, quantile
from bench.machine import RESULTS, machine
from bench.stopped_agents import IDLE_FETCH_MS
from bench.topics import BenchError
from cli.errors import UserError
from schemas.topics import ACKS, CONTROL
from tests.integration.parts.process import PartError

BAR_P99_S = 1.0
BAR_MAX_S = 5.0
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
SETTLED_S = 2.0
_START_S = 180.0
_ROUND_S = 120.0
_WATCHKEEPER = str(Path(sys.executable).parent / "watchkeeper")


class Fleet:
    """The agents, in processes of their own. Use as a context manager."""

    def __init__(self, bootstrap: str, trusted: Path, agents: int, processes: int) -> None:
        shares = [len(range(start, agents, processes)) for start in range(processes)]
        self.agents = agents
        self._lines: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._commands = [
            [
                sys.executable,
                "-m",
                "bench.stopped_agents",
                bootstrap,
                str(trusted),
                str(sum(shares[:n])),
                str(share),
            ]
            for n, share in enumerate(shares)
        ]
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Fleet:
        for command in self._commands:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._processes.append(process)
            threading.Thread(target=self._read, args=(process,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
            process.kill()
            process.wait()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        for line in process.stdout or ():
            self._lines.put(orjson.loads(line))
        self._lines.put({})

    def heard(self) -> None:
        """Returns when every agent hears. Raises BenchError."""
        self._all(lambda line: int(line.get("heard", 0)), _START_S)

    def changed(self, mode: str) -> list[tuple[float, float]]:
        """When, in seconds since 1970, the gate of each agent had changed to the mode, and the seconds of
        those since the order for which its process had no CPU. Raises BenchError.
        """
        at: list[tuple[float, float]] = []

        def count(line: dict[str, Any]) -> int:
            if line.get("mode") == mode:
                at.extend(zip(line["at"], line["waited"], strict=True))
            return len(line["at"]) if line.get("mode") == mode else 0

        self._all(count, _ROUND_S)
        return at

    def _all(self, count: Any, within_s: float) -> None:
        found, deadline = 0, time.monotonic() + within_s
        while found < self.agents:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise BenchError(f"only {found} of {self.agents} agents within {within_s:.0f} s") from None
            if not line:
                raise BenchError("a process of agents ended: see standard error")
            found += count(line)


@dataclass(frozen=True)
class Round:
    """One global stop. Seconds: of each agent from the order to its denial, and of what surrounds it."""

    denied_s: list[float]
    unhindered_s: list[float]
    """The same without the time since the order in which the agent's process was ready to run and had no CPU:
    a lower bound, since some of it passed before the order had come.
    """
    acknowledged_s: list[float]
    entered_to_issued_s: float


def one_round(fleet: Fleet, bootstrap: str, data_dir: Path) -> Round:
    """Stops everybody, and lets them go again. Raises BenchError."""
    with _listening(bootstrap, fleet.agents) as heard:
        entered = time.time()
        _run("halt", "--all", "--reason", "bench", data_dir=data_dir)
        denied = fleet.changed("halt")
        issued, acknowledged = heard()
    _run("resume", "default/*", data_dir=data_dir)
    fleet.changed("run")
    return Round(
        sorted(at - issued for at, _ in denied),
        sorted(at - issued - waited for at, waited in denied),
        [at - issued for at in acknowledged],
        round(issued - entered, 3),
    )


def _run(*arguments: str, data_dir: Path) -> None:
    command = [_WATCHKEEPER, *arguments, "--data-dir", str(data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise BenchError(done.stderr.strip() or f"{arguments[0]} failed")


@contextmanager
def _listening(bootstrap: str, agents: int) -> Iterator[Any]:
    """Gives a function that returns when the halt was issued and when each agent's ack lay on the bus."""
    ready, found = threading.Event(), queue.SimpleQueue[Any]()
    thread = threading.Thread(
        target=lambda: asyncio.run(_listen(bootstrap, agents, ready, found)), daemon=True
    )
    thread.start()
    if not ready.wait(30):
        raise BenchError("cannot read agent.control.acks")

    def heard() -> tuple[float, list[float]]:
        try:
            issued, acknowledged = found.get(timeout=_ROUND_S)
        except queue.Empty:
            raise BenchError("not every agent has acknowledged") from None
        return issued, acknowledged

    yield heard
    thread.join(10)


async def _listen(bootstrap: str, agents: int, ready: threading.Event, found: Any) -> None:
    consumer: Any = AIOKafkaConsumer(
        CONTROL, ACKS, bootstrap_servers=bootstrap, group_id=None, auto_offset_reset="latest"
    )
    await consumer.start()
    try:
        await consumer.seek_to_end()
        ready.set()
        with contextlib.suppress(TimeoutError):
            found.put(await asyncio.wait_for(_stopped(consumer, agents), _ROUND_S))
    finally:
        await consumer.stop()


async def _stopped(consumer: Any, agents: int) -> tuple[float, list[float]]:
    """When the first halt was issued, and when the acknowledgement of each agent came, in any order."""
    issued: dict[str, float] = {}
    acknowledged: dict[str, dict[str, float]] = {}
    async for record in consumer:
        value, now = orjson.loads(record.value), time.time()
        command = value["command_id"]
        if record.topic == ACKS:
            acknowledged.setdefault(command, {}).setdefault(value["enforcement_point"], now)
        elif value["state"]["mode"] == "halt":
            issued.setdefault(command, datetime.fromisoformat(value["issued_at"]).timestamp())
        for halt, at in issued.items():
            if len(acknowledged.get(halt, ())) == agents:
                return at, sorted(acknowledged[halt].values())
    raise BenchError("agent.control.acks ended")


def summary(rounds: Sequence[Round]) -> dict[str, Any]:
    """Over all agents of all rounds, in seconds."""
    found: dict[str, Any] = {}
    for prefix, seconds in (
        ("", [each.denied_s for each in rounds]),
        ("unhindered_", [each.unhindered_s for each in rounds]),
        ("ack_", [each.acknowledged_s for each in rounds]),
    ):
        ordered = sorted(second for each in seconds for second in each)
        found |= {f"{prefix}{name}_s": round(quantile(ordered, share), 3) for name, share in SHARES.items()}
    found["rounds"] = [
        {"p50_s": round(quantile(each.denied_s, 0.5), 3), "p99_s": round(quantile(each.denied_s, 0.99), 3)}
        | {"max_s": round(each.denied_s[-1], 3), "entered_to_issued_s": each.entered_to_issued_s}
        for each in rounds
    ]
    found |= {"bar_p99_s": BAR_P99_S, "bar_max_s": BAR_MAX_S}
    for prefix in ("", "unhindered_"):
        found[f"{prefix}met"] = found[f"{prefix}p99_s"] < BAR_P99_S and found[f"{prefix}max_s"] < BAR_MAX_S
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 when it could not be run or an agent did not stop."""
    options = _parser().parse_args(arguments)
    console, circumstances = Console(stderr=True), machine()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="watchkeeper-bench-") as name,
            contextlib.ExitStack() as running,
        ):
            folder = Path(name)
            given, broker_name = None, "Tansu (embedded, in memory)"
            if options.broker == "kafka":
                broker = running.enter_context(running_broker("kafka", None, folder))
                given, broker_name = broker.bootstrap, broker.name
            address = running.enter_context(engine(given, folder))
            trusted = folder / "data" / "keys" / "trusted.json"
            fleet = running.enter_context(Fleet(address, trusted, options.agents, options.processes))
            console.print(f"{options.agents} agents subscribe …")
            fleet.heard()
            rounds = []
            for number in range(options.rounds):
                # Who has just been told something asks about the other partitions alone until that is
                # answered: in a real agent half a second, here `IDLE_FETCH_MS`.
                time.sleep(IDLE_FETCH_MS / 1000 + SETTLED_S)
                console.print(f"global stop {number + 1} of {options.rounds}")
                rounds.append(one_round(fleet, address, folder / "data"))
    except (BenchError, PartError, UserError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    result: dict[str, Any] = {"machine": circumstances, "broker": broker_name, "agents": options.agents}
    result |= {"processes": options.processes, **summary(rounds)}
    report.write(options.out, "global_stop", result, report.global_stop_markdown(result))
    print(report.global_stop_markdown(result))
    print(orjson.dumps({name: result[name] for name in ("p50_s", "p99_s", "max_s")}).decode())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.global_stop",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--broker", choices=("kafka", "embedded"), default="kafka", help="(default: kafka)")
    parser.add_argument("--agents", type=int, default=1_000, help="how many (default: 1,000)")
    cores = os.cpu_count() or 1
    parser.add_argument(
        "--processes", type=int, default=cores, help=f"that host them (default: one a core, {cores} here)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="stops (default: 3)")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder for the results (default: bench/results)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
