"""The broker is a real one: it keeps what it acknowledged, and its starter says what is missing."""

# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from tests.integration.parts import fixtures, kafka_jars
from tests.integration.parts.kafka import KafkaBroker, main
from tests.integration.parts.kafka_client import Kafka
from tests.integration.parts.ports import free_port
from tests.integration.parts.process import Child, PartError, PartUnavailableError

_ROUND_TRIP = "test_records_come_back_in_order_by_partition"


def test_records_come_back_in_order_by_partition(kafka: Kafka, new_topic: Callable[..., str]) -> None:
    topic = new_topic("round-trip", partitions=3)
    for partition in range(3):
        kafka.produce(topic, [(b"key", b"%d-%d" % (partition, n)) for n in range(50)], partition=partition)

    records = kafka.records(topic)

    assert [r.value for r in records] == [b"%d-%d" % (p, n) for p in range(3) for n in range(50)]
    assert kafka.end_offsets(topic) == {0: 50, 1: 50, 2: 50}


async def test_committed_offsets_are_the_groups(kafka: Kafka, new_topic: Callable[..., str]) -> None:
    topic = new_topic("commits", partitions=2)
    kafka.produce(topic, [(None, b"x")] * 5, partition=1)
    group = f"group-of-{topic}"
    assert kafka.committed(group, topic) == {}

    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, group_id=group, enable_auto_commit=False)
    await consumer.start()
    consumer.assign([TopicPartition(topic, 1)])
    await consumer.commit({TopicPartition(topic, 1): 3})
    await consumer.stop()

    assert kafka.committed(group, topic) == {1: 3}


def test_unknown_and_repeated_topics_are_errors(kafka: Kafka, new_topic: Callable[..., str]) -> None:
    topic = new_topic("twice")
    with pytest.raises(PartError, match="TopicAlreadyExists"):
        kafka.create_topic(topic)
    with pytest.raises(PartError, match="UnknownTopicOrPartition"):
        kafka.end_offsets("nobody-made-this")
    kafka.delete_topic(topic)
    assert topic not in kafka.topics()


def test_acknowledged_records_survive_kill_9(kafka_broker: KafkaBroker) -> None:
    kafka_broker.create_topic("kept", partitions=2)
    pairs = [(b"%d" % n, b"v%d" % n) for n in range(1000)]
    kafka_broker.produce("kept", pairs)
    before, pid = kafka_broker.bootstrap, kafka_broker.pid

    kafka_broker.kill()
    assert not kafka_broker.running
    clean = kafka_broker.data_dir / "log" / ".kafka_cleanshutdown"  # left by a broker that was asked to stop
    assert not clean.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(KafkaError):
        kafka_broker.ping()
    kafka_broker.start()

    assert kafka_broker.bootstrap == before
    assert kafka_broker.pid != pid
    assert {(r.key, r.value) for r in kafka_broker.records("kept")} == set(pairs)
    kafka_broker.produce("kept", [(b"after", b"restart")])
    assert sum(kafka_broker.end_offsets("kept").values()) == 1001

    kafka_broker.stop()
    assert clean.exists()
    kafka_broker.start()
    assert sum(kafka_broker.end_offsets("kept").values()) == 1001


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PartError, match=f"port {port} is taken"):
            KafkaBroker(tmp_path, port=port).start()


@pytest.mark.kafka
def test_a_broker_that_cannot_start_shows_its_log(own_kafka: KafkaBroker, tmp_path: Path) -> None:
    broken = KafkaBroker(tmp_path / "broken", settings={"num.io.threads": "none"})
    with pytest.raises(PartError, match=r"num\.io\.threads"):
        broken.start()
    assert not broken.running


def test_in_the_foreground_it_tells_where_it_is_and_ends_on_sigterm(
    own_kafka: KafkaBroker, tmp_path: Path
) -> None:
    port = free_port()
    command = [sys.executable, "-m", "tests.integration.parts.kafka", "--port", str(port)]
    command += ["--data-dir", str(tmp_path / "data"), "--heap-mb", "256"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=kafka_jars.REPOSITORY) as program:
        assert program.stdout is not None
        told = [program.stdout.readline() for _ in range(3)]
        assert f"ready on 127.0.0.1:{port}" in told[1]
        assert f"WATCHKEEPER_KAFKA__BOOTSTRAP=127.0.0.1:{port}\n" in told[2]
        Kafka(f"127.0.0.1:{port}").create_topic("by-hand")
        program.send_signal(signal.SIGTERM)
        assert program.wait(30) == 0
    with pytest.raises(KafkaError):
        Kafka(f"127.0.0.1:{port}").ping()


def test_another_broker_can_be_named(own_kafka: KafkaBroker) -> None:
    before = own_kafka.topics()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"{__file__}::{_ROUND_TRIP}"]
    environment = os.environ | {fixtures.EXTERNAL_KAFKA: own_kafka.bootstrap}
    subprocess.run(command, check=True, env=environment, cwd=kafka_jars.REPOSITORY)
    assert [topic for topic in own_kafka.topics() - before if topic.startswith("round-trip-")]


def test_a_missing_part_fails_in_ci_and_skips_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        def start(self) -> None:
            raise PartUnavailableError("install it")

    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="install it"):
        fixtures.started(Missing())
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="install it"):
        fixtures.started(Missing())


def test_without_java_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert main(["--port", "0", "--data-dir", str(tmp_path / "data")]) == 1
    told = capsys.readouterr().err
    assert "needs Java 17" in told
    assert "WATCHKEEPER_TEST_KAFKA" in told


def test_old_java_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    java = tmp_path / "bin" / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(PartUnavailableError, match=r"needs Java 17 or newer; .* says: .*11\.0\.2"):
        kafka_jars.find_java()


def test_without_maven_or_network_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PartUnavailableError, match="install it"):
        kafka_jars.fetch_jars(tmp_path / "cache")
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho '[ERROR] Unknown host'\nexit 1\n")
    maven.chmod(0o755)
    with pytest.raises(PartUnavailableError, match="check the network") as error:
        kafka_jars.fetch_jars(tmp_path / "cache")
    assert "Unknown host" in str(error.value)
    assert not (tmp_path / "cache" / "libs").exists()


def test_a_jar_that_is_not_the_known_one_is_refused(tmp_path: Path) -> None:
    libs, hashes = tmp_path / "libs", tmp_path / "jars.sha256"
    libs.mkdir()
    (libs / "a.jar").write_bytes(b"a")
    digest = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    hashes.write_text(f"{digest}  a.jar\n")
    kafka_jars.check_hashes(libs, hashes)
    (libs / "b.jar").write_bytes(b"b")
    with pytest.raises(PartUnavailableError, match=r"b\.jar"):
        kafka_jars.check_hashes(libs, hashes)
    (libs / "b.jar").unlink()
    (libs / "a.jar").write_bytes(b"other")
    with pytest.raises(PartUnavailableError, match=r"a\.jar"):
        kafka_jars.check_hashes(libs, hashes)


def test_a_child_does_not_outlive_a_killed_run(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from tests.integration.parts.process import Child\n"
        "print(Child(['sleep', '300'], log=Path(sys.argv[1])).pid, flush=True); time.sleep(300)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=kafka_jars.REPOSITORY) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        os.kill(pid, 0)
        run.kill()
    _await_gone(pid)


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    child = Child(
        ["/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"], log=tmp_path / "log"
    )
    while "up" not in child.log_tail():
        assert child.exit_code is None
    assert child.stop(timeout_s=0.3) == -signal.SIGKILL
    assert child.exit_code == -signal.SIGKILL


def _await_gone(pid: int) -> None:
    """An orphan is init's to reap; where init does not, a zombie is as good as gone."""
    deadline = time.monotonic() + 60
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)
