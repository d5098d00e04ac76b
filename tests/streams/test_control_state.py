"""Who is halted, from the records of agent.control and its acknowledgements: genuine ones only."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from detectors.control import Halts, Held
from schemas import topics
from streams.control_state import ControlState
from streams.stage import PlainRecord
from tests.client.commands import ENGINE, FUTURE, KEYS, NOW_MS, OPERATOR, STRANGER, Signer, fields, raw
from watchkeeper_client.trusted import TrustedKeysFile
from watchkeeper_client.wanted import rfc_3339


def record(topic: str, value: bytes | None) -> PlainRecord:
    return PlainRecord(topic, 0, 0, int(NOW_MS), b"k", value)


def command(by: Signer = ENGINE, **what: object) -> PlainRecord:
    return record(topics.CONTROL, raw(fields(**what), by))  # type: ignore[arg-type]


def ack(at_ms: float = NOW_MS, *, result: str = "applied", point: str = "client:1") -> PlainRecord:
    body = {
        "schema": "agent.control.ack/1",
        "command_id": "c1",
        "epoch": 1,
        "agent": "shop",
        "enforcement_point": point,
        "result": result,
        "time": rfc_3339(at_ms),
    }
    return record(topics.ACKS, json.dumps(body).encode())


def held(*records: PlainRecord, agent: str = "shop", session: str = "s") -> Held | None:
    halts = Halts()
    state = ControlState(KEYS, halts, lambda: NOW_MS)
    for each in records:
        state.take(each)
    return halts.of("default", agent, session)


@pytest.mark.parametrize(
    ("target", "hit"),
    [
        ({}, True),
        ({"session": "s"}, True),
        ({"agent": "*"}, True),
        ({"tenant": "*", "agent": "*"}, True),
        ({"agent": "*", "session": "s"}, True),
        ({"session": "t"}, False),
        ({"agent": "other"}, False),
        ({"tenant": "other"}, False),
    ],
)
def test_a_halt_holds_whom_it_names(target: dict[str, str], hit: bool) -> None:
    assert (held(command(**target)) is not None) is hit


def test_only_a_genuine_halt_holds_and_only_a_genuine_run_lifts_it() -> None:
    assert held(command(STRANGER)) is None
    assert held(record(topics.CONTROL, b"junk"), record(topics.CONTROL, None)) is None
    assert held(command(mode="throttle")) is None
    assert held(command(), command(epoch=2, mode="run")) is not None
    assert held(command(), command(OPERATOR, epoch=2, mode="run")) is None
    assert held(command(OPERATOR, epoch=2, mode="run"), command()) is None


def test_the_acknowledgement_of_the_agents_own_gate_counts_in_any_order() -> None:
    for order in itertools.permutations([command(expires_at=FUTURE), ack(NOW_MS), ack(NOW_MS + 5)]):
        found = held(*order)
        assert found is not None
        assert found.applied_ms == NOW_MS + 5
        assert found.until_ms == 1_811_808_000_000.0
    for other in (ack(result="refused"), ack(point="http:/v1/allow"), record(topics.ACKS, b"{}")):
        found = held(command(), other)
        assert found is not None
        assert found.applied_ms is None


def test_keys_may_come_late_and_be_rotated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, halts = tmp_path / "trusted.json", Halts()
    state = ControlState(TrustedKeysFile(path, late=True), halts, lambda: NOW_MS)
    state.take(command())
    assert len(caplog.records) == 1
    assert not halts
    path.write_text(json.dumps({ENGINE.key_id: ENGINE.entry}))
    state.take(command(session="s"))
    assert halts.of("default", "shop", "s") is not None
    path.write_text(json.dumps({OPERATOR.key_id: OPERATOR.entry}))
    state.take(command(OPERATOR, session="t"))
    state.take(command(session="u"))
    assert halts.of("default", "shop", "t") is not None
    assert halts.of("default", "shop", "u") is None


def test_acknowledgements_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detectors.control.MAX_COMMANDS", 3)
    monkeypatch.setattr("detectors.control.MAX_AGENTS", 2)
    halts = Halts()
    for number in range(10):
        for agent in "abc":
            halts.applied(f"c{number}", "default", agent, NOW_MS)
    assert {name: len(agents) for name, agents in halts._applied.items()} == {"c7": 2, "c8": 2, "c9": 2}
