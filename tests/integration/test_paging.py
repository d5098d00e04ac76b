"""The whole engine with a Slack: one post for one cause, although Slack drops the first answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from responders.fake_slack import GOOD_TOKEN, FakeSlack, Fault
from tests.integration.parts.engine import UpEngine, run_cli
from watchkeeper_client import Watchkeeper

pytestmark = [pytest.mark.embedded, pytest.mark.timeout(120)]
WAIT_S = 60.0


@pytest.fixture
def slack() -> Iterator[tuple[FakeSlack, str]]:
    """A fake Slack on a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    fake = FakeSlack()
    url = asyncio.run_coroutine_threadsafe(fake.start(), loop).result(10)
    yield fake, url
    asyncio.run_coroutine_threadsafe(fake.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


def settings(url: str, token: str) -> dict[str, str]:
    return {"WATCHKEEPER_SLACK__BOT_TOKEN": token, "WATCHKEEPER_SLACK__BASE_URL": url}


def test_one_page_although_the_answer_to_the_first_was_lost(
    slack: tuple[FakeSlack, str], tmp_path: Path
) -> None:
    fake, url = slack
    fake.fail("chat.postMessage", Fault.ACCEPT_THEN_RESET)
    with (
        UpEngine(tmp_path, environment=settings(url, GOOD_TOKEN)) as engine,
        Watchkeeper(bootstrap=engine.kafka, agent="looper", keys=engine.trusted_keys) as keeper,
    ):
        assert keeper.wait_heard()
        with keeper.session("loop-1") as session:
            while keeper.gate.allowed(tool="list_files", session="loop-1").allowed:
                session.tool_call("list_files", {"path": "/"}, result=["a"])
                time.sleep(0.05)
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline and "Obeyed" not in str(fake.messages):
            time.sleep(0.1)
        (page,) = fake.messages
        assert "list_files" in str(page.blocks)
        assert "Obeyed" in str(page.blocks)


def test_a_wrong_token_is_said_in_one_line(slack: tuple[FakeSlack, str], tmp_path: Path) -> None:
    _, url = slack
    wrong = settings(url, "xoxb-wrong")
    done = run_cli(
        "up", "--data-dir", str(tmp_path), "--kafka-port", "0", "--http-port", "0", env=wrong, timeout_s=60
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("watchkeeper: ")
    assert "WATCHKEEPER_SLACK__BOT_TOKEN" in line
    doctor = run_cli("doctor", "--data-dir", str(tmp_path), "--bootstrap", "127.0.0.1:1", "--json", env=wrong)
    assert doctor.returncode == 1
    assert "WATCHKEEPER_SLACK__BOT_TOKEN" in doctor.stdout
