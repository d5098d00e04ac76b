"""What people press and type, as Slack tells the app: payloads, the addresses to answer to, and the signed
POST that carries them where Socket Mode is off.
"""

from __future__ import annotations

import json
import secrets
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
from slack_sdk.signature import SignatureVerifier

from responders.fake_slack.blocks import refusal_of
from responders.fake_slack.socket_mode import ACKNOWLEDGE_WITHIN_S, Heard, Kind
from responders.fake_slack.workspace import (
    APP_ID,
    TEAM,
    TEAM_ID,
    Ephemeral,
    Posted,
    User,
    Workspace,
    shown,
)

USES: Final = 5
GOOD_FOR_S: Final = 30 * 60
VERIFICATION_TOKEN: Final = "fake-verification"  # noqa: S105 - deprecated by Slack, not a secret


class NoSuchButtonError(LookupError):
    """The message shows no such button; ``value`` or ``stale`` press it all the same."""


def buttons(blocks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The buttons of a message, each with the id of its block."""
    for index, block in enumerate(blocks):
        held = [*block.get("elements", ()), *((block["accessory"],) if "accessory" in block else ())]
        for element in held:
            if element.get("type") == "button":
                yield {"block_id": block.get("block_id") or f"block-{index}", **element}


def find_button(message: Posted, action_id: str, value: str | None, stale: bool) -> dict[str, Any]:
    """The button, as the message shows it. With ``stale`` as it showed it before some edit; with a ``value``
    that it never had, as somebody made it up.

    Raises:
        NoSuchButtonError: there is none.
    """
    versions = [message.blocks, *(reversed(message.past) if stale else ())]
    known = [each for blocks in versions for each in buttons(blocks) if each.get("action_id") == action_id]
    exact = next((each for each in known if value is None or each.get("value") == value), None)
    if exact is not None:
        return exact
    if value is None:
        raise NoSuchButtonError(f"no button {action_id!r} in {message.ts}")
    made_up = {"block_id": "block-0", "type": "button", "text": {"type": "plain_text", "text": action_id}}
    return {**(known[0] if known else made_up), "action_id": action_id, "value": value}


def block_actions(
    workspace: Workspace, message: Posted, button: Mapping[str, Any], user: User, response_url: str
) -> dict[str, Any]:
    """The payload of a press."""
    action = {
        key: button[key]
        for key in ("type", "action_id", "block_id", "text", "value", "style")
        if key in button
    }
    container = {
        "type": "message",
        "message_ts": message.ts,
        "channel_id": message.channel,
        "is_ephemeral": False,
        **({} if message.thread_ts is None else {"thread_ts": message.thread_ts}),
    }
    return {
        "type": "block_actions",
        "user": {"id": user.id, "username": user.name, "name": user.name, "team_id": TEAM_ID},
        "api_app_id": APP_ID,
        "token": VERIFICATION_TOKEN,
        "container": container,
        "trigger_id": _trigger(),
        "team": {"id": TEAM_ID, "domain": TEAM.lower()},
        "enterprise": None,
        "is_enterprise_install": False,
        "channel": {"id": message.channel, "name": workspace.channel_name(message.channel)},
        "message": shown(message, workspace.url),
        "state": {"values": {}},
        "response_url": response_url,
        "actions": [{**action, "action_ts": workspace.next_ts()}],
    }


def slash_command(
    workspace: Workspace, command: str, text: str, user: User, channel: str, response_url: str
) -> dict[str, Any]:
    """The fields of a slash command: a form over HTTP, the payload over Socket Mode."""
    return {
        "token": VERIFICATION_TOKEN,
        "team_id": TEAM_ID,
        "team_domain": TEAM.lower(),
        "channel_id": channel,
        "channel_name": workspace.channel_name(channel),
        "user_id": user.id,
        "user_name": user.name,
        "command": command,
        "text": text,
        "api_app_id": APP_ID,
        "is_enterprise_install": "false",
        "response_url": response_url,
        "trigger_id": _trigger(),
    }


def _trigger() -> str:
    """Unlike any other, of an earlier run too: an app may remember it."""
    return f"{uuid.uuid4().int % 10**13}.{uuid.uuid4().hex}"


def signed(secret: str, body: str, now_s: float) -> dict[str, str]:
    """The headers by which an app knows that Slack sent the body."""
    timestamp = str(int(now_s))
    signature = SignatureVerifier(secret).generate_signature(timestamp=timestamp, body=body)
    return {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Slack-Request-Timestamp": timestamp,
        "X-Slack-Signature": str(signature),
    }


async def post_signed(
    url: str,
    secret: str,
    kind: Kind,
    payload: Mapping[str, Any],
    now_s: Callable[[], float] = time.time,
    within_s: float = ACKNOWLEDGE_WITHIN_S,
) -> Heard:
    """Tells the app over HTTP, once: Slack does not send again what people press and type."""
    body = urlencode({"payload": json.dumps(payload)} if kind == "interactive" else payload)
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(within_s)) as session,
            session.post(url, data=body, headers=signed(secret, body, now_s())) as answer,
        ):
            text = await answer.text()
            if answer.status != 200:
                return Heard(False, 1, f"http_{answer.status}")
            is_json = answer.content_type == "application/json"
    except TimeoutError:
        return Heard(False, 1, "operation_timeout")
    except aiohttp.ClientError:
        return Heard(False, 1, "dispatch_failed")
    return Heard(True, 1, response=json.loads(text) if is_json and text else text or None)


@dataclass(slots=True)
class _Address:
    channel: str
    user: User
    until_s: float
    message: Posted | None
    uses: int = 0


@dataclass(eq=False)
class ResponseUrls:
    """The addresses to answer to: five times each, within half an hour."""

    workspace: Workspace
    _issued: dict[str, _Address] = field(default_factory=dict)

    def issue(self, channel: str, user: User, message: Posted | None) -> str:
        key = secrets.token_urlsafe(18)
        until_s = self.workspace.now_s() + GOOD_FOR_S
        self._issued[key] = _Address(channel, user, until_s, message)
        return f"{self.workspace.url}/responses/{TEAM_ID}/{key}"

    def answer(self, key: str, said: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Takes an answer: the HTTP status and JSON to give back."""
        address = self._issued.get(key)
        if address is None or self.workspace.now_s() > address.until_s:
            return 404, {"ok": False, "error": "expired_url"}
        if address.uses >= USES:
            return 404, {"ok": False, "error": "used_url"}
        if not said.get("delete_original"):
            refusal = refusal_of(said)
            if refusal is not None:
                return 400, refusal
        address.uses += 1
        say(self.workspace, address.channel, address.user, said, address.message)
        return 200, {"ok": True}


def say(
    workspace: Workspace, channel: str, user: User, said: Mapping[str, Any], message: Posted | None
) -> None:
    """Shows an answer as it asks to be shown: to its person alone unless it says otherwise."""
    text, blocks = str(said.get("text") or ""), list(said.get("blocks") or [])
    if message is not None and said.get("delete_original"):
        workspace.messages.remove(message)
        workspace.touch()
    elif message is not None and said.get("replace_original"):
        workspace.edit(message, text, blocks)
    elif said.get("response_type") == "in_channel":
        workspace.post(Posted(channel, workspace.next_ts(), text, blocks, None, said.get("thread_ts")))
    else:
        answers = None if message is None else message.ts
        ts, thread = workspace.next_ts(), said.get("thread_ts")
        workspace.whisper(Ephemeral(channel, user.id, ts, text, blocks, thread, answers))


def complain(workspace: Workspace, channel: str, user: User, what: str, error: str, ts: str | None) -> None:
    """What Slack itself tells a person whose press or command the app did not take."""
    text = f"{what} failed with the error `{error}`"
    workspace.whisper(Ephemeral(channel, user.id, workspace.next_ts(), text, [], None, ts, from_app=False))
