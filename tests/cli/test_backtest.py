"""Recorded events through the detectors: files, gzip, refused lines, machine output."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from drills.catalogue import BY_NAME
from drills.offline import play
from schemas.base import from_epoch_ms
from tests.cli.invoke import invoke

START_MS = 1_700_000_000_000.0


def _recorded(name: str, most: int) -> bytes:
    events = play(BY_NAME[name], seed=1, run="t", start_ms=START_MS, most=most)
    return b"".join(json.dumps(event).encode() + b"\n" for _, event in events)


def _detections(*files: Path) -> list[dict[str, Any]]:
    done = invoke("backtest", *map(str, files), "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_loop_is_found_whether_the_file_is_compressed_or_not(tmp_path: Path) -> None:
    plain, packed = tmp_path / "events.jsonl", tmp_path / "events.jsonl.gz"
    plain.write_bytes(_recorded("file-listing", 50))
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    found = _detections(plain)
    assert "tool_loop" in {entry["detector"] for entry in found}
    assert [entry["detection_id"] for entry in _detections(packed)] == [
        entry["detection_id"] for entry in found
    ]


def test_refused_lines_are_counted_and_the_rest_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"not json\n" + _recorded("file-listing", 50) + b'{"schema": "agent.event/9"}\n')
    done = invoke("backtest", str(file))
    assert done.returncode == 0
    assert "tool_loop" in done.stdout
    assert "2 refused" in done.stdout
    assert done.stderr.count("refused 1:") == 2


def test_a_file_that_is_cut_off_says_so(tmp_path: Path) -> None:
    file = tmp_path / "cut.jsonl.gz"
    file.write_bytes(gzip.compress(_recorded("file-listing", 50))[:-20])
    done = invoke("backtest", str(file))
    assert done.returncode == 1
    assert "cannot read" in done.stderr


def _abandoned(sessions: int) -> bytes:
    """Sessions half of which the user leaves, and no error anywhere."""
    events = []
    for number in range(sessions):
        time = from_epoch_ms(START_MS + number * 10_000).isoformat()
        outcome = "abandoned" if number % 2 else "completed"
        fields = {"schema": "agent.event/1", "event_id": f"e{number}", "type": "session.end", "time": time}
        events.append({**fields, "agent": "support", "session": f"s{number}", "outcome": outcome})
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def test_a_missed_objective_of_the_policy_is_found(tmp_path: Path) -> None:
    file, policy = tmp_path / "events.jsonl", tmp_path / "policy.toml"
    file.write_bytes(_abandoned(200))
    policy.write_text(
        "[[objective]]\nname = 'answers'\nindicator = 'completion_rate'\nobjective = 0.95\n", encoding="utf-8"
    )
    assert "slo_burn" not in {entry["detector"] for entry in _detections(file)}
    done = invoke("backtest", str(file), "--policy", str(policy), "--json")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [entry["severity"] for entry in found if entry["detector"] == "slo_burn"] == ["critical"]


def test_a_wrong_objective_is_said_with_file_line_and_key(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[[objective]]\nname = 'answers'\nindicator = 'speed'\nobjective = 0.95\n")
    file = tmp_path / "events.jsonl"
    file.write_bytes(_abandoned(1))
    done = invoke("backtest", str(file), env={"WATCHKEEPER_POLICY": str(policy)})
    assert done.returncode == 1
    assert f"{policy}:3: objective.0.indicator" in done.stderr
