"""`watchkeeper doctor` says whether what is pressed in Slack finds its way here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from cli.doctor import Finding, examine
from config.settings import KafkaSettings, Settings, SlackSettings
from responders.fake_slack import GOOD_APP_TOKEN, GOOD_TOKEN, FakeSlack, Fault
from tests.integration.parts.ports import free_port


async def found(tmp_path: Path, fake: FakeSlack, **slack: Any) -> list[Finding]:
    settings = Settings(
        data_dir=tmp_path,
        kafka=KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}"),
        slack=SlackSettings(base_url=f"{fake.url}/api/", **slack),
    )
    return [each for each in await examine(settings, timeout_s=60.0) if each.part == "slack buttons"]


@pytest.mark.parametrize(
    ("tokens", "verdict", "says"),
    [
        ({"app_token": GOOD_APP_TOKEN}, "ok", "pressed over Socket Mode"),
        ({"signing_secret": "a-secret"}, "ok", "POST /slack/interactions"),
        ({}, "note", "WATCHKEEPER_SLACK__APP_TOKEN"),
        ({"app_token": "xapp-wrong"}, "wrong", "set WATCHKEEPER_SLACK__APP_TOKEN"),
    ],
)
async def test_the_way_back_from_slack(
    tmp_path: Path, tokens: dict[str, str], verdict: str, says: str
) -> None:
    fake = FakeSlack()
    await fake.start()
    try:
        secrets = {name: SecretStr(value) for name, value in tokens.items()}
        (finding,) = await found(tmp_path, fake, bot_token=SecretStr(GOOD_TOKEN), **secrets)
        assert finding.verdict == verdict
        assert says in f"{finding.detail} {finding.advice}"
        assert "xapp-wrong" not in f"{finding.detail} {finding.advice}"
        assert await found(tmp_path, fake) == []
        fake.keep_failing(Fault.SERVER_ERROR)
        (finding,) = await found(
            tmp_path, fake, bot_token=SecretStr(GOOD_TOKEN), app_token=SecretStr(GOOD_APP_TOKEN)
        )
        assert finding.verdict == "wrong"
    finally:
        await fake.stop()
