"""What a user can cause ends in one line on standard error, exit 1; bad usage exits 2."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.broker import free_port
from cli.doctor import examine
from config.settings import Settings
from tests.cli.invoke import invoke

_COMMANDS = (
    *("up", "stream", "respond", "drill", "backtest", "incidents", "incident", "ack", "resolve"),
    *(
        "halt",
        "resume",
        "degrade",
        "require-approval",
        "throttle",
        "revoke",
        "budget",
        "topics",
        "db",
        "keys",
        "doctor",
    ),
)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def _one_line(*arguments: str, env: dict[str, str] | None = None) -> str:
    done = invoke(*arguments, env=env)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("watchkeeper: ")
    return lines[0]


def test_no_broker(tmp_path: Path) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    data = ("--data-dir", str(tmp_path))
    for command in (("topics", "create"), ("stream", *data), ("respond", *data, "--http-port", "0")):
        line = _one_line(*command, "--bootstrap", nowhere)
        assert nowhere in line
        assert "start one" in line


def test_kafka_port_taken(tmp_path: Path, taken_port: int) -> None:
    line = _one_line("up", "--data-dir", str(tmp_path), "--kafka-port", str(taken_port), "--http-port", "0")
    assert f"port {taken_port} is taken" in line
    assert "--kafka-port 0" in line


def test_http_port_taken(tmp_path: Path, taken_port: int) -> None:
    line = _one_line("up", "--data-dir", str(tmp_path), "--kafka-port", "0", "--http-port", str(taken_port))
    assert f"port {taken_port} is taken" in line
    assert "--http-port 0" in line


def test_data_directory_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    line = _one_line("up", "--data-dir", str(tmp_path / "file" / "data"), "--kafka-port", "0")
    assert "--data-dir" in line


def test_settings_file_missing(tmp_path: Path) -> None:
    assert "no settings file" in _one_line("incidents", "--config", str(tmp_path / "none.toml"))


def test_settings_file_is_not_toml(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("kafka = [")
    assert "not valid TOML" in _one_line("incidents", "--config", str(tmp_path / "bad.toml"))


def test_setting_with_a_wrong_value() -> None:
    line = _one_line("topics", "create", env={"WATCHKEEPER_KAFKA__PARTITIONS": "none"})
    assert "kafka.partitions" in line


def test_a_setting_that_there_is_not(tmp_path: Path) -> None:
    meant = {
        "[pagerdury.oncall]\nrouting_key = 'x'": "pagerduty",
        "[slack]\nchanel = '#ops'": "channel",
        "[pagerduty.oncall]\nroutingkey = 'x'": "routing_key",
    }
    for text, key in meant.items():
        (tmp_path / "settings.toml").write_text(text)
        line = _one_line("channels", "list", "--config", str(tmp_path / "settings.toml"))
        assert line.endswith(f"there is no such setting; did you mean {key}?")


def test_a_variable_that_no_setting_has() -> None:
    line = _one_line("channels", "list", env={"WATCHKEEPER_SLAK__BOT_TOKEN": "xoxb-1"})
    assert "WATCHKEEPER_SLAK__BOT_TOKEN: did you mean WATCHKEEPER_SLACK__BOT_TOKEN?" in line


def test_unknown_drill_and_runbook() -> None:
    assert "no drill xyzzy: see watchkeeper drill" in _one_line("drill", "xyzzy")
    assert _one_line("drill", "file-listin").endswith("did you mean file-listing?")
    assert _one_line("runbook", "xyzzy").endswith("watchkeeper runbook lists them")
    assert _one_line("runbook", "tool_lop").endswith("did you mean tool_loop?")


async def test_a_look_at_what_is_not_there_makes_nothing(tmp_path: Path) -> None:
    nowhere = tmp_path / "data"
    settings = Settings(data_dir=nowhere, kafka={"bootstrap": f"127.0.0.1:{free_port()}"})
    findings = {each.part: each for each in await examine(settings, timeout_s=60.0)}
    assert findings["data directory"].detail == f"{nowhere} is not there yet"
    assert findings["incident store"].advice == "run: watchkeeper db upgrade"
    assert "watchkeeper keys create" in findings["keys"].advice
    assert "no incident store" in _one_line("db", "rebuild", "--data-dir", str(nowhere))
    assert "watchkeeper keys create" in _one_line("keys", "show", "--data-dir", str(nowhere))
    assert not nowhere.exists()


def test_a_drill_says_where_it_found_no_engine(tmp_path: Path) -> None:
    prepared = ("--data-dir", str(tmp_path), "--bootstrap", f"127.0.0.1:{free_port()}")
    assert "trusted.json: give --data-dir" in _one_line("drill", "ignored-stop", *prepared)
    invoke("keys", "create", "--data-dir", str(tmp_path))
    nowhere = f"http://127.0.0.1:{free_port()}"
    line = _one_line("drill", "ignored-stop", *prepared, "--http", nowhere)
    assert f"no engine's HTTP API at {nowhere}" in line
    assert "give --http" in line
    line = _one_line("drill", "file-listing", *prepared)
    assert f"no engine's broker at {prepared[-1]}" in line
    assert "give --bootstrap" in line


def test_unknown_incident(tmp_path: Path) -> None:
    invoke("db", "upgrade", "--data-dir", str(tmp_path))
    line = _one_line("incident", "INC-NONE", "--data-dir", str(tmp_path))
    assert "watchkeeper incidents" in line


def test_a_store_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "watchkeeper.db").write_text("this is text, and has never been a database of any kind")
    for command in (("incidents",), ("halt", "default/shop"), ("db", "upgrade")):
        line = _one_line(*command, "--data-dir", str(tmp_path))
        assert "file is not a database" in line
        assert "give another --data-dir" in line


def test_a_store_that_another_process_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("responders.store.database.BUSY_TIMEOUT_MS", 50)
    invoke("db", "upgrade", "--data-dir", str(tmp_path))
    with contextlib.closing(sqlite3.connect(tmp_path / "watchkeeper.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        line = _one_line("ack", "INC-AAAAAAAAAA", "--data-dir", str(tmp_path))
    assert "database is locked" in line
    assert "try again" in line


def test_backtest_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    assert "no file" in _one_line("backtest", str(tmp_path / "none.jsonl"))
    done = invoke("backtest", str(tmp_path / "empty.jsonl"))
    assert done.returncode == 1
    assert "no event could be read" in done.stderr


def test_bad_usage_exits_2() -> None:
    assert invoke("halt", "--nonsense").returncode == 2
    assert invoke("nonsense").returncode == 2


def test_help_names_every_command_of_the_contract() -> None:
    shown = invoke("--help").stdout
    for command in _COMMANDS:
        assert f" {command} " in shown, command
