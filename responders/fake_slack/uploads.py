"""Files, the way Slack takes them since `files.upload` ended: ask for an address, POST the bytes there, then
say which files belong to which message.

Where Slack documents nothing this is the harsher: a file that is completed twice is shown twice, and bytes
of another length than announced are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from responders.fake_slack.workspace import File, Posted, Workspace, shown_file


def get_upload_url(workspace: Workspace, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`files.getUploadURLExternal`."""
    name, length = str(arguments.get("filename") or ""), str(arguments.get("length") or "")
    if not name or not length.isdecimal() or int(length) == 0:
        return {"ok": False, "error": "invalid_arguments"}
    alt_text = str(arguments.get("alt_txt") or "")
    file = File(workspace.next_id("F"), name, name, int(length), alt_text)
    workspace.files.append(file)
    return {"ok": True, "upload_url": f"{workspace.url}/upload/v1/{file.id}", "file_id": file.id}


def receive(workspace: Workspace, file_id: str, content: bytes) -> tuple[int, str]:
    """Takes the bytes of a file that was announced: the HTTP status and text to answer."""
    file = workspace.file(file_id)
    if file is None or file.shares:
        return 404, "no such upload"
    if len(content) != file.length:
        return 400, f"{len(content)} bytes, announced were {file.length}"
    file.content = content
    return 200, f"OK - {len(content)}"


def complete_upload(workspace: Workspace, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`files.completeUploadExternal`: one message with all the files, in a thread where one is named."""
    named = arguments.get("files")
    try:
        wanted = json.loads(named) if isinstance(named, str) else named
        files = [(workspace.file(each["id"]), each.get("title")) for each in wanted or ()]
    except (ValueError, TypeError, KeyError, AttributeError):
        return {"ok": False, "error": "invalid_arguments"}
    if not files:
        return {"ok": False, "error": "invalid_arguments"}
    held = [file for file, _ in files if file is not None and file.content is not None]
    if len(held) != len(files):
        return {"ok": False, "error": "file_not_found"}
    channel = arguments.get("channel_id") or arguments.get("channels")
    thread = arguments.get("thread_ts") or None
    if channel is not None and channel not in workspace.channels.values():
        return {"ok": False, "error": "channel_not_found"}
    if channel is not None and thread is not None and workspace.message(str(channel), str(thread)) is None:
        return {"ok": False, "error": "thread_not_found"}
    for file, (_, title) in zip(held, files, strict=True):
        file.title = str(title or file.name)
    if channel is not None:  # without one the files stay private
        text = str(arguments.get("initial_comment") or "")
        ts = workspace.next_ts()
        for file in held:
            file.shares.append(ts)
        workspace.post(Posted(str(channel), ts, text, [], None, thread, files=held))
    return {"ok": True, "files": [shown_file(file, workspace.url) for file in held]}
