"""What a workspace holds: people, channels, messages in order, files, and what only one person was shown."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

TEAM_ID: Final = "T0FAKE"
TEAM: Final = "Fake"
APP_ID: Final = "A0FAKE"
BOT_ID: Final = "B0FAKE"
BOT_USER: Final = "U0WATCHKEEPER"


@dataclass(frozen=True, slots=True)
class User:
    """A person of the workspace."""

    id: str
    name: str
    real_name: str
    email: str


OPERATOR: Final = User("U0OPERATOR", "olga", "Olga Operator", "olga@example.com")
VIEWER: Final = User("U0VIEWER", "victor", "Victor Viewer", "victor@example.com")


@dataclass(slots=True)
class File:
    """A file on its way or shared. ``content`` is None until its bytes have come."""

    id: str
    name: str
    title: str
    length: int
    alt_text: str = ""
    content: bytes | None = None
    shares: list[str] = field(default_factory=list)
    """The time stamps of the messages that show it."""


@dataclass(slots=True)
class Posted:
    """A message as the channel shows it now. ``edits`` counts how often it was changed, ``past`` are its
    blocks before each change; ``user`` wrote it, where it was not the app.
    """

    channel: str
    ts: str
    text: str
    blocks: list[dict[str, Any]]
    metadata: dict[str, Any] | None
    thread_ts: str | None
    edits: int = 0
    broadcast: bool = False
    files: list[File] = field(default_factory=list)
    user: str | None = None
    past: list[list[dict[str, Any]]] = field(default_factory=list)


@dataclass(slots=True)
class Ephemeral:
    """A message that ``user`` alone is shown. ``answers`` is the time stamp of the message whose button led
    to it. It is Slack's own where it is not ``from_app``.
    """

    channel: str
    user: str
    ts: str
    text: str
    blocks: list[dict[str, Any]]
    thread_ts: str | None = None
    answers: str | None = None
    from_app: bool = True


@dataclass
class Workspace:
    """The state behind the Web API. Channels by name; everything else in the order it came."""

    channels: dict[str, str] = field(default_factory=lambda: {"incidents": "C0INCIDENTS"})
    users: list[User] = field(default_factory=lambda: [OPERATOR, VIEWER])
    messages: list[Posted] = field(default_factory=list)
    ephemerals: list[Ephemeral] = field(default_factory=list)
    files: list[File] = field(default_factory=list)
    now_s: Callable[[], float] = time.time
    url: str = ""
    """Where this Slack is reached, without a slash at its end; empty until it listens."""
    revision: int = 0
    """Counts what changed, for those who watch."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _last_us: int = 0
    _ids: int = 0

    def next_ts(self) -> str:
        """Time stamps are the names of messages: unique, and later is greater."""
        self._last_us = max(int(self.now_s() * 1_000_000), self._last_us + 1)
        return f"{self._last_us // 1_000_000}.{self._last_us % 1_000_000:06}"

    def next_id(self, kind: str) -> str:
        self._ids += 1
        return f"{kind}0{self._ids:07}"

    def channel_id(self, name: object) -> str | None:
        """A channel's id from its id or its name."""
        if name in self.channels.values():
            return str(name)
        return self.channels.get(str(name).removeprefix("#"))

    def channel_name(self, channel_id: str) -> str:
        return next(name for name, known in self.channels.items() if known == channel_id)

    def message(self, channel: str, ts: str) -> Posted | None:
        return next((each for each in self.messages if (each.channel, each.ts) == (channel, ts)), None)

    def user(self, user_id: str) -> User | None:
        return next((each for each in self.users if each.id == user_id), None)

    def file(self, file_id: str) -> File | None:
        return next((each for each in self.files if each.id == file_id), None)

    def touch(self) -> None:
        """Something that is shown has changed."""
        self.revision += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def changed_since(self, revision: int) -> None:
        """Returns once more has changed than at ``revision``."""
        while self.revision <= revision:
            await self._changed.wait()

    def post(self, message: Posted) -> Posted:
        self.messages.append(message)
        self.touch()
        return message

    def edit(self, message: Posted, text: str, blocks: list[dict[str, Any]]) -> None:
        message.past.append(message.blocks)
        message.text, message.blocks = text, blocks
        message.edits += 1
        self.touch()

    def whisper(self, ephemeral: Ephemeral) -> Ephemeral:
        self.ephemerals.append(ephemeral)
        self.touch()
        return ephemeral


def shown(message: Posted, url: str) -> dict[str, Any]:
    """The message as the Web API tells it."""
    fields: dict[str, Any] = {
        "type": "message",
        "ts": message.ts,
        "text": message.text,
        "blocks": message.blocks,
    }
    if message.user is not None:
        fields["user"] = message.user
    else:
        fields |= {"user": BOT_USER, "bot_id": BOT_ID, "app_id": APP_ID, "team": TEAM_ID}
    if message.metadata is not None:
        fields["metadata"] = message.metadata
    if message.thread_ts is not None:
        fields["thread_ts"] = message.thread_ts
    if message.broadcast:
        fields["subtype"] = "thread_broadcast"
    if message.edits:
        fields["edited"] = {"user": BOT_USER, "ts": message.ts}
    if message.files:
        fields["files"] = [shown_file(each, url) for each in message.files]
    return fields


def shown_file(file: File, url: str) -> dict[str, Any]:
    """The file as the Web API tells it; its address answers on the fake."""
    return {
        "id": file.id,
        "name": file.name,
        "title": file.title,
        "alt_txt": file.alt_text,
        "size": file.length,
        "url_private": f"{url}/files/{file.id}/{file.name}",
        "permalink": f"{url}/files/{file.id}/{file.name}",
    }
