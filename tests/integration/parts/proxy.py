"""A TCP proxy on loopback that delays, holds and cuts; `kafka_proxy` adds what needs Kafka's protocol.

It runs an event loop in a thread of its own: a test stays plain code and can cut the wire at any point:

    with TcpProxy(postgres.address) as proxy:
        engine = create_engine(postgres.url(database, via=proxy.address))
        proxy.cut()
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.integration.parts.ports import LOOPBACK, free_port, split_address
from tests.integration.parts.process import PartError

T = TypeVar("T")

_CHUNK_BYTES = 65_536
_CALL_TIMEOUT_S = 10.0
_CONNECT_TIMEOUT_S = 5.0
# How long a target may take to read the last bytes of a client that has left.
_FAREWELL_TIMEOUT_S = 2.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Parcel:
    """Bytes on their way, and how long they still take."""

    payload: bytes
    delay_s: float = 0.0
    # False: should the client leave first, they are lost, as when its machine died before it sent them.
    # True: they arrive late, when their sender is gone.
    outlives_client: bool = False


class Lane:
    """One way of a connection: what arrives waits here, in order, until it is due and the wire is open."""

    def __init__(
        self, writer: asyncio.StreamWriter, wire_open: asyncio.Event, client_left: asyncio.Event
    ) -> None:
        self._writer = writer
        self._wire_open = wire_open
        self._client_left = client_left
        self._queue: asyncio.Queue[tuple[Parcel, float] | None] = asyncio.Queue()

    def put(self, parcel: Parcel) -> None:
        self._queue.put_nowait((parcel, asyncio.get_running_loop().time() + parcel.delay_s))

    def end(self) -> None:
        """Nothing more comes; `run` returns once what waits has gone out."""
        self._queue.put_nowait(None)

    async def run(self) -> bool:
        """True when everything has gone out, False when something was lost."""
        while (entry := await self._queue.get()) is not None:
            parcel, due = entry
            if not await self._passed(parcel, due):
                return False
            try:
                self._writer.write(parcel.payload)
                await self._writer.drain()
            except ConnectionError:
                return False
        return True

    async def _passed(self, parcel: Parcel, due: float) -> bool:
        """Waits for its turn; False when the client left first and takes the bytes with it."""
        if due <= asyncio.get_running_loop().time() and self._wire_open.is_set():
            return True
        turn = asyncio.create_task(self._turn(due))
        if parcel.outlives_client:
            await turn
            return True
        left = asyncio.create_task(self._client_left.wait())
        try:
            await asyncio.wait({turn, left}, return_when=asyncio.FIRST_COMPLETED)
            return turn.done()
        finally:
            turn.cancel()
            left.cancel()

    async def _turn(self, due: float) -> None:
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        await self._wire_open.wait()


class Link:
    """A client's connection and its twin to the target. Subclasses look into what passes."""

    def __init__(self, proxy: TcpProxy, number: int) -> None:
        self.proxy = proxy
        self.number = number
        self.client_left = asyncio.Event()
        self.up: Lane
        self.down: Lane
        self._writers: list[asyncio.StreamWriter] = []

    async def read_unit(self, reader: asyncio.StreamReader) -> bytes:
        """The next piece to judge as a whole; empty at the end."""
        return await reader.read(_CHUNK_BYTES)

    async def from_client(self, unit: bytes) -> None:
        self.up.put(Parcel(unit, self.proxy.latency_ms / 1000))

    async def from_target(self, unit: bytes) -> None:
        self.down.put(Parcel(unit, self.proxy.latency_ms / 1000))

    async def run(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self._writers.append(to_client)
        try:
            connecting = asyncio.open_connection(*split_address(self.proxy.target))
            from_target, to_target = await asyncio.wait_for(connecting, _CONNECT_TIMEOUT_S)
        except (OSError, TimeoutError):
            self.reset()
            return
        self._writers.append(to_target)
        self.up = Lane(to_target, self.proxy.wire_open, self.client_left)
        self.down = Lane(to_client, self.proxy.wire_open, self.client_left)
        tasks = [
            asyncio.create_task(self.up.run()),
            asyncio.create_task(self.down.run()),
            asyncio.create_task(self._read(from_client, self.from_client, self._client_ended)),
            asyncio.create_task(self._read(from_target, self.from_target, self.down.end)),
        ]
        up, down, _, target_reader = tasks
        delivered = False
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            delivered = all(lane.result() for lane in (up, down) if lane.done())
            if delivered and up.done():
                # A reset now could overtake the last request.
                to_target.write_eof()
                await asyncio.wait({target_reader}, timeout=_FAREWELL_TIMEOUT_S)
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            failures = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
            if delivered and not failures:
                self._close()
            else:
                self.reset()
        if failures:
            raise failures[0]

    def reset(self) -> None:
        """Both ends see a broken connection, whatever was under way."""
        for writer in self._writers:
            raw = writer.get_extra_info("socket")
            if raw is not None and raw.fileno() >= 0:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()

    def _close(self) -> None:
        for writer in self._writers:
            writer.close()

    async def _read(
        self,
        reader: asyncio.StreamReader,
        handle: Callable[[bytes], Awaitable[None]],
        ended: Callable[[], None],
    ) -> None:
        try:
            while unit := await self.read_unit(reader):
                await handle(unit)
        except ConnectionError:
            pass  # a reset is an end like any other
        finally:
            ended()

    def _client_ended(self) -> None:
        self.client_left.set()
        self.up.end()


class TcpProxy:
    """Clients connect to `address`; everything goes to `target`, host:port, read at every connection."""

    link_type: type[Link] = Link

    def __init__(self, target: str, *, port: int | None = None) -> None:
        self.target = target
        self.port = free_port() if port is None else port
        self.latency_ms = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)
        self.wire_open = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._links: dict[Link, asyncio.Task[None]] = {}
        self._accepted = 0
        self._failures: list[Exception] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def connections(self) -> int:
        return len(self._links)

    @property
    def accepted(self) -> int:
        """Connections since the start."""
        return self._accepted

    def start(self) -> None:
        self._thread.start()
        self._call(self._open())

    def stop(self) -> None:
        """Ends every connection; PartError when the proxy met something it could not judge."""
        if not self._thread.is_alive():
            return
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CALL_TIMEOUT_S)
        self._loop.close()
        if self._failures:
            raise PartError(
                f"the proxy failed {len(self._failures)} times, first: {self._failures[0]!r}"
            ) from (self._failures[0])

    def drop_connections(self) -> None:
        """Resets every open connection, once; new ones are welcome. What was held is lost."""
        self._call(self._drop())

    def cut(self) -> None:
        """Resets every open connection and refuses new ones until `heal`."""
        self._call(self._shut())

    def black_hole(self) -> None:
        """Nothing passes and nobody is told, until `heal`; connections stay open, new ones are accepted."""
        self._loop.call_soon_threadsafe(self.wire_open.clear)

    def heal(self) -> None:
        """After `cut` or `black_hole`; what clients that are still there had sent goes on its way."""
        self._call(self._open())

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_TIMEOUT_S)

    async def _open(self) -> None:
        self.wire_open.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port)

    async def _shut(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        await self._drop()

    async def _drop(self) -> None:
        links = dict(self._links)
        for link, task in links.items():
            link.reset()
            task.cancel()
        await asyncio.gather(*links.values(), return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted += 1
        link = self.link_type(self, self._accepted)
        task = asyncio.current_task()
        if task is None:
            raise PartError("a connection is served outside of a task")
        self._links[link] = task
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await link.run(reader, writer)
        except Exception as failure:  # noqa: BLE001 - kept for stop(), which raises it on the test's own thread
            self._failures.append(failure)
        finally:
            del self._links[link]
