"""Seeded traffic of many agents in which known things go wrong: what every reliability test is run over.

The same seed and start give the same bytes. A session is told by a script of steps; sessions overlap, and the
traffic is theirs merged in order of time. `PROVOKED` is what a run over it must find.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import count, islice
from typing import Any, Final

import orjson
from aiokafka.partitioner import murmur2

from schemas.event import AGENT_EVENT, AgentEvent

EVENTS: Final = 20_000
PARTITIONS: Final = 4
SPAN_MS: Final = 3 * 3_600_000
WINDOW_MS: Final = 60_000
LATENESS_MS: Final = 2_000
PROVOKED: Final = frozenset(
    {
        "budget",
        "orphaned_session",
        "ping_pong",
        "refusal_rate",
        "retry_storm",
        "telemetry_gap",
        "tool_loop",
        "undeclared_tool",
    }
)

AGENTS: Final = tuple(f"agent-{number:02}" for number in range(12))
REFUSER: Final = "agent-that-turns"
LOSING: Final = frozenset(AGENTS[:2])
_TOOLS: Final = ("search", "read", "list_files", "send", "deploy")
# Long enough that every timer of a detector has run by the end, short of forgetting the last hour's sessions.
_CLOSING_MS: Final = 45 * 60_000

Fields = dict[str, Any]
Step = tuple[int, Fields]
"""Milliseconds since the step before, and the fields of an event."""


@dataclass(frozen=True, slots=True)
class Record:
    """One message for `agent.events`."""

    key: bytes
    value: bytes
    time_ms: int


@dataclass(frozen=True)
class Workload:
    """Records in order of event time."""

    records: tuple[Record, ...]

    @cached_property
    def events(self) -> tuple[AgentEvent, ...]:
        return tuple(AGENT_EVENT.validate_json(record.value) for record in self.records)

    @property
    def first_ms(self) -> int:
        return self.records[0].time_ms

    def __len__(self) -> int:
        return len(self.records)


def generate(seed: int, start_ms: int, *, events: int = EVENTS, losses: bool = True) -> Workload:
    """Traffic of `SPAN_MS` from `start_ms` on, and one event a partition 45 minutes later: timers have then
    run. `losses` leaves holes in the `seq` of two agents."""
    chance = random.Random(seed)
    closing = [
        {
            "type": "heartbeat",
            "agent": "closing",
            "session": name,
            "time_ms": start_ms + SPAN_MS + _CLOSING_MS,
        }
        for name in sessions_by_partition()
    ]
    told: list[Fields] = []
    for number in count():
        told += _session(chance, f"session-{number:04}", start_ms)
        if len(told) >= events:
            break
    told = sorted(told, key=lambda fields: fields["time_ms"])[: events - len(closing)] + closing
    _count_up(told, chance, losses)
    return Workload(tuple(_record(fields, f"{seed}-{place:05}") for place, fields in enumerate(told)))


def heartbeat(agent: str, session: str, time_ms: int) -> Record:
    """An event that no detector minds, one a session."""
    fields = {"type": "heartbeat", "agent": agent, "session": session, "time_ms": time_ms}
    return _record(fields, f"heartbeat-of-{session}")


def partition_of(key: bytes) -> int:
    """Where Kafka's default partitioner puts a key."""
    return int((murmur2(key) & 0x7FFFFFFF) % PARTITIONS)


def sessions_by_partition() -> list[str]:
    """A session name for each partition, in order of partition."""
    names: dict[int, str] = {}
    for name in (f"closing-{number}" for number in count()):
        names.setdefault(partition_of(name.encode()), name)
        if len(names) == PARTITIONS:
            return [names[partition] for partition in range(PARTITIONS)]
    raise AssertionError("unreachable: count() does not end")


def _session(chance: random.Random, session: str, start_ms: int) -> Iterator[Fields]:
    agent = REFUSER if chance.random() < 0.2 else chance.choice(AGENTS)
    script = chance.choices([script for script, _ in _SCRIPTS], [weight for _, weight in _SCRIPTS])[0]
    time_ms = start_ms + chance.randrange(SPAN_MS - 20 * 60_000)
    for gap_ms, fields in script(chance):
        time_ms += gap_ms
        event = {"agent": agent, "session": session, "time_ms": time_ms, **fields}
        if event["type"] == "llm.call" and event["agent"] == REFUSER:
            turned = time_ms > start_ms + 0.6 * SPAN_MS
            event["refusal"] = chance.random() < (0.35 if turned else 0.02)
        yield event


def _count_up(told: list[Fields], chance: random.Random, losses: bool) -> None:
    """`seq` per agent, in order of time, as its one process counts."""
    counters = {fields["agent"]: count() for fields in told}
    for fields in told:
        counter = counters[fields["agent"]]
        if losses and fields["agent"] in LOSING and chance.random() < 0.003:
            for _ in islice(counter, chance.randrange(1, 4)):
                pass
        fields["seq"] = next(counter)


def _record(fields: Fields, event_id: str) -> Record:
    time_ms = fields.pop("time_ms")
    seconds, rest_ms = divmod(time_ms, 1000)
    event = {"schema": "agent.event/1", "event_id": event_id, "time": _utc(seconds, rest_ms), **fields}
    return Record(fields["session"].encode(), orjson.dumps(event), time_ms)


def _utc(seconds: int, rest_ms: int) -> str:
    return f"{datetime.fromtimestamp(seconds, tz=UTC):%Y-%m-%dT%H:%M:%S}.{rest_ms:03}Z"


# --- what sessions are like ---


def _start(**fields: Any) -> Step:
    return 0, {"type": "session.start", "declared_tools": list(_TOOLS), **fields}


def _end(outcome: str = "abandoned") -> Step:
    """No session is one to learn from: when a worker hears of an agent's profile is no function of the
    events, so neither is which detections rest on it.
    """
    return 1_000, {"type": "session.end", "outcome": outcome}


def _llm(chance: random.Random, **fields: Any) -> Step:
    call = {
        "type": "llm.call",
        "provider": "acme",
        "request_model": "acme-large",
        "input_tokens": chance.randrange(200, 2_000),
        "output_tokens": chance.randrange(20, 400),
        "cost_usd": chance.randrange(1, 40) / 1_000,
        "duration_ms": float(chance.randrange(200, 4_000)),
        "refusal": chance.random() < 0.02,
        "status": "ok",
    }
    return chance.randrange(1_000, 9_000), {**call, **fields}


def _tool(chance: random.Random, **fields: Any) -> Step:
    call = {
        "type": "tool.call",
        "tool": chance.choice(_TOOLS),
        "arguments_hash": f"{chance.getrandbits(64):016x}",
        "result_hash": f"{chance.getrandbits(64):016x}",
        "duration_ms": float(chance.randrange(5, 900)),
        "status": "ok",
    }
    return chance.randrange(500, 5_000), {**call, **fields}


def _work(chance: random.Random, turns: int) -> Iterator[Step]:
    for _ in range(turns):
        yield _llm(chance)
        yield _tool(chance)


def _healthy(chance: random.Random) -> Iterator[Step]:
    yield _start()
    yield from _work(chance, chance.randrange(4, 15))
    yield _end()


def _loops(chance: random.Random) -> Iterator[Step]:
    yield _start()
    yield from _work(chance, 2)
    for _ in range(chance.randrange(5, 12)):
        yield _tool(chance, tool="list_files", arguments_hash="same", result_hash="same")
    yield _end("failed")


def _is_refused_credentials(chance: random.Random) -> Iterator[Step]:
    yield _start()
    for _ in range(4):
        yield _tool(chance, tool="deploy", status="error", error_type="401", result_hash=None)
    yield _end("failed")


def _hammers(chance: random.Random) -> Iterator[Step]:
    yield _start()
    for _ in range(9):
        _, call = _tool(chance, status="error", error_type="rate_limit", tool="search", result_hash=None)
        yield 20, call
    yield from _work(chance, 3)
    yield _end()


def _ping_pongs(chance: random.Random) -> Iterator[Step]:
    yield _start(agent="analyzer")
    for _ in range(chance.randrange(5, 9)):
        for agent, other in (("analyzer", "verifier"), ("verifier", "analyzer")):
            message = {"type": "message", "agent": agent, "to_agent": other, "intent": "clarification"}
            yield chance.randrange(1_000, 4_000), message
    yield _end("abandoned")


def _invents_a_tool(chance: random.Random) -> Iterator[Step]:
    yield _start()
    yield from _work(chance, 3)
    yield _tool(chance, tool=f"summon_{chance.randrange(9)}")
    yield from _work(chance, 3)
    yield _end()


def _overspends(chance: random.Random) -> Iterator[Step]:
    yield _start(budget={"tokens": 4_000, "cost_usd": 0.1})
    yield from _work(chance, 8)
    yield _end()


def _hangs(chance: random.Random) -> Iterator[Step]:
    yield _start(budget={"wall_ms": 120_000.0})
    yield from _work(chance, 2)


def _is_left(chance: random.Random) -> Iterator[Step]:
    yield _start()
    yield from _work(chance, chance.randrange(1, 6))


_SCRIPTS: Final[tuple[tuple[Callable[[random.Random], Iterator[Step]], int], ...]] = (
    (_healthy, 70),
    (_loops, 5),
    (_is_refused_credentials, 3),
    (_hammers, 3),
    (_ping_pongs, 4),
    (_invents_a_tool, 4),
    (_overspends, 4),
    (_hangs, 3),
    (_is_left, 4),
)
