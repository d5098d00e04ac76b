"""Reliability 5 and 6: what the broker refuses or has not yet confirmed is never committed past."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from schemas import topics
from tests.integration.parts.kafka_proxy import Api, ErrorCode, Side
from tests.reliability.bus import Bus
from tests.reliability.counts import count
from tests.reliability.outcome import Outcome
from tests.reliability.run import new_run
from tests.reliability.worker import STOP_TIMEOUT_S, Moment, StreamWorker, send
from tests.reliability.workload import Workload

TIMEOUT_S = 240
END_TIMEOUT_S = 45.0
DELAY_MS = 500
FINAL = (ErrorCode.TOPIC_AUTHORIZATION_FAILED, ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.INVALID_RECORD)

pytestmark = pytest.mark.timeout(TIMEOUT_S)


@pytest.mark.parametrize("seed", range(count(2, 20)))
def test_a_refused_changelog_write_ends_the_process_and_commits_nothing(
    seed: int, bus: Bus, workload: Workload, base: Outcome, tmp_path: Path
) -> None:
    chance = random.Random(seed)
    bus.load(workload)
    with new_run(bus, tmp_path) as run:
        (worker,), (proxy,) = run.workers, run.proxies

        def refuse(_: StreamWorker) -> None:
            proxy.reject_produce(lambda topic: topic.endswith("-changelog"), FINAL[seed % len(FINAL)])

        run.trap.arm(Moment(Api.PRODUCE, Side.REQUEST, chance.randrange(2, 40)), refuse)
        worker.start()
        run.trap.caught()
        assert worker.wait(END_TIMEOUT_S) == 1
        run.assert_commits_are_covered()
        committed = bus.broker.committed(run.group, topics.EVENTS)
        assert sum(committed.values()) < len(workload), "nothing was left to do"

        proxy.clear_rules()
        worker.start()
        run.finish().assert_equals(base)


@pytest.mark.parametrize("seed", range(count(1, 10)))
def test_late_deliveries_and_a_kill_at_every_commit_lose_nothing(
    seed: int, bus: Bus, workload: Workload, base: Outcome, tmp_path: Path
) -> None:
    """Three kills a run: each falls when a commit has reached the broker and its worker does not know yet."""
    chance = random.Random(seed)
    bus.load(workload)
    with new_run(bus, tmp_path) as run:
        (worker,), (proxy,) = run.workers, run.proxies
        delay = proxy.delay_produce(lambda _: True, DELAY_MS)
        for _ in range(3):
            run.trap.arm(Moment(Api.OFFSET_COMMIT, Side.ANSWER, chance.randrange(1, 4)), send(signal.SIGKILL))
            worker.start()
            run.trap.caught().wait(STOP_TIMEOUT_S)
            run.assert_commits_are_covered()
        assert delay.hits
        proxy.clear_rules()
        worker.start()
        run.finish().assert_equals(base)
