"""A picture in the thread of a page: uploaded as Slack has it, an address first, the bytes, then the message.

A file is known again by its name, which is that of its page: after an answer that leaves open whether it
arrived, the thread is searched for it first.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from responders.effects import Delivered, Outcome, Permanent, Retryable
from responders.picture.pictures import Picture
from responders.slack.web_api import Answer, WebApi

_THREAD_LOOK: Final = 200
_TITLE_CHARS: Final = 250


async def show(api: WebApi, conversation: str, thread: str, picture: Picture, in_doubt: bool) -> Outcome:
    """Put the picture under the page, once."""
    name = file_name(picture)
    if in_doubt:
        answer = await api.call(
            "conversations.replies", {"channel": conversation, "ts": thread, "limit": _THREAD_LOOK}, form=True
        )
        if isinstance(answer, Retryable):
            return Retryable(answer.reason, answer.after_ms, in_doubt=True)
        if _has_file(answer, name):
            return Delivered(conversation, thread)
    return await _upload(api, conversation, thread, picture, name)


def file_name(picture: Picture) -> str:
    """The same for the same page.

    >>> file_name(Picture("picture:INC-1:opened:slack:#incidents", "billing loops", b""))
    'signal-a57b69a7d5.png'
    """
    return f"signal-{hashlib.sha256(picture.key.encode()).hexdigest()[:10]}.png"


async def _upload(api: WebApi, conversation: str, thread: str, picture: Picture, name: str) -> Outcome:
    title = picture.title[:_TITLE_CHARS]
    place = await api.call(
        "files.getUploadURLExternal",
        {"filename": name, "length": len(picture.png), "alt_txt": title},
        form=True,
    )
    if isinstance(place, Retryable | Permanent):
        return place
    sent = await api.put(str(place.get("upload_url", "")), picture.png)
    if not isinstance(sent, Delivered):
        return sent
    file: dict[str, Any] = {"id": place.get("file_id"), "title": title}
    answer = await api.call(
        "files.completeUploadExternal", {"files": [file], "channel_id": conversation, "thread_ts": thread}
    )
    return answer if isinstance(answer, Retryable | Permanent) else Delivered(conversation, thread)


def _has_file(answer: Answer, name: str) -> bool:
    if isinstance(answer, Retryable | Permanent):
        return False
    files = [file for message in answer.get("messages") or () for file in message.get("files") or ()]
    return any(file.get("name") == name for file in files)
