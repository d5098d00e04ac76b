"""The Slack channel against a Slack that fails in every way it can: a page is neither lost nor doubled."""

from __future__ import annotations

from dataclasses import replace

import aiohttp
import pytest

from responders.effects import Delivered, Outcome, Permanent, Retryable
from responders.fake_slack import GOOD_TOKEN, FakeSlack, Fault, problem_with
from responders.handle import Responder
from responders.pages.page import Message, render
from responders.sender import Outgoing
from responders.slack.channel import ATTEMPTS_TO_LOOK, SlackChannel
from responders.slack.web_api import SlackRefusedError
from tests.integration.parts.ports import free_port
from tests.responders.world import ABOUT, START, detection

MESSAGE = Message(
    "billing loops", ({"type": "section", "text": {"type": "mrkdwn", "text": "billing loops"}},), ABOUT
)
POST = "chat.postMessage"
HISTORY = "conversations.history"


def page(key: str = "page:INC-1:opened:slack:#incidents") -> Outgoing:
    return Outgoing(key, MESSAGE, START, attempts=1, in_doubt=False, thread=None)


async def until_done(channel: SlackChannel, outgoing: Outgoing) -> tuple[Outcome, list[Outcome]]:
    """Sends as the outbox does: again with the doubt the last outcome left. The last and all before it."""
    tried: list[Outcome] = []
    while True:
        outcome = await channel.send(outgoing)
        if not isinstance(outcome, Retryable):
            return outcome, tried
        tried.append(outcome)
        outgoing = replace(outgoing, attempts=outgoing.attempts + 1, in_doubt=outcome.in_doubt)


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.REFUSED])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_page_arrives_exactly_once_through_any_fault(
    slack: FakeSlack, channel: SlackChannel, fault: Fault, times: int
) -> None:
    slack.fail(POST, *[fault] * times)
    outcome, tried = await until_done(channel, page())
    assert isinstance(outcome, Delivered)
    assert len(tried) >= 1
    (message,) = slack.messages
    assert (outcome.conversation, outcome.message) == ("C0INCIDENTS", message.ts)


async def test_a_history_that_fails_for_a_while_is_asked_again(
    slack: FakeSlack, channel: SlackChannel
) -> None:
    slack.fail(POST, Fault.ACCEPT_THEN_RESET)
    slack.fail(HISTORY, Fault.SERVER_ERROR, Fault.RATE_LIMITED)
    outcome, tried = await until_done(channel, page())
    assert isinstance(outcome, Delivered)
    assert len(slack.messages) == 1
    assert all(isinstance(each, Retryable) and each.in_doubt for each in tried)


async def test_attempts_that_were_no_look_use_up_none(slack: FakeSlack, channel: SlackChannel) -> None:
    """After a long outage one history that fails would otherwise double the page."""
    slack.fail(POST, Fault.ACCEPT_THEN_RESET)
    slack.fail(HISTORY, Fault.SERVER_ERROR)
    outcome, _ = await until_done(channel, replace(page(), attempts=50))
    assert isinstance(outcome, Delivered)
    assert len(slack.messages) == 1


@pytest.mark.parametrize(
    "faults", [[Fault.REFUSED], [Fault.SERVER_ERROR] * ATTEMPTS_TO_LOOK], ids=["forbidden", "down"]
)
async def test_the_named_window_without_a_history_a_page_is_doubled_rather_than_lost(
    slack: FakeSlack, channel: SlackChannel, faults: list[Fault]
) -> None:
    slack.fail(POST, Fault.ACCEPT_THEN_RESET)
    slack.fail(HISTORY, *faults)
    outcome, _ = await until_done(channel, page())
    assert isinstance(outcome, Delivered)
    assert len(slack.messages) == 2


async def test_only_its_own_key_counts_as_found(slack: FakeSlack, channel: SlackChannel) -> None:
    await channel.send(page("page:INC-1:opened:slack:#incidents"))
    other = page("page:INC-2:opened:slack:#incidents")
    assert isinstance(await channel.send(replace(other, in_doubt=True)), Delivered)
    assert len(slack.messages) == 2
    assert isinstance(await channel.send(replace(other, in_doubt=True)), Delivered)
    assert len(slack.messages) == 2


async def test_a_page_is_found_behind_two_pages_of_history(slack: FakeSlack, channel: SlackChannel) -> None:
    await channel.send(page())
    slack.messages += [replace(slack.messages[0], ts=f"9{n}.0", metadata=None) for n in range(450)]
    assert await channel.send(replace(page(), in_doubt=True)) == Delivered(
        "C0INCIDENTS", slack.messages[0].ts
    )
    assert slack.calls.count(HISTORY) == 3


async def test_what_slack_asks_to_wait_is_waited(slack: FakeSlack, channel: SlackChannel) -> None:
    slack.retry_after_s = 7
    slack.fail(POST, Fault.RATE_LIMITED)
    outcome = await channel.send(page())
    assert isinstance(outcome, Retryable)
    assert (outcome.after_ms, outcome.in_doubt) == (7_000, False)


@pytest.mark.parametrize(
    ("error", "kind", "in_doubt"),
    [
        ("channel_not_found", Permanent, None),
        ("not_in_channel", Permanent, None),
        ("token_revoked", Permanent, None),
        ("is_archived", Permanent, None),
        ("ratelimited", Retryable, False),
        ("internal_error", Retryable, True),
        ("fatal_error", Retryable, True),
    ],
)
async def test_an_error_answer_is_permanent_or_not(
    slack: FakeSlack, channel: SlackChannel, error: str, kind: type[Outcome], in_doubt: bool | None
) -> None:
    slack.refusal = error
    slack.fail(POST, Fault.REFUSED)
    outcome = await channel.send(page())
    assert isinstance(outcome, kind)
    assert error in outcome.reason
    assert getattr(outcome, "in_doubt", None) is in_doubt


@pytest.mark.parametrize("error", ["invalid_blocks", "msg_blocks_too_long"])
async def test_a_page_whose_form_slack_refuses_arrives_as_one_line(
    slack: FakeSlack, channel: SlackChannel, error: str
) -> None:
    slack.refusal = error
    slack.fail(POST, Fault.REFUSED)
    assert isinstance(await channel.send(page()), Delivered)
    assert [(each.text, each.blocks) for each in slack.messages] == [("billing loops", [])]
    slack.fail(POST, Fault.REFUSED, Fault.REFUSED)
    assert await channel.send(page("page:INC-1:raised")) == Permanent(f"{POST}: {error}")


async def test_a_page_whose_thread_is_gone_goes_to_the_channel(
    slack: FakeSlack, channel: SlackChannel
) -> None:
    root = await channel.send(page())
    assert isinstance(root, Delivered)
    slack.refusal = "thread_not_found"
    slack.fail(POST, Fault.REFUSED)
    later = replace(page("page:INC-1:raised"), thread=(root.conversation, root.message))
    assert isinstance(await channel.send(later), Delivered)
    assert (slack.messages[1].channel, slack.messages[1].thread_ts) == (root.conversation, None)


async def test_a_slack_that_is_not_there_leaves_no_doubt() -> None:
    async with aiohttp.ClientSession() as session:
        base_url = f"http://127.0.0.1:{free_port()}/api/"
        channel = SlackChannel(GOOD_TOKEN, "#incidents", base_url, session)
        outcome = await channel.send(page())
        assert isinstance(outcome, Retryable)
        assert not outcome.in_doubt
        assert await channel.check() == ""


async def test_the_token_is_checked_and_never_quoted(slack: FakeSlack, channel: SlackChannel) -> None:
    assert await channel.check() == "Fake"
    base_url = await slack.start()
    async with aiohttp.ClientSession() as session:
        wrong = SlackChannel("xoxb-wrong", "#incidents", base_url, session)
        with pytest.raises(SlackRefusedError, match="set WATCHKEEPER_SLACK__BOT_TOKEN") as caught:
            await wrong.check()
    assert "xoxb-wrong" not in str(caught.value)


async def test_an_edit_changes_the_message_in_place(slack: FakeSlack, channel: SlackChannel) -> None:
    sent = await channel.send(page())
    assert isinstance(sent, Delivered)
    assert isinstance(await channel.edit(sent.conversation, sent.message, MESSAGE), Delivered)
    assert isinstance(await channel.edit(sent.conversation, "1.0", MESSAGE), Permanent)
    assert [message.edits for message in slack.messages] == [1]


async def test_a_later_page_replies_in_the_thread_and_to_the_channel(
    slack: FakeSlack, channel: SlackChannel
) -> None:
    root = await channel.send(page())
    assert isinstance(root, Delivered)
    later = replace(page("page:INC-1:raised"), thread=(root.conversation, root.message))
    assert isinstance(await channel.send(later), Delivered)
    assert slack.messages[1].thread_ts == root.message


async def test_a_reply_is_looked_for_where_its_thread_is(slack: FakeSlack, channel: SlackChannel) -> None:
    """The name may be another channel's by now, or not be found at all."""
    root = await channel.send(page())
    assert isinstance(root, Delivered)
    later = replace(page("page:INC-1:raised"), thread=(root.conversation, root.message))
    slack.fail(POST, Fault.ACCEPT_THEN_RESET)
    assert isinstance(await channel.send(later), Retryable)
    async with aiohttp.ClientSession() as session:
        renamed = SlackChannel(GOOD_TOKEN, "#incidents-old", f"{slack.url}/api/", session)
        assert await renamed.send(replace(later, in_doubt=True)) == Delivered(
            root.conversation, slack.messages[1].ts
        )
    assert len(slack.messages) == 2


def test_slack_takes_the_page_whatever_the_detection_says(responder: Responder) -> None:
    long = detection(
        agent="<!channel>" * 25, session="s" * 256, summary="*bold* <@U123> & `code` " * 40, runbook="r" * 256
    )
    incident = responder.detection(long)
    assert incident is not None
    message = render(incident, "opened")
    assert problem_with({"text": message.text, "blocks": message.blocks}) is None
    # A header and the labels of buttons are plain text, which Slack does not read as anything else.
    shown = str([each for each in message.blocks if each["type"] not in ("header", "actions")])
    shown += message.text
    assert "<!channel>" not in shown
    assert "<@U123>" not in shown
