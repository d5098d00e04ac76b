"""`watchkeeper channels` and what `doctor` says of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from cli.doctor import examine
from config.settings import Settings
from responders.fake_slack import GOOD_TOKEN, FakeSlack
from tests.cli.invoke import invoke
from tests.integration.parts.ports import free_port
from tests.responders.receivers import ROUTING_KEY, FakePagerDuty

HOOK = {
    "WATCHKEEPER_WEBHOOK__OPS__URL": "http://127.0.0.1:1/path-secret",
    "WATCHKEEPER_WEBHOOK__OPS__SECRET": "a secret of twenty-four characters",
}


def test_what_is_set_up_is_listed(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[paging]\nchannels = ['webhook:ops']\nfallback = 'webhook:gone'\n")
    env = {**HOOK, "WATCHKEEPER_POLICY": str(policy)}
    listed = json.loads(invoke("channels", "list", "--json", env=env).stdout)
    assert listed == [
        {"name": "terminal", "set_up": True, "named_in_policy": False},
        {"name": "webhook:ops", "set_up": True, "named_in_policy": True},
        {"name": "webhook:gone", "set_up": False, "named_in_policy": True},
    ]


def test_a_test_page_is_printed_on_the_terminal() -> None:
    done = invoke("channels", "test", "terminal")
    assert done.returncode == 0
    assert "TEST PAGE: nothing has happened." in done.stdout
    done = invoke("channels", "test", "terminal", "--json")
    assert json.loads(done.stdout) == {"channel": "terminal", "delivered": True, "failed": None}
    assert "TEST PAGE: nothing has happened." in done.stderr


@pytest.mark.parametrize(
    ("name", "says"), [("webhook:ops", "no connection"), ("webhook:x", "use one of terminal, webhook:ops")]
)
def test_a_test_page_that_does_not_arrive_is_said_in_one_line(name: str, says: str) -> None:
    done = invoke("channels", "test", name, env=HOOK)
    assert done.returncode == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert "path-secret" not in done.stderr + done.stdout


async def test_doctor_asks_every_channel(tmp_path: Path) -> None:
    pagerduty, slack = FakePagerDuty(), FakeSlack()
    await pagerduty.start()
    settings = Settings(
        data_dir=tmp_path,
        kafka={"bootstrap": f"127.0.0.1:{free_port()}"},
        slack={"bot_token": GOOD_TOKEN, "base_url": await slack.start()},
        pagerduty={
            "good": {"routing_key": ROUTING_KEY, "base_url": pagerduty.url},
            "bad": {"routing_key": "e" * 32, "base_url": pagerduty.url},
        },
        webhook={"ops": {"url": "http://127.0.0.1:1/path-secret", "secret": "a secret of 24 characters.."}},
    )
    findings = {each.part: each for each in await examine(settings, 60.0)}
    await asyncio.gather(pagerduty.stop(), slack.stop())
    assert findings["paging"].detail == "pages go to slack:#incidents, terminal"
    verdicts = {name: findings[name].verdict for name in findings if ":" in name}
    assert verdicts == {
        "slack:#incidents": "ok",
        "pagerduty:good": "ok",
        "pagerduty:bad": "wrong",
        "webhook:ops": "wrong",
    }
    assert "Invalid routing key" in findings["pagerduty:bad"].detail
    assert "routing key" in findings["pagerduty:bad"].advice
    said = str([each.as_dict() for each in findings.values()])
    assert not any(secret in said for secret in ("e" * 32, ROUTING_KEY, "path-secret"))
    assert pagerduty.notified == 0
