"""A mistyped variable is refused by name; what others have begun with our prefix is let be."""

from __future__ import annotations

import pytest

from config.environment import misnamed
from config.settings import Settings, SettingsError, load


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("WATCHKEEPER_SLAK__BOT_TOKEN", "WATCHKEEPER_SLACK__BOT_TOKEN"),
        ("WATCHKEEPER_SLACK_BOT_TOKEN", "WATCHKEEPER_SLACK__BOT_TOKEN"),
        ("WATCHKEEPER_SLACK__BOT_TOKN", "WATCHKEEPER_SLACK__BOT_TOKEN"),
        ("watchkeeper_slak__bot_token", "WATCHKEEPER_SLACK__BOT_TOKEN"),
        ("WATCHKEEPER_PAGERDUTI__ONCALL__ROUTING_KEY", "WATCHKEEPER_PAGERDUTY__ONCALL__ROUTING_KEY"),
        ("WATCHKEEPER_ALERTMANGER__LABELS__TEAM", "WATCHKEEPER_ALERTMANAGER__LABELS__TEAM"),
        ("WATCHKEEPER_POLICIY", "WATCHKEEPER_POLICY"),
        ("WATCHKEEPER_DATADIR", "WATCHKEEPER_DATA_DIR"),
        ("WATCHKEEPER_HTTP_PORT", "WATCHKEEPER_HTTP__PORT"),
    ],
)
def test_the_nearest_right_name_is_said(variable: str, meant: str) -> None:
    assert misnamed({variable: "x"}, Settings) == (
        f"there is no setting for the variable {variable}: did you mean {meant}?"
    )


def test_of_a_section_like_no_other_all_are_listed() -> None:
    said = misnamed({"WATCHKEEPER_NONSENSE__X": "1"}, Settings)
    assert said is not None
    assert said.endswith(
        "the sections are ALERTMANAGER, APPRISE, DATABASE, HTTP, KAFKA, PAGERDUTY, SLACK, STREAM, WEBHOOK"
    )


def test_every_setting_and_what_others_read_is_let_be() -> None:
    ours = {
        *("WATCHKEEPER_POLICY", "WATCHKEEPER_DATA_DIR", "WATCHKEEPER_KAFKA__BOOTSTRAP", "WATCHKEEPER_KAFKA"),
        *("WATCHKEEPER_LOG_LEVEL", "WATCHKEEPER_SLACK__BASE_URL", "watchkeeper_slack__channel"),
        *("WATCHKEEPER_PAGERDUTY__ONCALL__ROUTING_KEY", "WATCHKEEPER_WEBHOOK__OPS__SECRET"),
        *("WATCHKEEPER_ALERTMANAGER__URLS", "WATCHKEEPER_ALERTMANAGER__LABELS__TEAM"),
        "WATCHKEEPER_PAGERDUTY__ONCALL__SEVERITIES__WARNING",
    }
    others = {
        *("WATCHKEEPER_BOOTSTRAP", "WATCHKEEPER_TRUSTED_KEYS", "WATCHKEEPER_FAIL_MODE"),
        *("WATCHKEEPER_RELIABILITY", "WATCHKEEPER_TEST_KAFKA", "WATCHKEEPER_BENCH_PROFILE"),
        *("WATCHKEEPER_SERVICE_HOST", "WATCHKEEPER_HTTP_SERVICE_HOST", "WATCHKEEPER_KAFKA_SERVICE_PORT"),
        *("WATCHKEEPER_PORT_8080_TCP_ADDR", "PATH", "MY_WATCHKEEPER_SLAK__BOT_TOKEN"),
    }
    assert misnamed(dict.fromkeys(ours | others, "x"), Settings) is None


def test_what_kubernetes_says_of_a_service_and_what_is_empty_is_let_be() -> None:
    assert misnamed({"WATCHKEEPER_HTTP_PORT": "tcp://10.0.0.7:8080"}, Settings) is None
    assert misnamed({"WATCHKEEPER_SLAK__BOT_TOKEN": ""}, Settings) is None


def test_no_process_starts_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHKEEPER_SLAK__BOT_TOKEN", "xoxb-secret")
    with pytest.raises(SettingsError, match="did you mean WATCHKEEPER_SLACK__BOT_TOKEN") as refused:
        load()
    assert "xoxb-secret" not in str(refused.value)
