"""Events per second of Watchkeeper beside stock Faust, Quix Streams and a bare consumer: one run, one broker.

The last line of standard output is one JSON object of events per second by side.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import report, topics
from bench.bars import bars
from bench.broker import Broker, running_broker
from bench.machine import REPOSITORY, RESULTS, machine
from bench.reference import DeadLetterError, Work, expected
from bench.sides.job import Job
from bench.topics import BenchError
from bench.workload import Made, Workload
from cli.errors import UserError
from detectors.registry import SESSION
from schemas.topics import DEAD, DETECTIONS, EVENTS, WINDOWS
from tests.integration.parts.process import PartError

MODULES = {
    "watchkeeper": "bench.sides.watchkeeper",
    "stock_faust": "bench.sides.stock_faust",
    "quix": "bench.sides.quix",
    "bare": "bench.sides.bare",
    "bare_stdlib_json": "bench.sides.bare",
}
COMPARED = ("stock_faust", "quix")
SLOW = ("stock_faust",)
IDLE = ("bare", "bare_stdlib_json")
"""Sides that detect nothing and so have nothing to show for it."""

EPILOG = """\
Every side reads the same topic in a process of its own and must find exactly what the detectors find without
Kafka; a side that does not fails the run. Times run from a side's first record to its last. Stock Faust reads
only the first --slow-events of it. Figures go to bench/results/throughput.json and .md.

examples:
  python -m bench.throughput                                  the full run, on Apache Kafka (Java 17)
  python -m bench.throughput --broker embedded --events 20000 a quick look, without Java
  python -m bench.throughput --sides watchkeeper,bare         only these two
"""


class SideError(BenchError):
    """A side failed, or did not do its work."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 when it could not be run or a side did not do its work."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True)
    try:
        with tempfile.TemporaryDirectory(prefix="watchkeeper-bench-") as folder:
            result = run(options, Path(folder), console)
    except (BenchError, DeadLetterError, UserError, PartError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    page = report.throughput_markdown(result)
    if options.out is not None:
        report.write(options.out, "throughput", result, page)
    print(page)
    print(orjson.dumps({name: side["events_per_second"] for name, side in _contract_sides(result)}).decode())
    return 0


def run(options: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    """Starts the broker, fills the topic, runs the sides one after the other."""
    circumstances = machine()
    with _progress(console) as progress:
        records, workload = _make_records(options, progress)
        prefixes = [min(options.slow_events, options.events), options.events]
        slow_work, work, limits = *(parts := expected(records, options.partitions, prefixes))[0], parts[1]
        _check_planted(workload, work)
        with running_broker(options.broker, options.bootstrap, folder) as broker:
            asyncio.run(_prepare(broker, records, options, progress))
            records.clear()
            sides = {}
            for side in options.sides:
                slow = side in SLOW
                job = _job(side, broker, folder, limits[0 if slow else 1])
                sides[side] = _run_side(job, folder, progress)
                if side not in IDLE:
                    _check(job, slow_work if slow else work)
            broker_name = broker.name
    return {
        "machine": circumstances,
        "broker": broker_name,
        "workload": {
            "events": options.events,
            "slow_events": prefixes[0],
            "seed": options.seed,
            "agents": workload.agents,
            "live_sessions": workload.sessions,
            "partitions": options.partitions,
            "detectors": [detector.name for detector in SESSION],
        },
        "sides": sides,
        "detections": work.by_detector,
        "bars": _bars(sides, "events_per_second"),
        "bars_unhindered": _bars(sides, "events_per_second_unhindered"),
    }


def _bars(sides: dict[str, dict[str, Any]], figure: str) -> list[dict[str, Any]]:
    rates = {name: side[figure] for name, side in sides.items()}
    return [bar.as_dict() for bar in bars(rates)] if "watchkeeper" in rates else []


def _contract_sides(result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((name, side) for name, side in result["sides"].items() if name != "bare_stdlib_json")


def _make_records(options: argparse.Namespace, progress: Progress) -> tuple[list[Made], Workload]:
    workload = Workload(
        options.events, end_ms=int(time.time() * 1000), seed=options.seed, partitions=options.partitions
    )
    task = progress.add_task("making events", total=options.events)
    records = []
    for number, record in enumerate(workload, 1):
        records.append(record)
        if number % 5_000 == 0:
            progress.update(task, completed=number)
    progress.update(task, completed=options.events)
    return records, workload


def _check_planted(workload: Workload, work: Work) -> None:
    """The detectors themselves must find what was planted, or equal results would prove little."""
    registered = {detector.name for detector in SESSION}
    for detector, sessions in workload.planted.items():
        missed = set(sessions) - work.sessions.get(detector, set())
        if detector in registered and missed:
            raise BenchError(
                f"{detector} did not find {len(missed)} of the {len(sessions)} sessions planted for it"
            )


async def _prepare(
    broker: Broker, records: list[Made], options: argparse.Namespace, progress: Progress
) -> None:
    names = [EVENTS, DETECTIONS, WINDOWS, DEAD]
    names += [f"bench.{side}.{topic}" for side in COMPARED for topic in ("detections", "windows")]
    await topics.create(broker.bootstrap, names, options.partitions)
    task = progress.add_task("filling the topic", total=len(records))
    await topics.fill(broker.bootstrap, EVENTS, records, lambda done: progress.update(task, completed=done))
    progress.update(task, completed=len(records))


def _job(side: str, broker: Broker, folder: Path, limits: list[int]) -> Job:
    own = side == "watchkeeper"
    return Job(
        bootstrap=broker.bootstrap,
        side=side,
        limits=limits,
        events_topic=EVENTS,
        detections_topic=DETECTIONS if own else f"bench.{side}.detections",
        windows_topic=WINDOWS if own else f"bench.{side}.windows",
        work_dir=str(folder / side),
        embedded=broker.embedded,
    )


def _run_side(job: Job, folder: Path, progress: Progress) -> dict[str, Any]:
    """Runs the side to its end and returns its result line.

    Raises:
        SideError: it failed.
    """
    file, log = folder / f"{job.side}.json", folder / f"{job.side}.log"
    job.write(file)
    Path(job.work_dir).mkdir()
    task = progress.add_task(report.NAMES[job.side], total=job.total)
    line: dict[str, Any] = {}
    with log.open("wb") as errors:
        command = [sys.executable, "-m", MODULES[job.side], str(file)]
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
        try:
            for text in process.stdout or ():
                with contextlib.suppress(orjson.JSONDecodeError):
                    line = orjson.loads(text)
                    progress.update(task, completed=line.get("processed", job.total))
            code = process.wait()
        finally:
            process.kill()
            process.wait()
    if code != 0 or "events_per_second" not in line:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise SideError(f"{job.side} ended with exit code {code}; its log ends:\n{tail}")
    return line


def _check(job: Job, work: Work) -> None:
    found = asyncio.run(topics.found(job.bootstrap, job.detections_topic, job.windows_topic))
    difference = found.differs_from(work)
    if difference is not None:
        raise SideError(f"{job.side} did not do its work: {difference}")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<45}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.throughput",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--events", type=_count, default=300_000, help="how many events to make (default: 300000)"
    )
    parser.add_argument(
        "--slow-events",
        type=_count,
        default=60_000,
        help="how many of them stock Faust reads (default: 60000)",
    )
    parser.add_argument("--partitions", type=_count, default=4, help="of every topic (default: 4)")
    parser.add_argument("--seed", type=int, default=20260131, help="of the events (default: 20260131)")
    parser.add_argument(
        "--broker",
        choices=("kafka", "embedded"),
        default="kafka",
        help="which broker to start (default: kafka)",
    )
    parser.add_argument("--bootstrap", help="use the broker at host:port, which must not have the topics yet")
    parser.add_argument(
        "--sides", type=_sides, default=tuple(MODULES), help=f"some of {','.join(MODULES)} (default: all)"
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder for the results (default: bench/results)"
    )
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return count


def _sides(text: str) -> tuple[str, ...]:
    sides = tuple(text.split(","))
    if unknown := [side for side in sides if side not in MODULES]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; choose from {', '.join(MODULES)}")
    return sides


if __name__ == "__main__":
    sys.exit(main())
