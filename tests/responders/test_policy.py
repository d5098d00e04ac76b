"""A policy file is data with defaults; a wrong one is said with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from responders import policy
from responders.policy import DEFAULT, PolicyError
from schemas.control import ControlState
from tests.responders.world import HALT, detection


def test_an_empty_file_is_the_default_policy(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("")
    assert policy.load(path) == policy.load(None) == DEFAULT


@pytest.mark.parametrize(
    ("changes", "state", "trust"),
    [
        ({}, HALT, "automatic"),
        ({"severity": "warning"}, HALT, "approve"),
        ({"session": None}, HALT, "approve"),
        ({"session": None, "detector": "spawn_storm"}, HALT, "automatic"),
        ({"session": None}, ControlState(mode="degrade", ladder="rag"), "automatic"),
        ({}, ControlState(mode="require_approval"), "approve"),
    ],
)
def test_the_default_halts_sessions_on_critical_and_steps_down(
    changes: dict[str, object], state: ControlState, trust: str
) -> None:
    assert DEFAULT.containment.trust_in(detection(**changes), state) == trust


def test_the_first_rule_that_matches_decides() -> None:
    text = """
    [[containment.rules]]
    trust = "shadow"
    agents = ["billing"]

    [[containment.rules]]
    trust = "automatic"
    """
    rules = policy.parse(text).containment
    assert rules.trust_in(detection(), HALT) == "shadow"
    assert rules.trust_in(detection(agent="other"), HALT) == "automatic"


def test_channels_of_the_file_win_over_the_installation() -> None:
    named = policy.parse('[paging]\nchannels = ["slack:#agents"]').with_channels("terminal")
    assert named.paging.channels == ("slack:#agents",)
    assert DEFAULT.with_channels("terminal").paging.channels == ("terminal",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[paging]\nseverities = ['info']\n", r"p.toml:2: paging\.severities\.0: .*'warning' or 'critical'"),
        ("\n\n[paging]\nchannel = 'x'\n", r"p.toml:4: paging\.channel: extra inputs"),
        ("[containment]\n\nverify_quiet_ms = 1\n", r"p.toml:3: containment\.verify_quiet_ms: .*100"),
        (
            "[[containment.rules]]\ntrust = 'shadow'\n[[containment.rules]]\ntrust = 'maybe'\n",
            r"p.toml:4: containment\.rules\.1\.trust: .*'shadow', 'approve' or 'automatic'",
        ),
        ("[paging\n", "p.toml: not TOML: .*line 1"),
    ],
)
def test_a_wrong_policy_is_said_with_line_and_key(text: str, says: str) -> None:
    with pytest.raises(PolicyError, match=says) as caught:
        policy.parse(text, "p.toml")
    assert "\n" not in str(caught.value)


def test_a_policy_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="WATCHKEEPER_POLICY"):
        policy.load(tmp_path / "none.toml")
