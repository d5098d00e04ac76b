"""What one partition's sessions teach reaches every partition's sessions, through the topics alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from detectors.testing import START_MS
from schemas import topics
from schemas.base import from_epoch_ms
from schemas.dead_letter import DEAD_LETTER
from schemas.detection import DETECTION
from streams import behaviour, sessions
from streams.stage import Output, PlainRecord, Processor, RecordBatch, Stage

PARTITIONS = 2


class Bus:
    """The two stages, one behaviour partition, and what they hand to each other."""

    def __init__(self) -> None:
        options = {"window_partitions": 1, "window_ms": 1_000, "lateness_ms": 1_000}
        self.sessions: Stage = sessions.stage(**options)
        self.behaviour: Stage = behaviour.stage(source_partitions=PARTITIONS)
        self._partitions: list[Processor] = [self.sessions.make(number) for number in range(PARTITIONS)]
        self._merged = self.behaviour.make(0)
        self._offsets = {"events": 0, "windows": 0}
        self.published: list[Output] = []

    def send(self, partition: int, **fields: Any) -> None:
        self._offsets["events"] += 1
        number = self._offsets["events"]
        time_ms = START_MS + 100 * number
        base = {"schema": "agent.event/1", "event_id": f"e{number}", "agent": "a"}
        value = json.dumps({**base, "time": from_epoch_ms(time_ms).isoformat(), **fields}).encode()
        record = PlainRecord(topics.EVENTS, partition, number, time_ms, None, value)
        self._publish(self._partitions[partition].process(RecordBatch(topics.EVENTS, partition, [record])))

    def _publish(self, outputs: Any) -> None:
        for output in list(outputs):
            self.published.append(output)
            self._offsets["windows"] += 1
            place = (0, self._offsets["windows"], START_MS, output.key, output.value)
            record = PlainRecord(output.topic, *place)
            if output.topic == topics.WINDOWS:
                self._publish(self._merged.process(RecordBatch(topics.WINDOWS, 0, [record])))
            elif output.topic in self.sessions.broadcast:
                self.sessions.on_broadcast(record)

    def of(self, topic: str) -> list[Output]:
        return [output for output in self.published if output.topic == topic]


CALL = {"type": "tool.call", "tool": "t", "arguments_hash": "a", "status": "ok"}


@pytest.fixture
def bus() -> Bus:
    return Bus()


def session(bus: Bus, number: int, partition: int, credential: str) -> None:
    name = f"s{number}"
    bus.send(partition, session=name, type="session.start")
    bus.send(partition, session=name, **CALL, credential=credential)
    bus.send(partition, session=name, type="session.end", outcome="completed")


def test_a_session_is_judged_by_what_its_agent_does_elsewhere(bus: Bus) -> None:
    for number in range(6):
        session(bus, number, partition=0, credential="own")
    session(bus, 6, partition=1, credential="stolen")
    [found] = [DETECTION.validate_json(output.value or b"") for output in bus.of(topics.DETECTIONS)]
    assert (found.detector, found.severity, found.session) == ("credential_misuse", "warning", "s6")
    [profile] = bus.of(topics.PROFILES)
    assert profile.key == b"default/a"


def test_all_facts_of_a_tenant_go_to_one_partition(bus: Bus) -> None:
    for number in range(4):
        start = {"type": "session.start", "session": f"s{number}", "agent": f"a{number}"}
        bus.send(number % PARTITIONS, **start, credential="shared", parent_session="root")
    keys = {output.key for output in bus.of(topics.WINDOWS) if b"agent.fact/1" in (output.value or b"")}
    assert keys == {b"default"}
    found = [DETECTION.validate_json(output.value or b"").detector for output in bus.of(topics.DETECTIONS)]
    assert found == ["shared_credential"]


def test_what_is_neither_window_nor_mark_nor_summary_nor_fact_is_a_dead_letter(bus: Bus) -> None:
    record = PlainRecord(topics.WINDOWS, 0, 0, START_MS, b"k", b'{"schema":"agent.fact/9"}')
    [output] = bus.behaviour.make(0).process(RecordBatch(topics.WINDOWS, 0, [record]))
    assert output.topic == topics.DEAD
    assert DEAD_LETTER.validate_json(output.value or b"").reason == "malformed"


def test_every_output_and_broadcast_is_declared(bus: Bus) -> None:
    assert set(bus.sessions.broadcast) >= {topics.PROFILES}
    assert topics.PROFILES in bus.behaviour.outputs
