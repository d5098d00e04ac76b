"""What a worker counts is shown at its port and in its file, under Prometheus' conventions."""

from __future__ import annotations

import asyncio
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from faust.types import TP
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from config.settings import Settings
from streams.checkpoint import StageMetrics
from streams.metrics import exposed, registry_of
from streams.worker import WorkerError

STAGES = {"sessions": StageMetrics(events=70, outputs=3), "otlp": StageMetrics()}
LAG = {TP("agent.events", 2): 40}


def values(text: str) -> dict[tuple[str, ...], float]:
    """Each sample by its name and its labels' values, sorted."""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_stages_are_counted_and_partitions_measured() -> None:
    stages, lag = {"sessions": StageMetrics(events=70)}, dict(LAG)
    registry = registry_of(stages, lag)
    shown = values(generate_latest(registry).decode())
    assert shown["watchkeeper_stream_events_total", "sessions"] == 70
    assert shown["watchkeeper_stream_lag_records", "2", "agent.events"] == 40
    assert shown["watchkeeper_stream_process_resident_memory_bytes",] > 0
    stages["sessions"].events += 1
    lag.clear()
    shown = values(generate_latest(registry).decode())
    assert shown["watchkeeper_stream_events_total", "sessions"] == 71
    assert ("watchkeeper_stream_lag_records", "2", "agent.events") not in shown


async def test_they_are_in_the_file_while_the_worker_runs(tmp_path: Path) -> None:
    file = tmp_path / "stream.prom"
    async with exposed(registry_of(STAGES, LAG), Settings(stream={"metrics_file": file})):
        await _until(file.exists)
    shown = values(file.read_text())
    assert shown["watchkeeper_stream_outputs_total", "sessions"] == 3
    assert shown["watchkeeper_stream_outputs_total", "otlp"] == 0


async def test_they_are_at_the_port_while_the_worker_runs() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        # Ours to the end, so that nobody else has it meanwhile; listening it is refused, and bound it is not.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        async with exposed(registry_of(STAGES, LAG), Settings(stream={"metrics_port": port})):
            text = await asyncio.to_thread(_get, f"http://127.0.0.1:{port}/metrics")
    assert values(text)["watchkeeper_stream_events_total", "sessions"] == 70


async def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        settings = Settings(stream={"metrics_port": listener.getsockname()[1]})
        with pytest.raises(WorkerError, match="give another"):
            async with exposed(registry_of(STAGES, LAG), settings):
                pytest.fail("two listen at one port")


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read().decode())


async def test_a_file_that_cannot_be_written_takes_nothing_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(stream={"metrics_file": tmp_path / "none" / "stream.prom"})
    async with exposed(registry_of(STAGES, LAG), settings):
        await _until(lambda: "metrics cannot be written" in caplog.text)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.01)
