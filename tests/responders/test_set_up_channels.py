"""Which channels are set up by the settings, and that nobody can be paged where nothing is."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings, SettingsError, load
from responders import actions, policy, service
from responders.channels import opening as channels
from responders.channels.http_channel import ChannelError
from responders.channels.trial import try_channel
from responders.channels.webhook import key_of, signature
from responders.policy import PolicyError
from tests.responders.receivers import FakePagerDuty
from tests.responders.world import START

TOML = """
[pagerduty.oncall]
routing_key = "0123456789abcdef0123456789abcdef"
severities = { warning = "error" }

[webhook.ops]
url = "https://ops.example/hook"
secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

[alertmanager]
urls = ["http://alertmanager-1:9093", "http://alertmanager-2:9093"]
labels = { team = "agents" }

[apprise.mail]
url = "mailtos://user:secret@mail.example?to=oncall@mail.example"
"""
NAMES = ("terminal", "pagerduty:oncall", "webhook:ops", "alertmanager", "apprise:mail")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "watchkeeper.toml"
    file.write_text(TOML)
    return file


@pytest.fixture
def settings(config: Path) -> Settings:
    return load(config)


async def test_every_channel_of_the_settings_is_opened_by_its_name(settings: Settings) -> None:
    assert channels.names(settings) == NAMES
    async with channels.open_channels(settings, policy.DEFAULT) as opened:
        assert tuple(opened) == NAMES


def test_a_channel_can_be_set_up_by_variables_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHKEEPER_PAGERDUTY__ONCALL__ROUTING_KEY", "f" * 32)
    monkeypatch.setenv("WATCHKEEPER_ALERTMANAGER__URLS", '["http://127.0.0.1:9093"]')
    assert channels.names(load()) == ("terminal", "pagerduty:oncall", "alertmanager")


def test_a_variable_that_is_left_empty_sets_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHKEEPER_SLACK__BOT_TOKEN", "")
    monkeypatch.setenv("WATCHKEEPER_POLICY", "")
    assert load().policy is None
    assert channels.names(load()) == ("terminal",)


def test_without_slack_whatever_is_set_up_is_paged(settings: Settings) -> None:
    assert actions.installation_policy(settings).paging.channels == NAMES[1:]
    assert actions.installation_policy(Settings()).paging.channels == ("terminal",)


def test_with_a_token_a_policy_may_name_any_slack_channel(tmp_path: Path) -> None:
    rules = policy.parse("[[route]]\nchannels = ['slack:#payments']")
    assert channels.unknown(rules, Settings()) == ("slack:#payments",)
    assert channels.unknown(rules, Settings(slack={"bot_token": "xoxb-1"})) == ()


@pytest.mark.parametrize(
    ("text", "line", "name"),
    [
        ("[paging]\nchannels = ['terminal', 'pagerduty:nope']\n", 2, "pagerduty:nope"),
        ("\n[[route]]\nchannels = ['webhook:other']\n", 3, "webhook:other"),
        ("[[escalation.steps]]\nafter_minutes = 5\nchannels = ['pager']\n", 3, "pager"),
        ("[pacing]\n'apprise:post' = 3\n", 2, "apprise:post"),
    ],
)
async def test_a_channel_that_is_not_set_up_is_a_policy_error_that_says_which_are(
    settings: Settings, tmp_path: Path, text: str, line: int, name: str
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(text)
    settings = settings.model_copy(update={"policy": file, "data_dir": tmp_path})
    with pytest.raises(PolicyError) as caught:
        channels.must_know(policy.load(file), settings)
    assert str(caught.value).startswith(f"{file}:{line}: no channel {name} is set up: name one of terminal, ")
    assert all(each in str(caught.value) for each in NAMES)
    with pytest.raises(service.ServiceError, match=name):
        await service.run(settings, asyncio.Event(), lambda: None)


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        (
            "[webhook.a]\nurl = 'https://a.example/secret-path'\nsecret = 'too short a one'\n",
            "webhook.a.secret",
        ),
        ("[alertmanager]\nlabels = { 'no-label' = 'x' }\n", "alertmanager.labels"),
        ("[pagerduty.a]\nrouting_key = 'k'\nseverities = { critical = 'p1' }\n", "pagerduty.a.severities"),
        (
            "[webhook.a]\nurl = 'ftp://a.example/secret-path'\nsecret = 'twenty-four characters ..'\n",
            "webhook.a.url",
        ),
        ("[alertmanager]\nurls = ['alertmanager:9093']\n", "alertmanager.urls"),
    ],
)
def test_what_is_wrong_with_a_channel_is_said_without_its_secrets(
    tmp_path: Path, toml: str, says: str
) -> None:
    file = tmp_path / "watchkeeper.toml"
    file.write_text(toml)
    with pytest.raises(SettingsError, match=says) as caught:
        load(file)
    assert "secret-path" not in str(caught.value)
    assert "too short a one" not in str(caught.value)


async def test_what_only_the_channel_can_tell_is_said_without_its_secrets(tmp_path: Path) -> None:
    for each, secret in (
        (
            {"webhook": {"a": {"url": "https://a.example", "secret": "whsec_not base64 but long"}}},
            "not base64",
        ),
        ({"apprise": {"a": {"url": "nosuch://user:hidden@a.example"}}}, "hidden"),
    ):
        with pytest.raises(ChannelError) as caught:
            async with channels.open_channels(Settings(**each), policy.DEFAULT):
                pass
        assert secret not in str(caught.value)


def test_what_the_documentation_shows_is_taken(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "channels.md").read_text()
    file = tmp_path / "watchkeeper.toml"
    file.write_text("\n".join(re.findall(r"```toml\n(.*?)```", text, re.DOTALL)))
    shown = load(file)
    assert channels.names(shown) == (*NAMES, "apprise:phone")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    receiver: dict[str, Any] = {}
    exec(code, receiver)
    secret, now = shown.webhook["ops"].secret, str(int(time.time()))
    headers = {
        "webhook-id": "page_1",
        "webhook-timestamp": now,
        "webhook-signature": signature(key_of(secret), "page_1", now, b"{}"),
    }
    assert receiver["verified"](secret.get_secret_value(), headers, b"{}")
    assert not receiver["verified"](secret.get_secret_value(), headers, b"{ }")


async def test_a_test_page_says_that_it_is_one_and_is_over_at_once() -> None:
    fake = FakePagerDuty()
    await fake.start()
    settings = Settings(
        pagerduty={"oncall": {"routing_key": "0123456789abcdef0123456789abcdef", "base_url": fake.url}}
    )
    async with channels.open_channels(settings, policy.DEFAULT) as opened:
        tried = await try_channel(opened["pagerduty:oncall"], "alice", "1", START)
    await fake.stop()
    assert tried.over is not None
    ((alert,),) = fake.alerts.values()
    assert alert.state == "resolved"
    assert alert.payload["summary"].startswith("TEST PAGE: nothing has happened.")
