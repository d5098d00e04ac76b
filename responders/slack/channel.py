"""Pages to a Slack channel: posted once, edited in place, later pages of an incident as replies in its
thread.

Slack has no idempotency key. Each page carries its key in the message's metadata; after an answer that leaves
open whether the page arrived, the channel's history is searched for the key before the page is sent again.
Only when the history cannot be read either is the page sent twice rather than lost.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import structlog

from responders.effects import Delivered, Outcome, Permanent, Retryable
from responders.pages.page import TYPED, Message
from responders.picture.pictures import Picture
from responders.sender import Outgoing
from responders.slack import pictures
from responders.slack.web_api import TIMEOUT_S, Answer, SlackRefusedError, WebApi

METADATA_TYPE: Final = "watchkeeper_page"
ATTEMPTS_TO_LOOK: Final = 6
"""After so many looks that failed a page that cannot be looked for is sent again."""
POST: Final = "chat.postMessage"
_DISPENSABLE: Final[Mapping[frozenset[str], frozenset[str]]] = {
    frozenset(
        {
            "thread_not_found",
            "message_not_found",
            "cannot_reply_to_message",
            "restricted_action_thread_locked",
            "restricted_action_non_threadable_channel",
        }
    ): frozenset({"thread_ts", "reply_broadcast"}),
    frozenset({"invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long"}): frozenset({"blocks"}),
}
"""By Slack's errors, the fields without which it may take the message: somebody has deleted the one that
began the thread, or a name is longer than it allows.
"""

_log = structlog.get_logger(__name__)
_SLACK_ID: Final = re.compile(r"[CGD][A-Z0-9]{7,}")


class SlackChannel:
    """One channel of one workspace. Raises nothing that Slack or the network can cause.

    ``buttons`` says that presses have a way back; else a page shows the commands instead.
    """

    def __init__(
        self,
        token: str,
        channel: str,
        base_url: str,
        session: aiohttp.ClientSession,
        timeout_s: float = TIMEOUT_S,
        buttons: bool = True,
    ) -> None:
        self._api = WebApi(token, base_url, session, timeout_s)
        self._buttons = buttons
        self._channel = channel
        self._conversation = channel if _SLACK_ID.fullmatch(channel) else None
        self._failed_looks: dict[str, int] = {}

    @property
    def name(self) -> str:
        return f"slack:{self._channel}"

    async def check(self) -> str:
        """The workspace the token is for; an empty string when Slack cannot be reached now.

        Raises:
            SlackRefusedError: Slack answers that the token is not good.
        """
        answer = await self._api.call("auth.test", {})
        if isinstance(answer, Permanent):
            raise SlackRefusedError(
                f"Slack refuses the token ({answer.reason}); set WATCHKEEPER_SLACK__BOT_TOKEN to a bot token"
                " (xoxb-…) of your app, or unset it to page to the terminal"
            )
        return "" if isinstance(answer, Retryable) else str(answer.get("team", ""))

    async def send(self, page: Outgoing) -> Outcome:
        if page.in_doubt:
            found = await self._look_for(page)
            if not isinstance(found, Retryable):
                self._failed_looks.pop(page.key, None)
            if found is not None:
                return found
        answer = await self._post(
            {
                "channel": self._channel if page.thread is None else page.thread[0],
                "text": page.message.text,
                "blocks": self._blocks(page.message),
                "metadata": {"event_type": METADATA_TYPE, "event_payload": {"page_key": page.key}},
                "unfurl_links": False,
                "unfurl_media": False,
                # A reply that the channel sees too: it is a page, not a footnote.
                **({} if page.thread is None else {"thread_ts": page.thread[1], "reply_broadcast": True}),
            }
        )
        if isinstance(answer, Retryable | Permanent):
            return answer
        self._conversation = str(answer.get("channel") or self._conversation or self._channel)
        return Delivered(self._conversation, str(answer.get("ts", "")))

    async def _post(self, arguments: dict[str, Any]) -> Answer:
        """Without what Slack refuses of it: a page in one line, or outside its thread, is a page still."""
        answer = await self._api.call(POST, arguments)
        for codes, fields in _DISPENSABLE.items():
            if isinstance(answer, Permanent) and answer.reason.removeprefix(f"{POST}: ") in codes:
                _log.warning("page sent without a part that Slack refuses", reason=answer.reason)
                arguments = {name: value for name, value in arguments.items() if name not in fields}
                answer = await self._api.call(POST, arguments)
        return answer

    async def edit(self, conversation: str, message_id: str, message: Message) -> Outcome:
        answer = await self._api.call(
            "chat.update",
            {
                "channel": conversation,
                "ts": message_id,
                "text": message.text,
                "blocks": self._blocks(message),
            },
        )
        return answer if isinstance(answer, Retryable | Permanent) else Delivered(conversation, message_id)

    def _blocks(self, message: Message) -> list[dict[str, Any]]:
        """Either what is pressed or what is typed; what has no button is typed in any case."""
        pressed = any(block["type"] == "actions" for block in message.blocks)
        if self._buttons and pressed:
            return [block for block in message.blocks if block.get("block_id") != TYPED]
        return [block for block in message.blocks if block["type"] != "actions"]

    async def show(self, conversation: str, message_id: str, picture: Picture, in_doubt: bool) -> Outcome:
        return await pictures.show(self._api, conversation, message_id, picture, in_doubt)

    async def _look_for(self, page: Outgoing) -> Outcome | None:
        """`Delivered` when the page is there, `Retryable` when that cannot be told yet, None to send it."""
        conversation = await self._conversation_id() if page.thread is None else page.thread[0]
        if isinstance(conversation, Retryable):
            return self._once_more(page, conversation)
        # Clocks differ; a page cannot be older than its request by more than that.
        arguments: dict[str, Any] = {
            "channel": conversation,
            "oldest": f"{page.requested_at.timestamp() - 300:.6f}",
            "include_all_metadata": True,
            "limit": 200,
        }
        while True:
            answer = await self._api.call("conversations.history", arguments)
            if isinstance(answer, Permanent):
                return None
            if isinstance(answer, Retryable):
                return self._once_more(page, Retryable(answer.reason, answer.after_ms, in_doubt=True))
            for message in answer.get("messages") or ():
                if _page_key(message) == page.key:
                    return Delivered(conversation, str(message.get("ts", "")))
            cursor = (answer.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return None
            arguments["cursor"] = cursor

    def _once_more(self, page: Outgoing, failed: Retryable) -> Retryable | None:
        """Whether a look that failed is tried again; None to send the page. What the page was tried before
        for other reasons, as in a long outage, does not count; nor do looks before a restart.
        """
        looks = self._failed_looks[page.key] = self._failed_looks.get(page.key, 0) + 1
        return failed if looks < ATTEMPTS_TO_LOOK else None

    async def _conversation_id(self) -> str | Retryable:
        """Reading history needs the channel's id, which the answer to a post would have told."""
        if self._conversation is not None:
            return self._conversation
        arguments: dict[str, Any] = {"types": "public_channel,private_channel", "limit": 1000}
        name = self._channel.removeprefix("#")
        while True:
            answer = await self._api.call("conversations.list", arguments)
            if isinstance(answer, Retryable):
                return Retryable(answer.reason, answer.after_ms, in_doubt=True)
            if isinstance(answer, Permanent):
                return self._channel
            for each in answer.get("channels") or ():
                if each.get("name") == name:
                    self._conversation = str(each["id"])
                    return self._conversation
            cursor = (answer.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return self._channel
            arguments["cursor"] = cursor


def _page_key(message: Mapping[str, Any]) -> str | None:
    metadata = message.get("metadata") or {}
    if metadata.get("event_type") != METADATA_TYPE:
        return None
    key = (metadata.get("event_payload") or {}).get("page_key")
    return key if isinstance(key, str) else None
