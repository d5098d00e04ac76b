"""What a stream worker counts, for Prometheus: at a port of its own, in a file, or both.

The file is for a process beside it that is scraped already (the responder of `watchkeeper up`), or for a node
exporter's textfile collector.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Final

from faust.types import TP
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from config.settings import Settings
from streams.checkpoint import StageMetrics
from streams.worker import WorkerError

PREFIX: Final = "watchkeeper_stream"
WRITE_EVERY_S: Final = 5.0

_COUNTED: Final = {
    "events": "Records applied.",
    "outputs": "Records written.",
    "checkpoints": "Checkpoints committed.",
    "state_writes": "Changes of state written to the changelog.",
    "ticks": "Ticks of the clock for partitions with nothing to read.",
    "fenced": "Partitions lost to another worker without being told.",
    "restored_keys": "Keys of state read back from the changelog.",
}
log = logging.getLogger(__name__)


class WorkerCollector(Collector):
    """The counters of a worker's stages, and how far each source partition is behind."""

    def __init__(self, stages: Mapping[str, StageMetrics], lag: Mapping[TP, int]) -> None:
        self._stages = stages
        self._lag = lag

    def collect(self) -> Iterator[Metric]:
        """Every family, with the values of now."""
        for name, help_text in _COUNTED.items():
            family = CounterMetricFamily(f"{PREFIX}_{name}", help_text, labels=["stage"])
            for stage, counted in self._stages.items():
                family.add_metric([stage], getattr(counted, name))
            yield family
        lag = GaugeMetricFamily(
            f"{PREFIX}_lag_records",
            "Records from the committed offset to the end of the partition.",
            labels=["topic", "partition"],
        )
        for tp, behind in list(self._lag.items()):
            lag.add_metric([tp.topic, str(tp.partition)], behind)
        yield lag


def registry_of(stages: Mapping[str, StageMetrics], lag: Mapping[TP, int]) -> CollectorRegistry:
    """What a worker shows: its stages, and the process's own memory and CPU under our prefix."""
    registry = CollectorRegistry()
    registry.register(WorkerCollector(stages, lag))
    ProcessCollector(namespace=PREFIX, registry=registry)
    return registry


@contextlib.asynccontextmanager
async def exposed(registry: CollectorRegistry, settings: Settings) -> AsyncIterator[None]:
    """Shows the registry as the settings say, until the end.

    Raises:
        WorkerError: the port cannot be listened at.
    """
    stream, server, writing = settings.stream, None, None
    if stream.metrics_port is not None:
        try:
            server, _ = start_http_server(stream.metrics_port, settings.http.host, registry)
        except OSError as error:
            raise WorkerError(
                f"cannot show metrics at {settings.http.host}:{stream.metrics_port} ({error.strerror}):"
                " give another stream.metrics_port"
            ) from None
    if stream.metrics_file is not None:
        writing = asyncio.create_task(_write(registry, stream.metrics_file))
    try:
        yield
    finally:
        if writing is not None:
            writing.cancel()
        if server is not None:
            server.shutdown()
            server.server_close()


async def _write(registry: CollectorRegistry, file: Path) -> None:
    """Over and over. A full disk takes the metrics, and not the worker with them."""
    said = False
    while True:
        try:
            await asyncio.to_thread(write_to_textfile, os.fspath(file), registry)
            said = False
        except OSError as error:
            if not said:
                log.warning("metrics cannot be written to %s: %s", file, error.strerror)
            said = True
        await asyncio.sleep(WRITE_EVERY_S)
