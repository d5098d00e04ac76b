"""Socket Mode: connections the app opens, and envelopes that it acknowledges over them.

Slack sends an envelope over any one of an app's connections (ten at most) and waits three seconds for its
acknowledgement. For events it documents that it sends again; for what people press and type it documents only
that the person is shown a failure, and there are reports of one envelope that arrived twice. An app has to
live with both, so both are here: ``resends`` counts how often an envelope goes out again, to another
connection where there is one, under its own id; at 0 it is lost and the person is told. An acknowledgement
counts over a connection that the envelope was sent over, and over no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Literal

from aiohttp import WSMsgType, web

from responders.fake_slack.workspace import APP_ID

Kind = Literal["interactive", "slash_commands"]
DisconnectReason = Literal["warning", "refresh_requested", "link_disabled", "too_many_websockets"]

MAX_CONNECTIONS: Final = 10
ACKNOWLEDGE_WITHIN_S: Final = 3.0
GRACE_S: Final = 10.0


class SocketFault(Enum):
    """What can go wrong with an envelope.

    DROP cuts the connection as soon as the envelope is written, before an acknowledgement is heard. TWICE
    delivers a copy, to another connection where there is one. LATE delivers after `SocketMode.late_s`.
    """

    DROP = auto()
    TWICE = auto()
    LATE = auto()


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of what a person did: whether the app took it in time, and what it said at once.

    ``sent`` counts how often it was sent to the app. ``error`` is what Slack tells the person otherwise.
    """

    acknowledged: bool
    sent: int
    error: str | None = None
    response: Any = None


@dataclass(eq=False, slots=True)
class Connection:
    """One web socket, and the envelopes sent over it. ``deaf`` is set when what it says no longer counts."""

    socket: web.WebSocketResponse
    sent: set[str] = field(default_factory=set)
    deaf: bool = False


@dataclass(eq=False)
class SocketMode:
    """The connections of the app, and what was sent over them."""

    resends: int = 2
    acknowledge_within_s: float = ACKNOWLEDGE_WITHIN_S
    grace_s: float = GRACE_S
    """From a message that says so to the end of a connection."""
    late_s: float = 1.0
    answer_pings: bool = True
    """False for new connections that look open and are not."""
    connections: list[Connection] = field(default_factory=list)
    envelopes: list[dict[str, Any]] = field(default_factory=list)
    """All that was sent, repetitions included."""
    acknowledged: list[str] = field(default_factory=list)
    """The envelope ids of the acknowledgements that were heard."""
    _faults: deque[SocketFault] = field(default_factory=deque)
    _tickets: set[str] = field(default_factory=set)
    _waiting: dict[str, asyncio.Future[Any]] = field(default_factory=dict)
    _opened: asyncio.Event = field(default_factory=asyncio.Event)
    _closing: set[asyncio.Task[None]] = field(default_factory=set)

    def fail(self, *faults: SocketFault) -> None:
        """The next envelopes meet ``faults``, one each."""
        self._faults.extend(faults)

    def open(self, url: str) -> dict[str, Any]:
        """`apps.connections.open`: an address that is good for one connection."""
        ticket = str(uuid.uuid4())
        self._tickets.add(ticket)
        return {"ok": True, "url": f"{url.replace('http', 'ws', 1)}/link/?ticket={ticket}&app_id={APP_ID}"}

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """A connection from its hello to its end."""
        ticket = request.query.get("ticket", "")
        if ticket not in self._tickets:
            return web.Response(status=404, text="no such ticket")
        self._tickets.remove(ticket)
        socket = web.WebSocketResponse(autoping=self.answer_pings)
        await socket.prepare(request)
        if len(self.connections) >= MAX_CONNECTIONS:
            await socket.send_json(_goodbye("too_many_websockets"))
            await socket.close()
            return socket
        connection = Connection(socket)
        self.connections.append(connection)
        await socket.send_json(
            {
                "type": "hello",
                "connection_info": {"app_id": APP_ID},
                "num_connections": len(self.connections),
                "debug_info": {"host": "fake", "build_number": 1, "approximate_connection_time": 18_060},
            }
        )
        self._opened.set()
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT and not connection.deaf:
                    self._hear(message.data, connection)
        finally:
            self._forget(connection)
        return socket

    async def disconnect(self, reason: DisconnectReason = "refresh_requested") -> None:
        """Tells every connection that it ends; it does ``grace_s`` later, unless the app is quicker."""
        for connection in tuple(self.connections):
            with contextlib.suppress(ConnectionError):
                await connection.socket.send_json(_goodbye(reason))
            task = asyncio.ensure_future(self._end(connection, self.grace_s))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def drop(self) -> None:
        """Cuts every connection without a word."""
        for connection in tuple(self.connections):
            await self._end(connection, 0)

    async def stop(self) -> None:
        for task in tuple(self._closing):
            task.cancel()
        await self.drop()

    async def deliver(self, kind: Kind, payload: Mapping[str, Any]) -> Heard:
        """Sends what a person did; returns when it is acknowledged or given up."""
        envelope_id = str(uuid.uuid4())
        waiting: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[envelope_id] = waiting
        sent, last = 0, None
        try:
            for attempt in range(self.resends + 1):
                connection = await self._other_than(last)
                if connection is None:
                    break
                envelope = {
                    "envelope_id": envelope_id,
                    "type": kind,
                    "payload": payload,
                    "accepts_response_payload": kind == "slash_commands",
                    **({"retry_attempt": attempt, "retry_reason": "timeout"} if attempt else {}),
                }
                sent += await self._send(envelope, connection)
                last = connection
                with contextlib.suppress(TimeoutError):
                    response = await asyncio.wait_for(asyncio.shield(waiting), self.acknowledge_within_s)
                    return Heard(True, sent, response=response)
        finally:
            del self._waiting[envelope_id]
        return Heard(False, sent, "operation_timeout" if sent else "dispatch_failed")

    async def _send(self, envelope: dict[str, Any], connection: Connection) -> int:
        fault = self._faults.popleft() if self._faults else None
        if fault is SocketFault.LATE:
            await asyncio.sleep(self.late_s)
        targets = [connection]
        if fault is SocketFault.TWICE:
            targets.append(next((each for each in self.connections if each is not connection), connection))
        for target in targets:
            self.envelopes.append(envelope)
            target.sent.add(envelope["envelope_id"])
            target.deaf = target.deaf or fault is SocketFault.DROP
            with contextlib.suppress(ConnectionError):
                await target.socket.send_json(envelope)
        if fault is SocketFault.DROP:
            await self._end(connection, 0)
        return len(targets)

    async def _other_than(self, last: Connection | None) -> Connection | None:
        """The next connection in turn, rather not the last one; None when there is none in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.acknowledge_within_s):
                while not self.connections:
                    self._opened.clear()
                    await self._opened.wait()
        chosen = next((each for each in self.connections if each is not last), None)
        if chosen is None:
            return self.connections[0] if self.connections else None
        self.connections.remove(chosen)
        self.connections.append(chosen)
        return chosen

    def _hear(self, text: str, connection: Connection) -> None:
        try:
            answer = json.loads(text)
        except ValueError:
            return  # the SDK also sends text that is no envelope
        envelope_id = answer.get("envelope_id") if isinstance(answer, dict) else None
        if isinstance(envelope_id, str) and envelope_id in connection.sent:
            self.acknowledged.append(envelope_id)
            waiting = self._waiting.get(envelope_id)
            if waiting is not None and not waiting.done():
                waiting.set_result(answer.get("payload"))

    async def _end(self, connection: Connection, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self._forget(connection)
        await connection.socket.close()

    def _forget(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.remove(connection)


def _goodbye(reason: DisconnectReason) -> dict[str, Any]:
    return {"type": "disconnect", "reason": reason, "debug_info": {"host": "fake"}}
