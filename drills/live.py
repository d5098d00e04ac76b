"""Plays drills against a running engine over its bus: real clients publish, real gates stop them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from drills.done import Done
from drills.outside import Outside
from drills.proof import Log, Proof, complete, proofs
from drills.score import Score, Seen, found_all, score
from drills.script import Act, Drill, Script, Verdict
from schemas.base import epoch_ms
from schemas.control import CONTROL, EVERY_AGENT, Target
from schemas.detection import DETECTION
from schemas.incident import INCIDENT_EVENT
from schemas.topics import CONTROL as CONTROL_TOPIC
from schemas.topics import DETECTIONS, INCIDENTS
from watchkeeper_client import Watchkeeper
from watchkeeper_client.gate import CallFields

# aiokafka has no types.
_Consumer: Any = AIOKafkaConsumer

_HEAR_TIMEOUT_S = 15.0
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Bus:
    """Where the engine is: its broker, the public keys its commands are signed with, and the address of its
    HTTP API.
    """

    bootstrap: str
    trusted_keys: Path
    kafka: Mapping[str, Any] = field(default_factory=dict)
    http: str | None = None


class Watch:
    """Reads detections, commands and the logs of incidents as they appear, by tenant."""

    def __init__(self, bus: Bus, on_seen: Callable[[str, Seen], None] = lambda _tenant, _seen: None) -> None:
        self._bus = bus
        self._on_seen = on_seen
        self.seen: dict[str, list[Seen]] = {}
        self.ordered_ms: dict[tuple[str, str], float] = {}
        """When an agent of a tenant was first commanded."""
        self.ordered: dict[str, list[Target]] = {}
        """Whom the commands of a tenant were for."""
        self.log = Log()

    async def __aenter__(self) -> Watch:
        # Without a group it has all partitions, from their beginning.
        self._consumer = _Consumer(
            DETECTIONS,
            CONTROL_TOPIC,
            INCIDENTS,
            bootstrap_servers=self._bus.bootstrap,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            **self._bus.kafka,
        )
        try:
            await self._consumer.start()
        except KafkaError:
            await self._consumer.stop()
            raise
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._consumer.stop()

    async def _read(self) -> None:
        async for record in self._consumer:
            if record.value is None:
                continue
            if record.topic == CONTROL_TOPIC:
                command = CONTROL.validate_json(record.value)
                issued_ms = float(epoch_ms(command.issued_at))
                target = command.target
                self.ordered_ms.setdefault((target.tenant, target.agent), issued_ms)
                self.ordered.setdefault(target.tenant, []).append(target)
            elif record.topic == INCIDENTS:
                self.log.take(INCIDENT_EVENT.validate_json(record.value))
            else:
                self._found(record.value)

    def _found(self, value: bytes) -> None:
        found = DETECTION.validate_json(value)
        if found.severity != "info":
            seen = Seen(found.detector, found.agent, epoch_ms(found.time), _wall_ms(), found.summary)
            self.seen.setdefault(found.tenant, []).append(seen)
            self._on_seen(found.tenant, seen)


class Actors:
    """The agents of one drill: each has a client of its own, made when it first acts. ``outside`` is asked
    where a proxy asks; those that do not obey only publish.
    """

    def __init__(self, bus: Bus, tenant: str, outside: Outside | None = None, *, obeys: bool = True) -> None:
        self._bus = bus
        self._tenant = tenant
        self._outside = outside
        self._obeys = obeys
        self._clients: dict[str, Watchkeeper] = {}
        self._exits = contextlib.AsyncExitStack()
        self.stopped_ms: dict[str, float] = {}
        """Wall clock at which an agent's gate first held it back."""

    async def __aenter__(self) -> Actors:
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._exits.__aexit__(*error)

    @property
    def names(self) -> frozenset[str]:
        """Those who have acted."""
        return frozenset(self._clients)

    async def client(self, agent: str) -> Watchkeeper:
        """The agent's client, once it hears control."""
        if agent not in self._clients:
            client = Watchkeeper(
                bootstrap=self._bus.bootstrap,
                agent=agent,
                tenant=self._tenant,
                keys=self._bus.trusted_keys,
                kafka=self._bus.kafka,
                obey=self._obeys,
            )
            await self._exits.enter_async_context(client)
            if self._obeys:
                await client.wait_heard_async(_HEAR_TIMEOUT_S)
            self._clients[agent] = client
        return self._clients[agent]

    async def perform(self, act: Act) -> tuple[Verdict, Done]:
        """Asks the gate, or outside, then does it."""
        client = await self.client(act.agent)
        verdict = Verdict(allowed=True)
        tried_ms = float(int(_wall_ms()))  # what an event's time can say; the gate reports what it denies
        if act.gated:
            decision = client.gate.allowed(session=act.session, **_call_of(act))
            verdict = Verdict(allowed=decision.allowed, ladder=decision.ladder)
            if not decision.allowed or decision.ladder != "full":
                self.stopped_ms.setdefault(act.agent, _wall_ms())
        if act.outside and self._outside is not None:
            tool = act.fields.get("tool")
            verdict = Verdict(await self._outside.allowed(self._tenant, act.agent, act.session, tool))
            if not verdict.allowed:
                self.stopped_ms.setdefault(act.agent, _wall_ms())
        if not verdict.allowed:
            return verdict, Done(act, "", tried_ms, tried_ms, denied=True)
        now_ms = float(int(_wall_ms()))
        event_id = client.emit(act.session, act.type, {**act.fields, "time_ms": now_ms})
        return replace(verdict, event_id=event_id), Done(act, event_id, now_ms, now_ms)


async def play(
    drill: Drill,
    bus: Bus,
    watch: Watch,
    *,
    seed: int,
    run: str,
    tenant: str,
    on_done: Callable[[Done], None] | None = None,
) -> Score:
    """Plays one drill. A tenant of its own keeps it out of every other drill's incidents and score."""
    done: list[Done] = []
    deadline = time.monotonic() + drill.seconds
    outside = Outside(bus.http if drill.proof is not None else None)

    def seen_of(actors: Actors) -> list[Seen]:
        known = actors.names | {EVERY_AGENT}
        return [entry for entry in watch.seen.get(tenant, ()) if entry.agent in known]

    def proved() -> tuple[Proof, ...]:
        return proofs(watch.log.incidents(tenant), done, outside.denied_at)

    async with outside, Actors(bus, tenant, outside, obeys=drill.obeys) as actors:

        def settled() -> bool:
            for target in watch.ordered.get(tenant, ()):
                outside.watch(target)
            if not found_all(drill, seen_of(actors)):
                return False
            if drill.contained and _all_stopped(done, actors) is None:
                return False
            return drill.proof is None or complete(proved(), drill.proof)

        async for entry in _acts(drill.make(random.Random(seed), run), actors, drill.speed):
            done.append(entry)
            if on_done is not None and not entry.denied:
                on_done(entry)
            if time.monotonic() > deadline or (settled() and not drill.contained):
                break
        while not settled() and time.monotonic() < deadline:  # noqa: ASYNC110  two readers settle it
            await asyncio.sleep(_POLL_S)
        stopped_ms = _all_stopped(done, actors)
        ordered = [watch.ordered_ms.get((tenant, name)) for name in actors.names]
    return score(
        drill,
        done,
        seen_of(actors),
        ordered_ms=min((at for at in ordered if at is not None), default=None),
        stopped_ms=stopped_ms if drill.contained else None,
        proof=proved(),
        asked=bus.http,
    )


async def _acts(script: Script, actors: Actors, speed: float) -> AsyncIterator[Done]:
    """The acts that happen or are denied, at so many times the pace the script gives."""
    due = time.monotonic()
    try:
        act = next(script)
        while True:
            due = max(due + act.pause_ms / 1000 / speed, time.monotonic())
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            verdict, done = await actors.perform(act)
            yield done
            act = script.send(verdict)
    except StopIteration:
        return
    finally:
        script.close()


def _call_of(act: Act) -> CallFields:
    """What the gate is told of an act."""
    names = ("tool", "effect", "targets", "approval", "irreversible")
    known = {name: act.fields[name] for name in names if act.fields.get(name) is not None}
    return cast("CallFields", known)


def _all_stopped(done: list[Done], actors: Actors) -> float | None:
    """When the last of the agents that did or tried something faulty was held back; None while one is not."""
    agents = {entry.act.agent for entry in done if entry.act.faulty}
    if not agents or not agents <= actors.stopped_ms.keys():
        return None
    return max(actors.stopped_ms[agent] for agent in agents)


def _wall_ms() -> float:
    return time.time() * 1000
