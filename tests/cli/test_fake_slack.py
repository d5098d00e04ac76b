"""`watchkeeper fake-slack`: says how to use it, serves, and ends when it is told to."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.request import urlopen

import pytest

from config.settings import Settings
from tests.cli.invoke import invoke
from tests.integration.parts.engine import COMMAND


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and the first line that it prints."""
    process = subprocess.Popen(
        [*COMMAND, "fake-slack", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline()
    finally:
        process.kill()
        process.communicate()


def settings_of(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [name for name in os.environ if name.startswith("WATCHKEEPER_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Settings()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_how_to_use_it_and_ends_cleanly(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running() as (process, line):
        assert line.startswith("READY ")
        known: dict[str, Any] = json.loads(line.removeprefix("READY "))
        with urlopen(known["page"]) as page:
            assert "# incidents" in page.read().decode()
        slack = settings_of(known["environment"], monkeypatch).slack
        assert slack.base_url == known["base_url"]
        assert slack.bot_token is not None
        assert slack.bot_token.get_secret_value() == known["bot_token"]
        assert slack.app_token is not None
        assert slack.signing_secret is None
        process.send_signal(number)
        assert process.wait(60) == 0
        assert process.stderr is not None
        told = process.stderr.read()
        assert known["page"] in told
        assert "WATCHKEEPER_SLACK__APP_TOKEN=xapp-" in told
        assert "Traceback" not in told


def test_over_http_the_engine_needs_the_secret_and_no_app_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with running("--json", "--events-url", "http://127.0.0.1:1/slack/interactions") as (process, line):
        known = json.loads(line)
        slack = settings_of(known["environment"], monkeypatch).slack
        assert slack.app_token is None
        assert slack.signing_secret is not None
        assert slack.signing_secret.get_secret_value() == known["signing_secret"]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
        assert (out, err) == ("", "")


def test_a_taken_port_is_one_line_that_says_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = invoke("fake-slack", "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"watchkeeper: port {port} is taken: stop what listens there, or give --port 0 to pick a free one\n"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--events-url", "localhost:8088"), "--events-url must be an address"),
        (("--host", "203.0.113.7", "--port", "0"), "give another --host or --port"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(arguments: tuple[str, ...], says: str) -> None:
    done = invoke("fake-slack", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
