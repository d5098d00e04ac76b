"""Publishing an agent's events and obeying control, beside the agent: synchronous and asynchronous.

    with Watchkeeper(bootstrap="127.0.0.1:9092", agent="shop", keys="trusted.json") as watchkeeper:
        with watchkeeper.session() as session:
            watchkeeper.gate.check(tool="search")
            session.tool_call("search", {"q": "shoes"}, result=rows)

In asynchronous code the same with ``async with``. Either way publishing returns at once: events wait in a
bounded spool in memory for a sender in the background (a thread with its own loop, or a task of the running
loop). While the broker is away the spool fills and then drops its oldest events, counted in ``dropped``; the
engine sees the holes in ``seq`` (``telemetry_gap``).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypedDict, Unpack

from watchkeeper_client.control import TrustedKeys, parse_budget
from watchkeeper_client.events import EVENT_SCHEMA, EVENTS_TOPIC, Budget, Session, StartFields, clip
from watchkeeper_client.gate import (
    DEFAULT_HEARD_WITHIN_MS,
    Clock,
    FailMode,
    Gate,
    Irreversible,
    monotonic_ms,
    wall_clock_ms,
)
from watchkeeper_client.outgoing import MAX_RECORD_BYTES, Record, Sender, Spool, supervise
from watchkeeper_client.spending import caps
from watchkeeper_client.subscriber import ControlSubscriber
from watchkeeper_client.trusted import TrustedKeysFile, trusted_from_env
from watchkeeper_client.wanted import EVERY, Decision, WantedState, rfc_3339

DEFAULT_SPOOL_RECORDS: Final = 10_000
DEFAULT_FLUSH_MS: Final = 5_000.0
_JOIN_MARGIN_S = 5.0
_DENIED_EVERY_MS = 1_000.0

log = logging.getLogger("watchkeeper")


class Options(TypedDict, total=False):
    """What has a default.

    ``obey=False`` only publishes. ``fail_mode``, ``heard_within_ms``: see :mod:`watchkeeper_client.gate`.
    ``hash_key`` makes every hash a keyed one; give the same to all agents that should be comparable.
    ``process`` names the process that counts ``seq``. ``kafka`` are further options of the Kafka client
    (security_protocol, ssl_context, sasl_mechanism, …). ``flush_ms`` bounds how long leaving may take.
    ``budget`` caps every session where its own budget says nothing (default: no cap); ``irreversible`` says
    what becomes of an irreversible call without an approval.
    """

    agent_version: str | None
    obey: bool
    fail_mode: FailMode
    heard_within_ms: float
    hash_key: bytes | None
    process: str | None
    kafka: Mapping[str, Any]
    spool_records: int
    flush_ms: float
    budget: Budget
    irreversible: Irreversible
    clock: Clock
    elapsed: Clock


class Watchkeeper:
    """One agent's connection: ``gate`` before calls, ``session()`` for events.

    Args:
        bootstrap: ``host:port`` of the bus, several separated by commas.
        agent, tenant: who this is.
        keys: whose commands are obeyed: TrustedKeys, a file, the parsed file, or None for
            ``WATCHKEEPER_TRUSTED_KEYS``. A file is followed: keys may be rotated while this runs.

    Raises:
        UnusableKeyError: the keys cannot be read.
        ValueError: the agent or tenant is empty or ``*``, which means every one of them; or the budget has
            a figure that is none.
    """

    def __init__(
        self,
        *,
        bootstrap: str,
        agent: str,
        tenant: str = "default",
        keys: TrustedKeys | Mapping[str, object] | Path | str | None = None,
        **options: Unpack[Options],
    ) -> None:
        if {agent, tenant} & {"", EVERY}:
            raise ValueError(f"name one agent and one tenant, not {agent!r} of {tenant!r}")
        self.agent = agent
        self.tenant = tenant
        self._options = options
        self._obeys = options.get("obey", True)
        self._clock = options.get("clock", wall_clock_ms)
        self._kafka = {**options.get("kafka", {}), "bootstrap_servers": bootstrap}
        self.process = options.get("process") or f"{os.getpid()}-{secrets.token_hex(6)}"
        self._spool = Spool(options.get("spool_records", DEFAULT_SPOOL_RECORDS))
        self._flush_s = options.get("flush_ms", DEFAULT_FLUSH_MS) / 1000
        self._seq = 0
        self._emit_lock = threading.Lock()
        self._state = WantedState(
            _trusted(keys) if self._obeys else TrustedKeys({}),
            enforcement_point=f"client:{self.process}",
            agent=agent,
        )
        self.gate = Gate(
            self._state,
            agent=agent,
            tenant=tenant,
            fail_mode=options.get("fail_mode", "open"),
            heard_within_ms=options.get("heard_within_ms", DEFAULT_HEARD_WITHIN_MS),
            clock=self._clock,
            elapsed=options.get("elapsed", monotonic_ms),
            on_denied=self._report_denied,
            budget=parse_budget(options["budget"]) if "budget" in options else None,
            irreversible=options.get("irreversible", "deny"),
        )
        self._denied_calls = 0
        self._denied_last: tuple[str | None, str | None, str | None] | None = None
        self._denied_at_ms = 0.0
        self._heard_once = threading.Event()
        self._background: _Background | None = None

    @property
    def dropped(self) -> int:
        """How many events and acknowledgements were given up for want of a broker."""
        return self._spool.dropped

    def session(self, session: str | None = None, **start: Unpack[StartFields]) -> Session:
        """A session (default: with a new id); ``start`` is what ``session.start`` says when it is entered."""
        name = str(clip(session or f"{self.agent[:200]}-{secrets.token_hex(8)}"))
        return Session(name, self.emit, hash_key=self._options.get("hash_key"), start=start)

    def wait_heard(self, timeout_s: float = 10.0) -> bool:
        """Waits until control has been read to its end for the first time; False when it was not in time."""
        return self._heard_once.wait(timeout_s)

    async def wait_heard_async(self, timeout_s: float = 10.0) -> bool:
        """:meth:`wait_heard` without blocking the loop."""
        return await asyncio.to_thread(self._heard_once.wait, timeout_s)

    def __enter__(self) -> Self:
        self._background = background = _Background(self._serve)
        background.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._background is not None:
            self._background.stop(self._flush_s + _JOIN_MARGIN_S)
            self._background = None

    async def __aenter__(self) -> Self:
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._serve(self._stopping))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        await self._task

    def emit(self, session: str, type_: str, fields: Mapping[str, object]) -> str:
        """Spools an event whose fields are already hashes and figures; ``time_ms`` says when, if not now.

        ``session()`` is the way for content: it hashes beside the agent. Returns the event's id.
        """
        self._keep_account(session, type_, fields)
        time_ms = fields.get("time_ms")
        event: dict[str, object] = {
            "schema": EVENT_SCHEMA,
            "type": type_,
            "time": rfc_3339(time_ms if isinstance(time_ms, (int, float)) else self._clock()),
            "agent": clip(self.agent),
            "session": session,
            "tenant": clip(self.tenant),
            "process": clip(self.process),
            **{name: value for name, value in fields.items() if name != "time_ms"},
        }
        version = self._options.get("agent_version")
        if version:
            event["agent_version"] = clip(version)
        # seq, and so the order on the bus, is the order of the calls.
        with self._emit_lock:
            seq = self._seq
            self._seq += 1
            event["seq"] = seq
            event_id = event["event_id"] = f"{self.process[-200:]}-{seq}"
            value = json.dumps(event, ensure_ascii=False, separators=(",", ":"), default=_type_name).encode()
            if len(value) > MAX_RECORD_BYTES:
                self._spool.drop()
            else:
                self._spool.put(Record(EVENTS_TOPIC, session.encode(), value))
        return event_id

    def _keep_account(self, session: str, type_: str, fields: Mapping[str, object]) -> None:
        """The gate learns a session's caps and what its model calls used from the events themselves."""
        if type_ == "llm.call":
            tokens, cost_usd = 0, fields.get("cost_usd")
            for used in (fields.get("input_tokens"), fields.get("output_tokens")):
                tokens += used if isinstance(used, int) else 0
            self.gate.report(
                session, tokens=tokens, cost_usd=cost_usd if isinstance(cost_usd, (int, float)) else 0.0
            )
        elif type_ == "session.start" and isinstance(budget := fields.get("budget"), Mapping):
            self.gate.cap(session, caps(budget))

    def _heard(self, age_ms: float) -> None:
        self.gate.heard(age_ms)
        self._heard_once.set()

    def _report_denied(self, decision: Decision, tool: str | None, session: str | None) -> None:
        """As a heartbeat: the agent did nothing, and that is what is to be seen.

        An agent that tries again at once is reported once a second, with the number of its denied calls.
        """
        self._denied_calls += 1
        what, now_ms = (session, tool, decision.command_id), self._clock()
        repeated = what == self._denied_last and now_ms - self._denied_at_ms < _DENIED_EVERY_MS
        if session is None or repeated:
            return
        self._denied_last, self._denied_at_ms = what, now_ms
        attributes: dict[str, str | bool | int | float] = {
            "watchkeeper.denied": decision.denied or "",
            "watchkeeper.denied_calls": self._denied_calls,
            "watchkeeper.tool": tool or "",
        }
        if decision.command_id is not None:
            attributes["watchkeeper.command"] = decision.command_id
        Session(session, self.emit).heartbeat(attributes=attributes)

    async def _serve(self, stopping: asyncio.Event) -> None:
        sender = Sender(self._spool, self._kafka)
        sending = asyncio.create_task(supervise("publishing", sender.run))
        hearing: asyncio.Task[None] | None = None
        if self._obeys:
            subscriber = ControlSubscriber(
                self._state,
                self._kafka,
                send=self._spool.put_urgent,
                agent=self.agent,
                tenant=self.tenant,
                on_heard=self._heard,
                clock=self._clock,
            )
            hearing = asyncio.create_task(supervise("hearing control", subscriber.run))
        try:
            await stopping.wait()
        finally:
            jobs = {sending}
            if hearing is not None:
                hearing.cancel()
                jobs.add(hearing)
            sender.stop()
            await asyncio.wait({sending}, timeout=self._flush_s)
            sending.cancel()
            await asyncio.wait(jobs)
            self._spool.give_up()
            if self._spool.dropped:
                log.warning("%d events and acknowledgements could not be sent", self._spool.dropped)


class _Background:
    """A thread with its own event loop, for synchronous code."""

    def __init__(self, serve: Callable[[asyncio.Event], Any]) -> None:
        self._serve = serve
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        # A daemon, so that an agent that is never left properly still ends.
        self._thread = threading.Thread(target=self._run, name="watchkeeper", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def stop(self, timeout_s: float) -> None:
        if self._loop is not None and self._stopping is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._ready.set()
        await self._serve(self._stopping)


def _trusted(keys: TrustedKeys | Mapping[str, object] | Path | str | None) -> TrustedKeys:
    if isinstance(keys, TrustedKeys):
        return keys
    if keys is None:
        return trusted_from_env()
    return TrustedKeysFile(keys) if isinstance(keys, (str, Path)) else TrustedKeys.from_mapping(keys)


def _type_name(value: object) -> str:
    return f"<{type(value).__qualname__}>"
