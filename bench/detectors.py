"""Microseconds per event in one process, without Kafka: decoding, each session detector, windows, the whole.

CPU time, the best of several passes over the same events, so that a busy machine disturbs little. A detector
costs what the pipeline takes longer with it than without.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from bench import report
from bench.machine import RESULTS, machine
from bench.reference import LATENESS_MS, WINDOW_MS, pipeline
from bench.workload import Made, Workload
from detectors.base import SessionDetector, Source
from detectors.pipeline import SessionPipeline
from detectors.registry import SESSION
from schemas import topics
from schemas.event import AgentEvent
from streams.decode import decode
from streams.sessions import SessionProcessor
from streams.stage import PlainRecord, RecordBatch

BUDGET_US = 15.0
BATCH_RECORDS = 1_000
CHECKPOINT_EVENTS = 20_000


@dataclass(frozen=True, slots=True)
class Cost:
    """What one part costs, per event of the stream and per event it is given."""

    part: str
    us_per_event: float
    us_per_call: float
    calls: int


def measure(records: Sequence[Made], passes: int) -> list[Cost]:
    """All parts, over records of one partition."""
    events = [event for record in records for event in _decoded(record)]
    sources = [Source(topics.EVENTS, 0, offset) for offset in range(len(events))]
    times = [record.time_ms for record in records]
    quiet = _best(passes, lambda: _through_pipeline(_plain(()), events, sources, times))
    costs = [
        _cost("decode", len(events), len(events), _best(passes, lambda: _decode_all(records))),
        _cost("pipeline without detectors: facts, duplicates, windows", len(events), len(events), quiet),
    ]
    for detector in SESSION:
        alone = _best(passes, partial(_alone, detector, events, sources, times))
        wanted = sum(event.type in detector.wants for event in events)
        costs.append(_cost(f"detector {detector.name}", len(events), wanted, alone - quiet))
    together = _best(passes, lambda: _through_pipeline(pipeline(0), events, sources, times))
    costs.append(_cost("pipeline with all detectors", len(events), len(events), together))
    whole = _best(passes, lambda: _whole_path(records))
    costs.append(_cost("whole path: decode, pipeline, outputs, checkpoints", len(events), len(events), whole))
    return costs


def _cost(part: str, events: int, calls: int, seconds: float) -> Cost:
    return Cost(part, round(seconds / events * 1e6, 3), round(seconds / max(calls, 1) * 1e6, 3), calls)


def _best(passes: int, work: Callable[[], None]) -> float:
    """CPU seconds of the fastest pass."""
    seconds = []
    for _ in range(passes):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


def _decoded(record: Made) -> list[Any]:
    return decode(record.value, topics.EVENTS, 0, 0, record.time_ms)


def _decode_all(records: Sequence[Made]) -> None:
    for record in records:
        decode(record.value, topics.EVENTS, 0, 0, record.time_ms)


def _plain(detectors: Sequence[SessionDetector]) -> SessionPipeline:
    return SessionPipeline(0, detectors, window_ms=WINDOW_MS, lateness_ms=LATENESS_MS, checkpointed=False)


def _alone(
    detector: SessionDetector, events: Sequence[AgentEvent], sources: Sequence[Source], times: Sequence[int]
) -> None:
    _through_pipeline(_plain((detector,)), events, sources, times)


def _through_pipeline(
    under_test: SessionPipeline, events: Sequence[AgentEvent], sources: Sequence[Source], times: Sequence[int]
) -> None:
    process = under_test.process
    for event, source, time_ms in zip(events, sources, times, strict=True):
        process(event, source, time_ms)


def _whole_path(records: Sequence[Made]) -> None:
    processor = SessionProcessor(pipeline(0, checkpointed=True), 4)
    since_checkpoint = 0
    for batch in _batches(records):
        for _ in processor.process(batch):
            pass
        since_checkpoint += len(batch)
        if since_checkpoint >= CHECKPOINT_EVENTS:
            since_checkpoint = 0
            for _ in processor.dirty():
                pass
            processor.marker()


def _batches(records: Sequence[Made]) -> Iterator[RecordBatch]:
    for start in range(0, len(records), BATCH_RECORDS):
        plain = [
            PlainRecord(topics.EVENTS, 0, start + place, made.time_ms, made.key, made.value)
            for place, made in enumerate(records[start : start + BATCH_RECORDS])
        ]
        yield RecordBatch(topics.EVENTS, 0, plain)


def markdown(result: dict[str, Any]) -> str:
    """The result as a page."""
    machine_facts = result["machine"]
    lines = [
        "# Microseconds per event",
        "",
        f"One process, no Kafka, {result['events']:,} events, best of {result['passes']} passes, CPU time. "
        f"{machine_facts['processor']}, Python {machine_facts['python']}, commit {machine_facts['commit']}, "
        f"{machine_facts['date']}. Budget of the whole path: {BUDGET_US:g} µs.",
        "",
        "| part | µs per event | µs per call | calls |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {cost['part']} | {cost['us_per_event']:.2f} | {cost['us_per_call']:.2f} | {cost['calls']:,} |"
        for cost in result["costs"]
    ]
    return "\n".join([*lines, ""])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and keeps the table."""
    options = _parser().parse_args(arguments)
    workload = Workload(options.events, end_ms=int(time.time() * 1000), partitions=1)
    with Console(stderr=True).status("measuring …"):
        costs = measure(list(workload), options.passes)
    result = {
        "machine": machine(),
        "events": options.events,
        "passes": options.passes,
        "budget_us": BUDGET_US,
        "costs": [asdict(cost) for cost in costs],
    }
    report.write(options.out, "detectors", result, markdown(result))
    table = Table("part", "µs per event", "µs per call", "calls")
    for cost in costs:
        table.add_row(cost.part, f"{cost.us_per_event:.2f}", f"{cost.us_per_call:.2f}", f"{cost.calls:,}")
    Console().print(table)
    print(orjson.dumps({cost.part: cost.us_per_event for cost in costs}).decode())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.detectors", description=__doc__)
    parser.add_argument("--events", type=int, default=40_000, help="how many events (default: 40000)")
    parser.add_argument(
        "--passes", type=int, default=5, help="passes over them, the best counts (default: 5)"
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS, help="folder for the results (default: bench/results)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
