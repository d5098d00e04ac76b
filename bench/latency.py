"""Milliseconds from an agent's event to the signed command on `agent.control`, with `watchkeeper up` running.

Load is the benchmark's workload at a steady rate, by default half of what the throughput benchmark last
measured. Into it go probes: an agent nobody has seen, which makes the same call five times. The clock runs
from before the fifth call is handed to the producer until a consumer has the command that halts that agent.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from rich.console import Console
from rich.progress import track

from bench import report
from bench.broker import running_broker
from bench.machine import RESULTS, machine
from bench.topics import BATCH_BYTES, BenchError
from bench.workload import Made, Workload
from cli.errors import UserError
from schemas.topics import CONTROL, DETECTIONS, EVENTS
from tests.integration.parts.process import PartError

BAR_P99_MS = 250.0
DEFAULT_RATE = 5_000.0
TICK_S = 0.01
PARTITIONS = 4
REPEATS = 5
SETTLE_S = 10.0
_READY_S = 60.0
_STAMP_LENGTH = len("2026-01-31T12:00:00.000Z")


def _healthy_workload() -> Workload:
    """Nothing in it goes wrong: a hundred sick sessions a second would measure the paging, not the path."""
    return Workload(20_000, end_ms=int(time.time() * 1000), partitions=PARTITIONS, planted_share=0.0)


class Load:
    """The workload, over and over at a rate, each event with the time at which it is sent."""

    def __init__(self, producer: Any, records: Sequence[Made], rate: float) -> None:
        self._producer, self._rate = producer, rate
        self._records = [(record.partition, record.key, *_around_time(record.value)) for record in records]
        self.sent = 0
        self.lap = 0

    async def run(self) -> None:
        """Until cancelled. What cannot be sent in time is sent late, not dropped."""
        began = time.perf_counter()
        while True:
            due = int((time.perf_counter() - began) * self._rate)
            await self._send(min(due - self.sent, 5_000))
            await asyncio.sleep(TICK_S)

    async def _send(self, count: int) -> None:
        stamp, batches = _now(), [self._producer.create_batch() for _ in range(PARTITIONS)]
        for _ in range(count):
            lap, place = divmod(self.sent, len(self._records))
            partition, key, before, after = self._records[place]
            # A lap's events are new ones: another lap's number in every id that tells them apart.
            value = (before + stamp + after).replace(b'"s-', b'"s%d-' % lap, 1)
            value = value.replace(b'"event_id":"', b'"event_id":"%d-' % lap, 1)
            batches[partition].append(key=key, value=value, timestamp=None)
            self.sent += 1
        for partition, batch in enumerate(batches):
            if batch.record_count():
                await self._producer.send_batch(batch, EVENTS, partition=partition)


def _now() -> bytes:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


def _around_time(value: bytes) -> tuple[bytes, bytes]:
    start = value.index(b'"time":"') + len(b'"time":"')
    return value[:start], value[start + _STAMP_LENGTH :]


async def measure(
    bootstrap: str, rate: float, probes: int, pause_s: float, console: Console
) -> dict[str, Any]:
    """Latencies in milliseconds of the probes that were answered, and what load there really was."""
    records = list(_healthy_workload())
    producer: Any = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=0, max_batch_size=BATCH_BYTES)
    consumer: Any = AIOKafkaConsumer(
        CONTROL,
        DETECTIONS,
        bootstrap_servers=bootstrap,
        group_id=None,
        auto_offset_reset="latest",
        fetch_max_wait_ms=10,
    )
    await producer.start()
    await consumer.start()
    await consumer.seek_to_end()
    sent: dict[str, float] = {}
    commanded: dict[str, float] = {}
    detected: dict[str, float] = {}
    load = Load(producer, records, rate)
    tasks = [
        asyncio.create_task(load.run()),
        asyncio.create_task(_listen(consumer, sent, detected, commanded)),
    ]
    try:
        await asyncio.sleep(SETTLE_S / 2)
        began, sent_before = time.perf_counter(), load.sent
        for number in track(range(probes), "probing", console=console):
            await _probe(producer, f"probe-{number:04d}", sent)
            await asyncio.sleep(pause_s)
        achieved = (load.sent - sent_before) / (time.perf_counter() - began)
        for task in tasks:
            if task.done():
                task.result()
        await asyncio.sleep(SETTLE_S)
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)
        await consumer.stop()
        await producer.stop()
    return {
        "command_ms": sorted(commanded.values()),
        "detection_ms": sorted(detected.values()),
        "probes": len(sent),
        "events_per_second": round(achieved),
    }


async def _probe(producer: Any, agent: str, sent: dict[str, float]) -> None:
    session = f"{agent}-{time.time_ns():x}"
    base = {"schema": "agent.event/1", "agent": agent, "session": session, "time": _now().decode()}
    call = {"tool": "files.list", "arguments_hash": "a1", "result_hash": "r1", "status": "ok"}
    events = [base | {"type": "session.start", "event_id": f"{session}-start"}]
    events += [base | call | {"type": "tool.call", "event_id": f"{session}-{n}"} for n in range(REPEATS)]
    for event in events[:-1]:
        await producer.send(EVENTS, orjson.dumps(event), key=session.encode())
    sent[agent] = time.perf_counter()
    await producer.send(EVENTS, orjson.dumps(events[-1]), key=session.encode())


async def _listen(
    consumer: Any, sent: dict[str, float], detected: dict[str, float], commanded: dict[str, float]
) -> None:
    async for record in consumer:
        arrived = time.perf_counter()
        if record.value is None:
            continue
        value = orjson.loads(record.value)
        if record.topic == DETECTIONS:
            agent, wanted, latencies = value["agent"], value["severity"] == "critical", detected
        else:
            agent, wanted, latencies = value["target"]["agent"], value["state"]["mode"] == "halt", commanded
            if not value.get("signature"):
                raise BenchError(f"the command for {agent} is not signed")
        if wanted and agent in sent:
            latencies.setdefault(agent, (arrived - sent[agent]) * 1000)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@contextmanager
def engine(bootstrap: str | None, folder: Path) -> Iterator[str]:
    """`watchkeeper up`, and the broker it uses."""
    command = [str(Path(sys.executable).parent / "watchkeeper"), "up", "--http-port", "0", "--data-dir"]
    command += [str(folder / "data"), *(("--bootstrap", bootstrap) if bootstrap else ("--kafka-port", "0"))]
    log = folder / "up.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
    try:
        yield _await_ready(process, log)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        process.kill()
        process.wait()


def _await_ready(process: subprocess.Popen[bytes], log: Path) -> str:
    for line in process.stdout or ():
        if line.startswith(b"READY "):
            address: str = orjson.loads(line.removeprefix(b"READY "))["kafka"]
            return address
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
    raise BenchError(f"watchkeeper up ended before it was ready:\n{tail}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 when it could not be run or a probe was not answered."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True)
    rate = options.rate or _half_load(RESULTS / "throughput.json")
    circumstances = machine()
    try:
        with tempfile.TemporaryDirectory(prefix="watchkeeper-bench-") as name:
            folder = Path(name)
            with contextlib.ExitStack() as running:
                given, broker_name = None, "Tansu (embedded, in memory)"
                if options.broker == "kafka":
                    broker = running.enter_context(running_broker("kafka", None, folder))
                    given, broker_name = broker.bootstrap, broker.name
                address = running.enter_context(engine(given, folder))
                found = asyncio.run(measure(address, rate, options.probes, options.pause_s, console))
    except (BenchError, PartError, UserError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return _tell(found, rate, broker_name, circumstances, options.out)


def _tell(found: dict[str, Any], rate: float, broker: str, circumstances: dict[str, Any], out: Path) -> int:
    ordered, detections = found.pop("command_ms"), found.pop("detection_ms")
    missing = found["probes"] - len(ordered)
    if missing:
        print(f"error: {missing} of {found['probes']} probes were not answered", file=sys.stderr)
        return 1
    quantiles = {
        f"p{round(100 * share)}_ms": round(quantile(ordered, share), 1) for share in (0.5, 0.9, 0.99, 1)
    }
    detection = {
        f"detection_p{round(100 * share)}_ms": round(quantile(detections, share), 1)
        for share in (0.5, 0.9, 0.99)
    }
    result = {
        "machine": circumstances,
        **detection,
        "broker": broker,
        "rate_wanted": rate,
        **found,
        **quantiles,
    }
    result |= {"bar_p99_ms": BAR_P99_MS, "met": quantiles["p99_ms"] < BAR_P99_MS}
    report.write(out, "latency", result, report.latency_markdown(result))
    print(report.latency_markdown(result))
    print(orjson.dumps(quantiles).decode())
    return 0


def _half_load(kept: Path) -> float:
    if not kept.is_file():
        return DEFAULT_RATE
    return float(orjson.loads(kept.read_bytes())["sides"]["watchkeeper"]["events_per_second"]) / 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--broker", choices=("kafka", "embedded"), default="kafka", help="(default: kafka)")
    parser.add_argument(
        "--rate", type=float, help="events per second of load (default: half of the last throughput result)"
    )
    parser.add_argument("--probes", type=int, default=100, help="how many (default: 100)")
    parser.add_argument("--pause-s", type=float, default=0.3, help="between probes (default: 0.3)")
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder for the results (default: bench/results)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
