"""The Web API methods that need nothing but the workspace. Each takes the arguments of a call and returns
the answer's JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from responders.fake_slack import uploads
from responders.fake_slack.blocks import refusal_of
from responders.fake_slack.workspace import (
    APP_ID,
    BOT_ID,
    BOT_USER,
    TEAM,
    TEAM_ID,
    Ephemeral,
    Posted,
    Workspace,
    shown,
)

Arguments = Mapping[str, Any]
Answer = dict[str, Any]
Method = Callable[[Workspace, Arguments], Answer]


def refused(error: str) -> Answer:
    return {"ok": False, "error": error}


def auth_test(workspace: Workspace, arguments: Arguments) -> Answer:
    known = {"team": TEAM, "team_id": TEAM_ID, "user": "watchkeeper", "user_id": BOT_USER, "bot_id": BOT_ID}
    return {"ok": True, "url": f"{workspace.url}/", **known}


def bot_info(_: Workspace, arguments: Arguments) -> Answer:
    if arguments.get("bot") != BOT_ID:
        return refused("bot_not_found")
    known = {"id": BOT_ID, "name": "watchkeeper", "app_id": APP_ID, "user_id": BOT_USER, "deleted": False}
    return {"ok": True, "bot": known}


def post_message(workspace: Workspace, arguments: Arguments) -> Answer:
    channel = workspace.channel_id(arguments.get("channel"))
    if channel is None:
        return refused("channel_not_found")
    refusal = refusal_of(arguments)
    if refusal is not None:
        return refusal
    thread = arguments.get("thread_ts")
    if thread is not None and workspace.message(channel, str(thread)) is None:
        return refused("thread_not_found")
    message = workspace.post(
        Posted(
            channel,
            workspace.next_ts(),
            str(arguments.get("text") or ""),
            list(arguments.get("blocks") or []),
            arguments.get("metadata"),
            thread,
            broadcast=thread is not None and bool(arguments.get("reply_broadcast")),
        )
    )
    return {"ok": True, "channel": channel, "ts": message.ts, "message": shown(message, workspace.url)}


def post_ephemeral(workspace: Workspace, arguments: Arguments) -> Answer:
    channel = workspace.channel_id(arguments.get("channel"))
    if channel is None:
        return refused("channel_not_found")
    user = workspace.user(str(arguments.get("user")))
    if user is None:
        return refused("user_not_in_channel")
    refusal = refusal_of(arguments)
    if refusal is not None:
        return refusal
    said = workspace.whisper(
        Ephemeral(
            channel,
            user.id,
            workspace.next_ts(),
            str(arguments.get("text") or ""),
            list(arguments.get("blocks") or []),
            arguments.get("thread_ts"),
        )
    )
    return {"ok": True, "message_ts": said.ts}


def update(workspace: Workspace, arguments: Arguments) -> Answer:
    message = workspace.message(str(arguments.get("channel")), str(arguments.get("ts")))
    if message is None:
        return refused("message_not_found")
    refusal = refusal_of(arguments)
    if refusal is not None:
        return refusal
    workspace.edit(message, str(arguments.get("text") or ""), list(arguments.get("blocks") or []))
    return {"ok": True, "channel": message.channel, "ts": message.ts}


def history(workspace: Workspace, arguments: Arguments) -> Answer:
    """Newest first, with the replies that were sent to the channel too; whatever ``oldest`` says, all."""
    channel = arguments.get("channel")
    if channel not in workspace.channels.values():  # reading takes an id, never a name
        return refused("channel_not_found")
    found = [
        each
        for each in reversed(workspace.messages)
        if each.channel == channel and (each.thread_ts is None or each.broadcast)
    ]
    return _page(found, arguments, workspace.url)


def replies(workspace: Workspace, arguments: Arguments) -> Answer:
    """A thread, oldest first, its root included."""
    channel, ts = str(arguments.get("channel")), str(arguments.get("ts"))
    if channel not in workspace.channels.values():
        return refused("channel_not_found")
    found = [
        each
        for each in workspace.messages
        if each.channel == channel and ts in (each.ts if each.thread_ts is None else each.thread_ts,)
    ]
    return _page(found, arguments, workspace.url) if found else refused("thread_not_found")


def _page(found: Sequence[Posted], arguments: Arguments, url: str) -> Answer:
    start, limit = int(arguments.get("cursor") or 0), int(arguments.get("limit") or 100)
    following = str(start + limit) if len(found) > start + limit else ""
    return {
        "ok": True,
        "messages": [shown(each, url) for each in found[start : start + limit]],
        "has_more": bool(following),
        "response_metadata": {"next_cursor": following},
    }


def channels(workspace: Workspace, _: Arguments) -> Answer:
    listed = [{"id": key, "name": name} for name, key in workspace.channels.items()]
    return {"ok": True, "channels": listed, "response_metadata": {"next_cursor": ""}}


def user_info(workspace: Workspace, arguments: Arguments) -> Answer:
    user = workspace.user(str(arguments.get("user")))
    if user is None:
        return refused("user_not_found")
    profile = {"real_name": user.real_name, "display_name": user.name, "email": user.email}
    told = {"id": user.id, "team_id": TEAM_ID, "name": user.name, "real_name": user.real_name}
    return {"ok": True, "user": {**told, "is_bot": False, "profile": profile}}


METHODS: Final[Mapping[str, Method]] = {
    "auth.test": auth_test,
    "bots.info": bot_info,
    "chat.postMessage": post_message,
    "chat.postEphemeral": post_ephemeral,
    "chat.update": update,
    "conversations.history": history,
    "conversations.replies": replies,
    "conversations.list": channels,
    "files.getUploadURLExternal": uploads.get_upload_url,
    "files.completeUploadExternal": uploads.complete_upload,
    "files.upload": lambda *_: refused("method_deprecated"),
    "users.info": user_info,
}
