"""What Slack sends is taken apart without trusting any of it; what is typed is read as people type it."""

from __future__ import annotations

import doctest
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from responders.slack import interactions, slash
from responders.slack.interactions import Origin, Person, Press, Typed, may_answer_at, request_of
from responders.slack.slash import USAGE, Order, Unreadable, parse

PRESS: dict[str, Any] = {
    "type": "block_actions",
    "user": {"id": "U0ANA", "username": "ana\nbo", "team_id": "T1"},
    "team": {"id": "T1"},
    "enterprise": None,
    "api_app_id": "A1",
    "trigger_id": "t-1",
    "response_url": "https://hooks.slack.com/actions/T1/1/x",
    "container": {"channel_id": "C1", "message_ts": "1.0"},
    "actions": [{"action_id": "watchkeeper.resume.2", "value": "INC-A::7"}],
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def test_a_press_and_a_command() -> None:
    origin = Origin("T1", "T1", None, "A1")
    person = Person("U0ANA", "ana bo")
    url = PRESS["response_url"]
    assert request_of(PRESS) == Press(person, origin, "t-1", url, "resume", "INC-A::7", ("C1", "1.0"))
    command = {
        "command": "/watchkeeper",
        "text": "halt x",
        "user_id": "U0ANA",
        "user_name": "ana",
        "team_id": "T1",
    }
    assert request_of(command) == Typed(Person("U0ANA", "ana"), Origin("T1"), "", "", "halt x")
    assert person.signed == "ana bo (slack:U0ANA)"


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"type": "view_submission"},
        {**PRESS, "user": None},
        {**PRESS, "user": {"id": "U 1 (operator)"}},
        {**PRESS, "actions": []},
        {**PRESS, "actions": [{"action_id": "another.app", "value": "x"}]},
        {**PRESS, "actions": [{"action_id": "watchkeeper.launch", "value": "x"}]},
        {**PRESS, "actions": PRESS["actions"] * 2},
        {"command": "/watchkeeper", "text": "halt x"},
        {"ssl_check": "1"},
    ],
)
def test_what_asks_for_nothing_of_ours(payload: dict[str, Any]) -> None:
    assert request_of(payload) is None


@settings(max_examples=200, deadline=None)
@given(key=st.sampled_from([*PRESS, "command", "text", "user_id"]), value=JSON)
def test_no_payload_breaks_the_reading(key: str, value: object) -> None:
    found = request_of({**PRESS, key: value})
    assert found is None or found.person.user_id


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("https://hooks.slack.com/actions/T1/1/x", True),
        ("https://hooks.slack.com/commands/T1/1/x", True),
        ("https://hooks.slack-gov.com/actions/T1/1/x", True),
        ("http://127.0.0.1:8123/responses/T1/x-Y_z", True),
        ("http://hooks.slack.com/actions/T1/1/x", False),
        ("http://127.0.0.1:8124/responses/x", False),
        ("http://127.0.0.1:81/responses/x", False),
        ("http://127.0.0.1:8123@evil.example/responses/x", False),
        ("https://hooks.slack.com.evil.example/x", False),
        ("https://hooks.slack.com@evil.example/x", False),
        ("https://hooks.slack.com:443@evil.example/x", False),
        ("https://hooks.slack.com\\@evil.example/x", False),
        ("https://hooks.slack.com/a?next=https://evil.example", False),
        ("https://hooks.slack.com/a\r\nHost: evil.example", False),
        ("https://hooks.slack.com", False),
        ("file:///etc/passwd", False),
        ("http://169.254.169.254/latest/meta-data", False),
        ("", False),
    ],
)
def test_answers_go_to_slack_and_nowhere_else(url: str, may: bool) -> None:
    assert may_answer_at(url, "http://127.0.0.1:8123/api/") is may


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("halt billing", Order("halt", "billing")),
        ("HALT billing", Order("halt", "billing")),
        ("halt billing it's looping", Order("halt", "billing", "it's looping")),
        ("halt “acme/my agent/s-1” now", Order("halt", "acme/my agent/s-1", "now")),
        ("halt --reason 'too dear' billing", Order("halt", "billing", "too dear")),
        ("halt —all", Order("halt", everyone=True)),
        ("halt --all --tenant acme fire", Order("halt", "", "fire", everyone=True, tenant="acme")),
        ("/watchkeeper halt `billing`", Order("halt", "billing")),
        ("halt <http://agent.io|agent.io>", Order("halt", "agent.io")),
        ("halt a&amp;b", Order("halt", "a&b")),
        ("degrade billing keyword slow", Order("degrade", "billing", "slow", "keyword")),
        ("silence INC-A 30 noisy", Order("silence", "INC-A", "noisy", minutes=30.0)),
        ("deny INC-A no --target a/b", Order("deny", "INC-A", "no", target="a/b")),
        ("approve INC-A", Order("approve", "INC-A")),
        ("false-alarm INC-A it was -5 degrees", Order("false-alarm", "INC-A", "it was -5 degrees")),
        ("", Order("help")),
        ("status please", Order("status")),
    ],
)
def test_what_is_typed_is_read(text: str, order: Order) -> None:
    assert parse(text) == order


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(max_size=60)
    | st.builds(
        lambda verb, words: " ".join([verb, *words]),
        st.sampled_from(sorted(USAGE)),
        st.lists(
            st.sampled_from(["--all", "--tenant", "billing", "'", '"', "--", "-x", "30", "—all"]), max_size=5
        ),
    )
)
def test_whatever_is_typed_is_an_order_or_told(text: str) -> None:
    found = parse(text)
    if isinstance(found, Unreadable):
        assert found.problem
    elif found.everyone:
        assert found.what == ""
        assert "all" in text
    elif found.verb not in ("help", "status"):
        assert found.what


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(interactions).failed == 0
    assert set(slash.DEEDS) | {"status", "help"} == set(USAGE)
