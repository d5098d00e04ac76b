"""Behavioural objectives in the policy file: for the stream workers and the responder alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import objectives
from config.objectives import EVALUATION, LIMITS, MOST_OF_AN_AGENT, RATES
from config.policy_file import PolicyError
from detectors import indicators
from responders import policy

GOOD = """
[paging]
severities = ["critical"]

[[objective]]
name = "answers"
indicator = "completion_rate"
objective = 0.95
agents = ["support"]

[[objective]]
name = "speed"
indicator = "latency"
objective = 0.99
window_days = 7
latency_over_ms = 4000
tenants = ["acme"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "policy.toml"


def test_both_readers_find_the_same(file: Path) -> None:
    file.write_text(GOOD)
    found = objectives.load(file)
    assert [(each.name, each.window_days) for each in found] == [("answers", 28), ("speed", 7)]
    assert policy.load(file).objective == found
    assert objectives.load(None) == ()


def test_whom_they_are_for(file: Path) -> None:
    file.write_text(GOOD)
    answers, speed = objectives.load(file)
    assert answers.applies("default", "support")
    assert not answers.applies("default", "billing")
    assert speed.applies("acme", "billing")
    assert not speed.applies("default", "support")


def _one(**fields: object) -> str:
    known = {"name": "'n'", "indicator": "'error_rate'", "objective": 0.9, **fields}
    return "[[objective]]\n" + "".join(f"{key} = {value}\n" for key, value in known.items())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (_one(indicator="'speed'"), r"p.toml:3: objective\.0\.indicator: must be one of completion_rate, .*"),
        (_one(indicator="'latency'"), r"p.toml:1: objective\.0\.latency_over_ms: latency needs one"),
        (_one(cost_over_usd=1), r"p.toml:5: objective\.0\.cost_over_usd: error_rate takes no limit"),
        (_one(objective=1), r"p.toml:4: objective\.0\.objective: .*less than 1"),
        (_one(window_days=90), r"p.toml:5: objective\.0\.window_days: .*30"),
        (
            _one(windowdays=9),
            r"p.toml:5: objective\.0\.windowdays: there is no such key: did you mean window_days",
        ),
        (_one() + _one(), r"p.toml:1: objective: two objectives are named n"),
        (
            "".join(_one(name=f"'n{number}'") for number in range(MOST_OF_AN_AGENT + 1)),
            r"p.toml:1: objective: more than 8 objectives for one agent",
        ),
        (_one(name="'a'") + _one(objective=0.2), r"p.toml:8: objective\.1\.objective: .*0.5"),
        ("[[containment.rules]]\ntrust = 'shadow'\n" + _one(objective=0.2), r"p.toml:6: objective\.0\.objec"),
    ],
)
def test_a_wrong_objective_is_said_with_line_and_key_by_both(file: Path, text: str, says: str) -> None:
    file = file.with_name("p.toml")
    file.write_text(text)
    for load in (objectives.load, policy.load):
        with pytest.raises(PolicyError, match=says) as caught:
            load(file)
        assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_said(file: Path) -> None:
    with pytest.raises(PolicyError, match="WATCHKEEPER_POLICY"):
        objectives.load(file)


def test_an_objective_can_be_of_every_indicator_whose_values_can_be_told_good_from_bad() -> None:
    known = {*RATES, *LIMITS}
    assert known | {"output_length"} == set(indicators.BY_NAME)
    assert {name for name in RATES if indicators.BY_NAME[name].kind != "rate"} == set()
    assert EVALUATION == indicators.EVALUATION
