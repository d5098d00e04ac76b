"""Reliability 1, 2 and 3: workers are killed, stopped and frozen at seeded points; what they find is G's."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from detectors.offline import Engine
from detectors.windows import Mark
from detectors.windows import decode as decode_window
from schemas import topics
from tests.integration.parts.kafka_proxy import Api, Side
from tests.reliability.bus import Bus
from tests.reliability.counts import count
from tests.reliability.outcome import Outcome, detections_on
from tests.reliability.run import Run, new_run
from tests.reliability.worker import SESSION_TIMEOUT_MS, STOP_TIMEOUT_S, Moment, send
from tests.reliability.workload import WINDOW_MS, Workload

TIMEOUT_S = 240

pytestmark = pytest.mark.timeout(TIMEOUT_S)


def some_moment(chance: random.Random) -> Moment:
    """Before or after the broker has a record or a commit, early enough that much is still to do."""
    api = chance.choice([Api.PRODUCE, Api.PRODUCE, Api.OFFSET_COMMIT])
    return Moment(api, chance.choice(list(Side)), chance.randrange(1, 20 if api is Api.PRODUCE else 6))


@pytest.mark.parametrize("seed", range(count(1, 50)))
def test_killed_workers_lose_and_repeat_nothing(
    seed: int, bus: Bus, workload: Workload, base: Outcome, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    bus.load(workload)
    with new_run(bus, tmp_path, workers=2) as run:
        run.start()
        for _ in range(3):
            run.trap.arm(some_moment(chance), send(signal.SIGKILL))
            killed = run.trap.caught()
            assert killed.wait(STOP_TIMEOUT_S) == -signal.SIGKILL
            run.assert_commits_are_covered()
            killed.start()
        run.finish().assert_equals(base)


@pytest.mark.parametrize("seed", range(count(1, 50)))
def test_stopped_workers_end_in_time_and_lose_and_repeat_nothing(
    seed: int, bus: Bus, workload: Workload, base: Outcome, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    bus.load(workload)
    with new_run(bus, tmp_path, workers=2) as run:
        run.start()
        for _ in range(2):
            run.trap.arm(some_moment(chance), send(signal.SIGTERM))
            stopped = run.trap.caught()
            assert stopped.wait(STOP_TIMEOUT_S) == 0, stopped.log_tail()
            stopped.start()
        run.finish().assert_equals(base)


@pytest.mark.parametrize("seed", range(count(1, 20)))
def test_a_frozen_worker_that_wakes_changes_nothing(
    seed: int, bus: Bus, workload: Workload, base: Outcome, tmp_path: Path
) -> None:
    bus.load(workload)
    with new_run(bus, tmp_path, workers=2) as run:
        run.start()
        run.trap.arm(some_moment(random.Random(seed)), send(signal.SIGSTOP))
        frozen = run.trap.caught()
        time.sleep(1.5 * SESSION_TIMEOUT_MS / 1000)
        frozen.signal(signal.SIGCONT)
        run.finish().assert_equals(base)


def test_with_the_clock_of_the_broker_a_kill_changes_no_detection(
    bus: Bus, workload: Workload, tmp_path: Path
) -> None:
    """Where partitions are idle time goes on by itself, and closes what events alone would leave open."""
    found = Engine(window_ms=WINDOW_MS).run(workload.events, finish=True)
    expected = {detection.detection_id for detection in found}
    bus.load(workload)
    with new_run(bus, tmp_path, workers=2, STREAM__IDLE_CLOCK="broker") as run:
        run.start()
        run.trap.arm(Moment(Api.PRODUCE, Side.ANSWER, 15), send(signal.SIGKILL))
        run.trap.caught().wait(STOP_TIMEOUT_S)
        next(worker for worker in run.workers if not worker.running).start()
        last_ms = workload.records[-1].time_ms
        run.until(lambda: min(_marks(run).values(), default=0) > last_ms)
        run.await_done()
        ids = {detection.detection_id for detection in detections_on(bus)}
    assert ids == expected


def _marks(run: Run) -> dict[int, int]:
    """How far each source partition says it has come; 0 for those that have not said so."""
    marks = dict.fromkeys(range(len(run.bus.ends(topics.EVENTS))), 0)
    for value in run.bus.values(topics.WINDOWS):
        item = decode_window(value)
        if isinstance(item, Mark):
            marks[item.source_partition] = max(item.watermark_ms, marks[item.source_partition])
    return marks
