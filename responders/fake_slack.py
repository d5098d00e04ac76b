"""A Slack for tests and demonstrations: the Web API methods the responder calls, with faults on demand.

Posts are checked as Slack checks them (block limits, a text, a known channel, a good token). A fault is asked
for by method and used up once: ``slack.fail("chat.postMessage", Fault.ACCEPT_THEN_RESET)``.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from aiohttp import web

GOOD_TOKEN: Final = "xoxb-fake"  # noqa: S105 - not a secret
_LIMITS: Final = {"header": 150, "section": 3000}
_BLOCK_TYPES: Final = frozenset({"header", "section", "divider", "context", "actions", "image"})


class Fault(Enum):
    """What can go wrong with a call. The first three do nothing; the others do it all the same."""

    RATE_LIMITED = auto()
    SERVER_ERROR = auto()
    REFUSED = auto()
    ACCEPT_THEN_TIME_OUT = auto()
    ACCEPT_THEN_RESET = auto()
    ACCEPT_THEN_SERVER_ERROR = auto()


@dataclass(slots=True)
class Posted:
    """A message as the channel shows it now. ``edits`` counts how often it was changed."""

    channel: str
    ts: str
    text: str
    blocks: list[dict[str, Any]]
    metadata: dict[str, Any] | None
    thread_ts: str | None
    edits: int = 0


@dataclass(slots=True)
class FakeSlack:
    """The workspace: channels by name, messages in order, and the faults that are still to come."""

    channels: dict[str, str] = field(default_factory=lambda: {"incidents": "C0INCIDENTS"})
    messages: list[Posted] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    retry_after_s: int = 1
    refusal: str = "channel_not_found"
    hang_s: float = 30.0
    _faults: dict[str, deque[Fault]] = field(default_factory=dict)
    _runner: web.AppRunner | None = None
    _clock: int = 1_700_000_000_000_000

    def fail(self, method: str, *faults: Fault) -> None:
        """The next calls of ``method`` meet ``faults``, one each."""
        self._faults.setdefault(method, deque()).extend(faults)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen; the base URL to give to a client."""
        app = web.Application()
        app.router.add_route("*", "/api/{method}", self._serve)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        bound = self._runner.addresses[0][1]
        return f"http://{host}:{bound}/api/"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        self.calls.append(method)
        waiting = self._faults.get(method)
        fault = waiting.popleft() if waiting else None
        if fault is Fault.RATE_LIMITED:
            headers = {"Retry-After": str(self.retry_after_s)}
            return web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers=headers)
        if fault is Fault.SERVER_ERROR:
            return web.Response(status=500, text="upstream error")
        if fault is Fault.REFUSED:
            return _refused(self.refusal)
        if request.headers.get("Authorization") != f"Bearer {GOOD_TOKEN}":
            return _refused("invalid_auth")
        answer = self._answer(method, await _arguments(request))
        if fault is Fault.ACCEPT_THEN_TIME_OUT:
            await asyncio.sleep(self.hang_s)
        if fault is Fault.ACCEPT_THEN_RESET and request.transport is not None:
            request.transport.abort()
        if fault is Fault.ACCEPT_THEN_SERVER_ERROR:
            return web.Response(status=503, text="upstream error")
        return web.json_response(answer)

    def _answer(self, method: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        methods: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "auth.test": lambda _: {"ok": True, "team": "Fake", "user": "watchkeeper", "bot_id": "B0FAKE"},
            "chat.postMessage": self._post,
            "chat.update": self._update,
            "conversations.history": self._history,
            "conversations.list": self._list,
        }
        known = methods.get(method)
        return {"ok": False, "error": "unknown_method"} if known is None else known(arguments)

    def _channel_id(self, name: object) -> str | None:
        if name in self.channels.values():
            return str(name)
        return self.channels.get(str(name).removeprefix("#"))

    def _post(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        channel = self._channel_id(arguments.get("channel"))
        if channel is None:
            return {"ok": False, "error": "channel_not_found"}
        problem = problem_with(arguments)
        if problem is not None:
            return {"ok": False, "error": problem}
        thread = arguments.get("thread_ts")
        if thread is not None and self._find(channel, thread) is None:
            return {"ok": False, "error": "thread_not_found"}
        self._clock += 1_000_001
        ts = f"{self._clock // 1_000_000}.{self._clock % 1_000_000:06}"
        blocks = list(arguments.get("blocks") or [])
        message = Posted(channel, ts, arguments["text"], blocks, arguments.get("metadata"), thread)
        self.messages.append(message)
        return {"ok": True, "channel": channel, "ts": ts, "message": _shown(message)}

    def _update(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        message = self._find(str(arguments.get("channel")), str(arguments.get("ts")))
        if message is None:
            return {"ok": False, "error": "message_not_found"}
        problem = problem_with(arguments)
        if problem is not None:
            return {"ok": False, "error": problem}
        message.text, message.blocks = arguments["text"], list(arguments.get("blocks") or [])
        message.edits += 1
        return {"ok": True, "channel": message.channel, "ts": message.ts}

    def _history(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if arguments.get("channel") not in self.channels.values():  # reading takes an id, never a name
            return {"ok": False, "error": "channel_not_found"}
        page = [each for each in reversed(self.messages) if each.channel == arguments["channel"]]
        start, limit = int(arguments.get("cursor") or 0), int(arguments.get("limit") or 100)
        following = str(start + limit) if len(page) > start + limit else ""
        return {
            "ok": True,
            "messages": [_shown(each) for each in page[start : start + limit]],
            "response_metadata": {"next_cursor": following},
        }

    def _list(self, _: Mapping[str, Any]) -> dict[str, Any]:
        return {"ok": True, "channels": [{"id": key, "name": name} for name, key in self.channels.items()]}

    def _find(self, channel: str, ts: str) -> Posted | None:
        return next((each for each in self.messages if (each.channel, each.ts) == (channel, ts)), None)


def problem_with(arguments: Mapping[str, Any]) -> str | None:
    """Slack's error for a message it would not take: by its documented limits on text and blocks."""
    blocks = arguments.get("blocks") or []
    if not arguments.get("text") and not blocks:
        return "no_text"
    if len(blocks) > 50 or not all(_acceptable(block) for block in blocks):
        return "invalid_blocks"
    ids = [block["block_id"] for block in blocks if "block_id" in block]
    return "invalid_blocks" if len(ids) != len(set(ids)) else None


def _acceptable(block: Mapping[str, Any]) -> bool:
    kind = block.get("type")
    texts = [block["text"]] if "text" in block else []
    fields, elements = block.get("fields", []), block.get("elements", [])
    return (
        kind in _BLOCK_TYPES
        and len(fields) <= 10
        and len(elements) <= 10
        and all(0 < len(text.get("text", "")) <= _LIMITS.get(str(kind), 3000) for text in texts)
        and all(0 < len(each.get("text", "")) <= 2000 for each in fields)
        and (kind != "section" or bool(texts or fields))
        and (kind != "header" or (bool(texts) and texts[0].get("type") == "plain_text"))
    )


def _shown(message: Posted) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "type": "message",
        "ts": message.ts,
        "text": message.text,
        "blocks": message.blocks,
    }
    if message.metadata is not None:
        fields["metadata"] = message.metadata
    if message.thread_ts is not None:
        fields["thread_ts"] = message.thread_ts
    return fields


def _refused(error: str) -> web.Response:
    return web.json_response({"ok": False, "error": error})


async def _arguments(request: web.Request) -> Mapping[str, Any]:
    if request.content_type == "application/json":
        body: Mapping[str, Any] = await request.json()
        return body
    return dict(await request.post()) | dict(request.query)
