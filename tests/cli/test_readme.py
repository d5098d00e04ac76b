"""The README promises only what there is: commands, targets, files, and an event that is taken."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from cli.main import app
from config.objectives import WithObjectives
from config.policy_file import parse
from schemas.event import AGENT_EVENT, ToolCall

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
NOW = "2026-01-31T12:00:00Z"


def _known_commands() -> set[str]:
    single = {each.name or each.callback.__name__ for each in app.registered_commands if each.callback}
    return single | {each.name for each in app.registered_groups if each.name}


def test_every_command_exists() -> None:
    named = set(re.findall(r"\bwatchkeeper ([a-z][a-z-]*)", re.sub(r"from watchkeeper_client.*", "", README)))
    assert named
    assert named <= _known_commands()


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert named
    assert named <= targets


def test_every_link_leads_somewhere() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_the_event_it_shows_is_taken() -> None:
    (body,) = re.findall(r"-d '(\{.*?\})'", README, re.DOTALL)
    event = AGENT_EVENT.validate_json(re.sub(r"'\"\$\(date[^)]*\)\"'", NOW, body))
    assert isinstance(event, ToolCall)


def test_the_python_it_shows_is_python() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        ast.parse(block)


def test_the_objectives_it_shows_are_taken() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    (objective,) = parse(WithObjectives, block, "README").objective
    assert objective.applies("default", "support")
