"""What an operator gets wrong ends the worker with one line that says what to do, and exit code 1."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from schemas import topics
from streams import sessions
from streams.changelog import changelog_topic
from tests.integration.parts.kafka_jars import REPOSITORY
from tests.integration.parts.ports import free_port
from tests.reliability.bus import Bus
from tests.reliability.run import new_run
from tests.reliability.worker import COMMAND, environment
from tests.reliability.workload import Workload

END_TIMEOUT_S = 60.0


def refusal(bootstrap: str, folder: Path, **settings: object) -> str:
    """The line a worker ends with that cannot start."""
    env = environment(bootstrap, f"refused-{uuid.uuid4().hex[:8]}", folder / "data", **settings)
    run = subprocess.run(
        COMMAND, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=END_TIMEOUT_S
    )
    assert run.returncode == 1, run.stderr
    assert run.stdout == ""
    # Without keys yet, a worker says so first; why it ends is one line.
    *warnings, line = run.stderr.splitlines()
    assert all(each.startswith("WARNING ") for each in warnings), run.stderr
    return line


@contextmanager
def replaced(bus: Bus, topic: str, partitions: int) -> Iterator[None]:
    """The topic with another number of partitions; 0 for none at all."""
    bus.drop(topic)
    if partitions:
        bus.broker.create_topic(topic, partitions)
    try:
        yield
    finally:
        if partitions:
            bus.drop(topic)
        bus.make_topics()


def test_without_a_broker_it_says_where_it_looked_and_how_to_start_one(tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    line = refusal(nowhere, tmp_path)
    assert nowhere in line
    assert "WATCHKEEPER_KAFKA__BOOTSTRAP" in line


def test_a_missing_topic_is_named_with_the_command_that_makes_it(bus: Bus, tmp_path: Path) -> None:
    with replaced(bus, topics.DEAD, 0):
        line = refusal(bus.broker.bootstrap, tmp_path)
    assert line.endswith(f"topics missing: {topics.DEAD}; run: watchkeeper topics create")


def test_another_partition_count_than_configured_is_refused(bus: Bus, tmp_path: Path) -> None:
    line = refusal(bus.broker.bootstrap, tmp_path, KAFKA__PARTITIONS=3)
    assert "has 4 partitions and 3 are configured: set WATCHKEEPER_KAFKA__PARTITIONS=4" in line


def test_one_topic_with_another_partition_count_is_refused(bus: Bus, tmp_path: Path) -> None:
    with replaced(bus, topics.WINDOWS, 2):
        line = refusal(bus.broker.bootstrap, tmp_path)
    assert f"topic {topics.WINDOWS} has 2 partitions and 4 are configured" in line


def test_a_changelog_with_another_partition_count_is_refused(bus: Bus, tmp_path: Path) -> None:
    prefix = f"regrown-{uuid.uuid4().hex[:8]}"
    changelog = changelog_topic(f"{prefix}-stream", sessions.NAME)
    bus.broker.create_topic(changelog, 3)
    line = refusal(bus.broker.bootstrap, tmp_path, KAFKA__GROUP_PREFIX=prefix)
    assert f"changelog {changelog} has 3 partitions, its sources 4" in line


def test_a_topic_made_anew_under_old_state_is_refused(bus: Bus, workload: Workload, tmp_path: Path) -> None:
    """Its records would be passed over up to where the old ones had come."""
    bus.load(workload)
    with new_run(bus, tmp_path) as run:
        run.start()
        run.await_done()
        (worker,) = run.workers
        worker.stop()
        bus.load(workload.records[:20])
        worker.start()
        assert worker.wait(END_TIMEOUT_S) == 1
        assert f"{topics.EVENTS}[" in worker.log_tail()
        assert "the topic was made anew" in worker.log_tail()
