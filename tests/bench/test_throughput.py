"""The throughput benchmark, small: it runs, and it notices a side that did not do its work."""

from __future__ import annotations

import time
from pathlib import Path

import orjson
import pytest

from bench.bars import bars
from bench.keyed import KeyedPipeline
from bench.reference import Work, expected
from bench.throughput import main
from bench.workload import Made, Workload
from detectors.base import Source
from detectors.records import SESSION_PREFIX
from schemas import topics
from schemas.dead_letter import DeadLetter
from streams.decode import decode

END_MS = 1_800_000_000_000


def made(events: int) -> tuple[list[Made], Workload]:
    workload = Workload(events, end_ms=END_MS, sessions=100)
    return list(workload), workload


def test_the_same_seed_makes_the_same_events() -> None:
    assert made(500)[0] == made(500)[0]
    assert list(Workload(500, end_ms=END_MS, sessions=100, seed=7)) != made(500)[0]


def test_everything_planted_is_found() -> None:
    records, workload = made(10_000)
    (work,), _ = expected(records, workload.partitions, [10_000])
    assert set(workload.planted) == {"tool_loop", "ping_pong", "retry_storm", "undeclared_tool"}
    for detector, sessions in workload.planted.items():
        assert set(sessions) <= work.sessions[detector]


def test_a_prefix_is_judged_by_the_prefix() -> None:
    records, workload = made(4_000)
    (part, whole), (few, all_of_them) = expected(records, workload.partitions, [2_000, 4_000])
    (alone,), _ = expected(records[:2_000], workload.partitions, [2_000])
    assert part == alone
    assert part.detections < whole.detections
    assert (sum(few), sum(all_of_them)) == (2_000, 4_000)


def test_state_that_goes_through_bytes_with_every_event_finds_the_same() -> None:
    records, workload = made(4_000)
    (wanted,), _ = expected(records, workload.partitions, [4_000])
    pipelines = [KeyedPipeline(partition) for partition in range(workload.partitions)]
    stored: dict[bytes, bytes] = {}
    found = Work()
    for offset, record in enumerate(records):
        (event,) = decode(record.value, topics.EVENTS, record.partition, offset, record.time_ms)
        assert not isinstance(event, DeadLetter)
        key, keyed = SESSION_PREFIX + f"default/{event.session}".encode(), pipelines[record.partition]
        keyed.put(key, stored.get(key))
        source = Source(topics.EVENTS, record.partition, offset)
        for output in keyed.process(event, source, record.time_ms):
            found.note(output)
        value = keyed.value(key)
        assert value is not None
        stored[key] = value
    assert found.differs_from(wanted) is None


def test_work_not_done_is_noticed() -> None:
    records, workload = made(4_000)
    (wanted,), _ = expected(records, workload.partitions, [4_000])
    (less,), _ = expected(records[:2_000], workload.partitions, [2_000])
    assert "detections missing" in str(less.differs_from(wanted))
    assert "windows hold" in str(Work(detections=wanted.detections).differs_from(wanted))


def test_the_bars_are_ratios_within_one_run() -> None:
    met = [
        bar.met for bar in bars({"watchkeeper": 50_000, "stock_faust": 5_001, "quix": 38_000, "bare": 2e5})
    ]
    assert met == [True, False, True, True]


@pytest.mark.embedded
def test_a_small_run_on_the_embedded_broker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.time()
    code = main(
        ["--events", "3000", "--broker", "embedded", "--sides", "watchkeeper,bare", "--out", str(tmp_path)]
    )
    printed = capsys.readouterr()
    assert code == 0, printed.err
    rates = orjson.loads(printed.out.splitlines()[-1])
    assert set(rates) == {"watchkeeper", "bare"}
    assert all(rate > 0 for rate in rates.values())
    kept = orjson.loads((tmp_path / "throughput.json").read_bytes())
    assert kept["sides"]["watchkeeper"]["events"] == 3_000
    assert kept["sides"]["watchkeeper"]["seconds"] < time.time() - began
