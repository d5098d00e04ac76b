"""The manifests of docs/slack are what Slack takes and what the engine needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from api import app
from responders import slack as slack_package
from responders.fake_slack import FakeSlack

DOCS = Path(__file__).parents[2] / "docs"
NEEDS = {
    "auth.test": set(),
    "bots.info": {"users:read"},
    "chat.postMessage": {"chat:write"},
    "chat.update": {"chat:write"},
    "conversations.history": {"channels:history", "groups:history"},
    "conversations.replies": {"channels:history", "groups:history"},
    "conversations.list": {"channels:read", "groups:read"},
    "files.getUploadURLExternal": {"files:write"},
    "files.completeUploadExternal": {"files:write"},
    "apps.connections.open": set(),
}
"""Scopes by method, as Slack's reference has them."""


def manifest(name: str) -> dict[str, Any]:
    loaded = yaml.safe_load((DOCS / "slack" / f"{name}.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


@pytest.fixture(params=["manifest", "manifest-http"])
def given(request: pytest.FixtureRequest) -> dict[str, Any]:
    return manifest(request.param)


def test_its_scopes_are_those_that_the_calls_need(given: dict[str, Any]) -> None:
    folder = Path(slack_package.__file__).parent
    text = "".join(path.read_text() for path in folder.glob("*.py"))
    called = set(re.findall(r'"((?:auth|bots|chat|conversations|files|users|apps|views)\.[A-Za-z.]+)"', text))
    assert called, "the calls are found"
    assert called <= set(NEEDS), "say which scopes a new method needs"
    needed = set().union(*(NEEDS[method] for method in called)) | {"commands"}
    assert set(given["oauth_config"]["scopes"]["bot"]) == needed


def test_it_is_within_what_slack_takes(given: dict[str, Any]) -> None:
    assert len(given["display_information"]["name"]) <= 35
    assert len(given["display_information"]["description"]) <= 140
    assert re.fullmatch(r"#[0-9a-f]{6}", given["display_information"]["background_color"])
    (command,) = given["features"]["slash_commands"]
    assert command["command"] == FakeSlack().command_name
    assert len(command["description"]) <= 2000
    assert len(command["usage_hint"]) <= 1000
    assert given["settings"]["interactivity"]["is_enabled"] is True


def test_one_is_for_socket_mode_and_the_other_posts_where_the_engine_listens() -> None:
    socket, http = manifest("manifest"), manifest("manifest-http")
    assert socket["settings"].pop("socket_mode_enabled") is True
    assert http["settings"].pop("socket_mode_enabled") is False
    urls = [
        http["settings"]["interactivity"].pop("request_url"),
        http["features"]["slash_commands"][0].pop("url"),
    ]
    assert socket == http, "else they are the same"
    (path,) = {re.sub(r"https://[^/]+", "", url) for url in urls}
    assert f'"{path}"' in Path(app.__file__).read_text()
