"""Reliability 8: all that is on `agent.events` is one event or one dead letter each and harms no other."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from detectors.records import AGENT_PREFIX, StoredWindows
from detectors.windows import Window
from detectors.windows import decode as decode_window
from schemas import topics
from schemas.dead_letter import DEAD_LETTER, DeadLetter
from streams import sessions
from streams.changelog import changelog_topic, read_state
from streams.decode import decode
from streams.transport import ClientSettings
from tests.integration.parts.kafka_client import run_apart
from tests.reliability.bus import Bus
from tests.reliability.counts import count
from tests.reliability.outcome import detections_on
from tests.reliability.run import Run, new_run
from tests.reliability.workload import Record

TIMEOUT_S = 300
EXAMPLES = count(500, 10_000)
HOUR_MS = 3_600_000
OWN_NAME = "@@"
"""Stands for a name that no other event has, so that none is a duplicate of another."""
_LOOPING = {"type": "tool.call", "tool": "t", "arguments_hash": "a", "result_hash": "r", "status": "ok"}

pytestmark = pytest.mark.timeout(TIMEOUT_S)


def event(number: int, now_ms: int, **changes: Any) -> dict[str, Any]:
    """A call like the one before it, which in the long run is a loop; no other event's id is near its own."""
    name = hashlib.sha256(b"%d" % number).hexdigest()[:24]
    moment = time.gmtime((now_ms - HOUR_MS) // 1000 + number % 1_000)
    common = {"schema": "agent.event/1", "event_id": name, "agent": "looping", "session": "loop"}
    return {**common, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", moment), **_LOOPING, **changes}


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else []


def text(fields: Any) -> bytes:
    return json.dumps(fields).encode()


def poisons(now_ms: int) -> list[tuple[bytes, list[str]]]:
    """Records with the reasons of their dead letters."""

    def bad(number: int, **changes: Any) -> dict[str, Any]:
        return event(1_000 + number, now_ms, **changes)

    def at(offset_ms: int) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((now_ms + offset_ms) // 1000))

    return [
        (b"", ["malformed"]),
        (b"\x00\xff\xfe", ["malformed"]),
        (b'{"schema": "agent.event/1"', ["malformed"]),
        (b"null", ["invalid"]),
        (text(bad(0, padding="x" * 300_000)), ["too_large"]),
        (text(bad(1, extra=nested(40))), ["too_deep"]),
        (text(bad(2, extra=float("nan"))), ["not_finite"]),
        (text(bad(3)).replace(b'"r"', b"1e999"), ["not_finite"]),
        (text(bad(4)).replace(b'"tool": "t"', b'"tool": "t", "tool": "u"'), ["duplicate_key"]),
        (text([bad(5)] * 1_001), ["too_many_events"]),
        (text(bad(6, type="tool.cal")), ["unknown_type"]),
        (text(bad(7, schema="agent.event/2")), ["unknown_schema"]),
        (text(bad(8, agent="")), ["invalid"]),
        (text(bad(9, time=at(-25 * HOUR_MS))), ["clock"]),
        (text(bad(10, time=at(10 * 60_000))), ["clock"]),
        (text([bad(11, status="fine"), bad(12, schema=1)]), ["invalid", "unknown_schema"]),
    ]


def test_every_kind_of_bad_record_is_one_dead_letter_and_its_neighbours_are_taken(
    bus: Bus, tmp_path: Path
) -> None:
    now_ms = time.time_ns() // 1_000_000
    cases = poisons(now_ms)
    values: list[bytes] = []
    for number, (value, _) in enumerate(cases):
        values += [text(event(number, now_ms)), value]
    values.append(text(event(len(cases), now_ms)))
    with new_run(bus, tmp_path, STREAM__BATCH_RECORDS=2_000) as run:
        bus.load([Record(b"loop", value, now_ms) for value in values])
        run.start()
        run.await_done()
        found = [(letter.offset, letter.reason) for letter in dead_letters(bus)]
        assert found == [
            (2 * number + 1, reason) for number, (_, reasons) in enumerate(cases) for reason in reasons
        ]
        assert all(letter.detail and letter.topic == topics.EVENTS for letter in dead_letters(bus))
        assert events_counted(run) == len(cases) + 1
        assert ("tool_loop", "loop") in {(one.detector, one.session) for one in detections_on(bus)}
        run.finish()


def anything(now_ms: int) -> st.SearchStrategy[bytes]:
    """Bytes, JSON of any kind, and events in which something was written over."""
    numbers = st.integers() | st.floats() | st.sampled_from([10**400, -(2**63), 1e308])
    scalars = st.none() | st.booleans() | numbers | st.text(max_size=20)
    values = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    )
    names = st.sampled_from(["event_id", "type", "time", "agent", "session", "status", "seq", "attributes"])

    @st.composite
    def changed(draw: st.DrawFn) -> bytes:
        fields = event(0, now_ms, event_id=OWN_NAME, session=OWN_NAME)
        fields[draw(names)] = draw(values)
        return text(fields)

    @st.composite
    def overwritten(draw: st.DrawFn) -> bytes:
        whole = bytearray(text(event(0, now_ms, event_id=OWN_NAME, session=OWN_NAME)))
        start = draw(st.integers(0, len(whole)))
        whole[start : start + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
        return bytes(whole)

    return st.binary(max_size=200) | values.map(text) | changed() | overwritten()


def examples(strategy: st.SearchStrategy[bytes], number: int) -> list[bytes]:
    """What hypothesis makes of it, the same each time; asked together, as a worker takes seconds to start."""
    found: list[bytes] = []

    @settings(
        max_examples=number,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: bytes) -> None:
        found.append(value)

    collect()
    return found


def test_any_bytes_are_one_event_or_one_dead_letter(bus: Bus, tmp_path: Path) -> None:
    now_ms = time.time_ns() // 1_000_000
    strange = list(dict.fromkeys(examples(anything(now_ms), EXAMPLES)))
    records = []
    for number, value in enumerate(strange):
        own = value.replace(OWN_NAME.encode(), b"own-%d" % number)
        records.append(Record(b"%d" % number, own, now_ms))
        if number % 10 == 0:
            records.append(Record(b"loop", text(event(number, now_ms)), now_ms))
    bus.load(records)
    expected: Counter[tuple[int, int, str]] = Counter()
    events = set()
    for record in bus.broker.records(topics.EVENTS):
        place = (record.topic, record.partition, record.offset, record.timestamp)
        items = decode(record.value, *place)
        assert len(items) == 1 or (record.value or b"").lstrip().startswith(b"[")
        letters = [item for item in items if isinstance(item, DeadLetter)]
        expected.update((record.partition, record.offset, letter.reason) for letter in letters)
        events |= {
            (record.partition, item.tenant, item.session, item.event_id)
            for item in items
            if not isinstance(item, DeadLetter)
        }
    with new_run(bus, tmp_path) as run:
        run.start()
        run.await_done()
        assert Counter((at.partition, at.offset, at.reason) for at in dead_letters(bus)) == expected
        assert events_counted(run) == len(events)
        assert ("tool_loop", "loop") in {(one.detector, one.session) for one in detections_on(bus)}
        run.finish()
    assert len(strange) > EXAMPLES / 2
    assert len(events) > len(strange) / 10


def dead_letters(bus: Bus) -> list[DeadLetter]:
    return [DEAD_LETTER.validate_json(value) for value in bus.values(topics.DEAD)]


def events_counted(run: Run) -> int:
    """Events in the windows that were emitted, and in those that are still open."""
    closed = [decode_window(value) for value in run.bus.values(topics.WINDOWS)]
    settings = ClientSettings(run.bus.broker.bootstrap, run.group)
    partitions = run_apart(read_state(settings, changelog_topic(run.group, sessions.NAME)))
    still_open = [
        window
        for live in partitions.values()
        for key, value in live.items()
        if key.startswith(AGENT_PREFIX)
        for window in msgspec.msgpack.decode(value, type=StoredWindows).windows
    ]
    return sum(window.events for window in [*closed, *still_open] if isinstance(window, Window))
