"""What the fake Slack takes for a message: the SDK's limits, and Slack's where the SDK has none."""

from __future__ import annotations

from typing import Any

import pytest

from responders.fake_slack import problem_with
from responders.fake_slack.blocks import problems, refusal_of

Block = dict[str, Any]


def text(words: str, kind: str = "mrkdwn") -> Block:
    return {"type": kind, "text": words}


def plain(words: str) -> Block:
    return text(words, "plain_text")


def section(words: str = "words", **others: Any) -> Block:
    return {"type": "section", "text": text(words), **others}


def button(action: str = "ack", **others: Any) -> Block:
    return {"type": "button", "action_id": action, "text": plain("Acknowledge"), "value": "INC-1", **others}


def actions(*elements: Block) -> Block:
    return {"type": "actions", "elements": list(elements)}


CONFIRM = {
    "title": plain("Halt?"),
    "text": text("It *stops*."),
    "confirm": plain("Halt"),
    "deny": plain("No"),
}
IMAGE = {"type": "image", "image_url": "https://example.com/a.png", "alt_text": "a line"}
GOOD: list[Block] = [
    {"type": "header", "text": plain("🔴 billing loops")},
    section("*bold* `code` <https://example.com|link>", accessory=button("more"), expand=True),
    {"type": "section", "fields": [text("*Agent*\nbilling")] * 10},
    {"type": "divider"},
    {**IMAGE, "title": plain("Errors a minute")},
    actions(button(style="primary"), button("halt", style="danger", confirm={**CONFIRM, "style": "danger"})),
    {"type": "context", "elements": [text("INC-1"), plain("default"), IMAGE]},
    {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": [text("a", "text")]}]},
]


def test_every_kind_of_block_that_is_right_is_taken() -> None:
    assert list(problems(GOOD)) == []
    assert refusal_of({"text": "", "blocks": GOOD}) is None


@pytest.mark.parametrize(
    ("block", "says"),
    [
        # by the SDK's models
        (section("x" * 3001), "text attribute cannot exceed 3000 characters"),
        ({"type": "section"}, "text or fields attribute must be specified"),
        ({"type": "section", "fields": [text("f")] * 11}, "fields attribute cannot exceed 10 items"),
        ({"type": "header", "text": plain("x" * 151)}, "text attribute cannot exceed 150 characters"),
        ({"type": "actions"}, "missing 1 required keyword-only argument: 'elements'"),
        ({"type": "header"}, "text attribute must be specified"),
        (actions(*(button(str(n)) for n in range(26))), "elements attribute cannot exceed 25 elements"),
        ({"type": "context", "elements": [text("c")] * 11}, "elements attribute cannot exceed 10 elements"),
        (actions(button(value="v" * 2001)), "value attribute cannot exceed 2000 characters"),
        (actions(button("a" * 256)), "action_id attribute cannot exceed 255 characters"),
        (actions(button(text=plain("t" * 76))), "text attribute cannot exceed 75 characters"),
        (actions(button(style="loud")), "style"),
        (
            actions(button(confirm={**CONFIRM, "title": plain("t" * 101)})),
            "title attribute cannot exceed 100",
        ),
        (section(block_id="b" * 256), "block_id cannot exceed 255 characters"),
        # by Slack alone
        ({"type": "marquee"}, "unsupported type: marquee [json-pointer:/blocks/0/type]"),
        ({"text": text("x")}, "unsupported type: None [json-pointer:/blocks/0/type]"),
        (actions({"type": "lever"}), "unsupported type: lever [json-pointer:/blocks/0/elements/0/type]"),
        (
            section(accessory={"type": "lever"}),
            "unsupported type: lever [json-pointer:/blocks/0/accessory/type]",
        ),
        (actions(text("x")), "unsupported type: mrkdwn [json-pointer:/blocks/0/elements/0/type]"),
        (
            {"type": "context", "elements": [button()]},
            "unsupported type: button [json-pointer:/blocks/0/elements/0/type]",
        ),
        (actions(), "no fewer than 1 items allowed [json-pointer:/blocks/0/elements]"),
        (section(colour="red"), "invalid additional property: colour [json-pointer:/blocks/0]"),
        (
            actions(button(sound="bell")),
            "invalid additional property: sound [json-pointer:/blocks/0/elements/0]",
        ),
        (section(text={"type": "mrkdwn", "text": "x", "size": 3}), "unexpected keyword argument 'size'"),
        (section(""), "must be more than 0 characters [json-pointer:/blocks/0/text/text]"),
        (
            {"type": "section", "fields": [text("f"), text("x" * 2001)]},
            "must be less than 2001 characters [json-pointer:/blocks/0/fields/1/text]",
        ),
        (
            {"type": "context", "elements": [text("x" * 3001)]},
            "must be less than 3001 characters [json-pointer:/blocks/0/elements/0/text]",
        ),
        ({"type": "header", "text": text("*x*")}, "must be plain_text [json-pointer:/blocks/0/text/type]"),
        (actions(button(text=text("x"))), "must be plain_text [json-pointer:/blocks/0/elements/0/text/type]"),
        (
            actions(button(confirm={**CONFIRM, "deny": text("no")})),
            "must be plain_text [json-pointer:/blocks/0/elements/0/confirm/deny/type]",
        ),
        (
            actions(button("same"), button("same")),
            "action_id already exists: same [json-pointer:/blocks/0/elements/1/action_id]",
        ),
    ],
)
def test_what_is_wrong_with_a_block_is_said_with_its_place(block: Block, says: str) -> None:
    answer = refusal_of({"text": "x", "blocks": [block]})
    assert answer is not None
    assert answer["error"] == "invalid_blocks"
    (error, *_), (message, *_) = answer["errors"], answer["response_metadata"]["messages"]
    assert says in error
    assert message == f"[ERROR] {error}"
    assert "json-pointer:/blocks/0" in error


def test_block_ids_are_unique_and_blocks_at_most_fifty() -> None:
    assert problem_with({"blocks": [section(block_id=str(n)) for n in range(50)]}) is None
    twice = refusal_of({"blocks": [section(block_id="a"), section(block_id="a")]})
    assert twice is not None
    assert twice["errors"] == ["block_id already exists: a [json-pointer:/blocks/1/block_id]"]
    many = refusal_of({"blocks": [section()] * 51})
    assert many is not None
    assert many["errors"] == ["no more than 50 items allowed [json-pointer:/blocks]"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, "no_text"),
        ({"text": "", "blocks": []}, "no_text"),
        ({"text": 3}, "invalid_arguments"),
        ({"text": "x", "blocks": "[]"}, "invalid_blocks_format"),
        ({"text": "x", "blocks": {"blocks": []}}, "invalid_blocks_format"),
        ({"text": "x", "blocks": [["section"]]}, "invalid_blocks_format"),
        ({"text": "x" * 40_001}, "msg_too_long"),
        ({"text": "x", "metadata": {"event_type": "a"}}, "invalid_metadata_format"),
        ({"text": "x", "metadata": {"event_type": "a", "event_payload": {"k": "v"}}}, None),
        ({"text": "x" * 40_000}, None),
    ],
)
def test_the_arguments_around_the_blocks(arguments: Block, error: str | None) -> None:
    assert problem_with(arguments) == error
