"""This project's worker with its session stage: detectors, windows, checkpoints and changelog are on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from bench.reference import LATENESS_MS, WINDOW_MS
from bench.sides.job import Job, Meter
from bench.sides.profiler import profiled
from streams import sessions
from streams.stage import Output, Processor, RecordBatch, Stage
from streams.transport import ClientSettings
from streams.worker import Worker, WorkerSettings, spare_collector


class Metered:
    """A processor with a meter around `process`, and without ticks: timers that follow the wall clock would
    find different things in every run."""

    def __init__(self, inner: Processor, meter: Meter) -> None:
        self._inner, self._meter = inner, meter
        self.restore, self.restore_marker = inner.restore, inner.restore_marker
        self.dirty, self.value, self.marker = inner.dirty, inner.value, inner.marker

    def process(self, batch: RecordBatch) -> Iterable[Output]:
        self._meter.begin()
        outputs = list(self._inner.process(batch))
        self._meter.add(len(batch))
        return outputs

    def tick(self, broker_now_ms: int) -> Iterable[Output]:
        return ()


def settings(job: Job) -> WorkerSettings:
    """The worker's defaults."""
    return WorkerSettings(
        client=ClientSettings(
            bootstrap_servers=job.bootstrap, group_id=job.group, idempotent_producer=not job.embedded
        ),
    )


async def run(job: Job) -> None:
    """Runs until every record is processed, then checkpoints, commits and leaves."""
    meter = Meter(job.total)
    plain = sessions.stage(window_partitions=len(job.limits), window_ms=WINDOW_MS, lateness_ms=LATENESS_MS)
    stage = Stage(
        name=plain.name,
        sources=plain.sources,
        make=lambda partition: Metered(plain.make(partition), meter),
        outputs=plain.outputs,
    )
    worker = Worker([stage], settings(job), on_ready=spare_collector)
    running = asyncio.create_task(worker.run())
    while not meter.done and not running.done():  # noqa: ASYNC110 - a batch must not pay for being counted
        await asyncio.sleep(0.05)
    processed = time.perf_counter()
    worker.stop()
    await running
    metrics = worker.metrics[plain.name]
    meter.report(
        checkpoints=metrics.checkpoints,
        state_writes=metrics.state_writes,
        outputs=metrics.outputs,
        stop_seconds=round(time.perf_counter() - processed, 3),
    )


if __name__ == "__main__":
    with profiled():
        asyncio.run(run(Job.from_command_line()))
