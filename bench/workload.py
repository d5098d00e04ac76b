"""What agents do all day, made up from a seed: the events that every side of the benchmark reads.

About a thousand sessions are live at any time. Most are healthy; a few are planted to go wrong in a known
way, so that a side which lost events, or did not do the work, is noticed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson
from xxhash import xxh64_intdigest

PLANTED_SHARE: Final = 0.02
TOOLS: Final = ("search", "crm.lookup", "orders.get", "files.list", "tickets.update", "email.draft")
MODELS: Final = ("gpt-5-mini", "claude-sonnet-4-5", "gemini-2.5-flash")
LANGUAGES: Final = ("en", "en", "en", "de", "es", "ja")

Steps = Iterator[dict[str, Any]]


class Made(NamedTuple):
    """One record of `agent.events`; `time_ms` is both the event's time and the record's timestamp."""

    partition: int
    key: bytes
    value: bytes
    time_ms: int


@dataclass(slots=True)
class Workload:
    """Iterate it once for the records, in the order they are to be produced.

    Args:
        events: how many.
        end_ms: epoch milliseconds of the last event; the others lie before it.
        rate: events per second of event time: 1,000 sessions that do something about once a second.
    """

    events: int
    end_ms: int
    seed: int = 20260131
    agents: int = 50
    sessions: int = 1_000
    partitions: int = 4
    rate: float = 1_000.0
    planted_share: float = PLANTED_SHARE
    planted: dict[str, list[str]] = field(default_factory=dict)
    """Sessions driven to their bad end, by the detector that must find them. Filled by iterating."""

    def __iter__(self) -> Iterator[Made]:
        rng = random.Random(self.seed)
        origin_ms = self.end_ms - self.events * 1000 / self.rate
        sequences: dict[str, int] = {}
        live: list[Steps | None] = [None] * self.sessions
        number = 0
        for index in range(self.events):
            time_ms = int(origin_ms + (index + 1) * 1000 / self.rate)
            place = rng.randrange(self.sessions)
            event = next(live[place] or iter(()), None)
            if event is None:
                number += 1
                live[place] = steps = self._session(rng, number)
                event = next(steps)
            process = event["process"]
            sequences[process] = sequence = sequences.get(process, 0) + 1
            event |= {
                "event_id": f"{index:08x}-{rng.getrandbits(48):012x}",
                "seq": sequence,
                "time": _rfc3339(time_ms),
            }
            key = event["session"].encode()
            yield Made(xxh64_intdigest(key) % self.partitions, key, orjson.dumps(event), time_ms)

    def _session(self, rng: random.Random, number: int) -> Steps:
        agent, session = f"agent-{number % self.agents:02d}", f"s-{self.seed:x}-{number:07d}"
        base = {
            "schema": "agent.event/1",
            "agent": agent,
            "session": session,
            "agent_version": "2026.1",
            "process": f"{agent}-{number % 4}",
            "trace_id": f"{rng.getrandbits(128):032x}",
            "attributes": {"language": rng.choice(LANGUAGES), "segment": "retail"},
        }
        yield base | {
            "type": "session.start",
            "goal": "answer-customer",
            "declared_tools": list(TOOLS),
            "credential": f"key-{agent}",
            "budget": {"tokens": 1_000_000, "steps": 200, "cost_usd": 20.0},
        }
        if rng.random() < self.planted_share:
            detector = rng.choice(list(_PLANTED))
            yield from _PLANTED[detector](rng, base)
            self.planted.setdefault(detector, []).append(session)
        else:
            yield from _healthy(rng, base)
        yield base | {"type": "session.end", "outcome": "completed"}


def _rfc3339(time_ms: int) -> str:
    return (
        datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def _healthy(rng: random.Random, base: dict[str, Any]) -> Steps:
    for _ in range(rng.randint(4, 12)):
        yield _llm_call(rng, base)
        chance = rng.random()
        if chance < 0.75:
            yield _tool_call(rng, base, rng.choice(TOOLS))
        elif chance < 0.85:
            yield base | {
                "type": "retrieval",
                "index": "handbook",
                "documents": rng.randint(1, 8),
                "top_score": 0.8,
            }
        elif chance < 0.92:
            yield _message(rng, base, base["agent"], "orchestrator", rng.choice(("delegate", "result")))
    if rng.random() < 0.2:
        score = round(rng.uniform(0.7, 1.0), 3)
        yield base | {"type": "evaluation", "name": "groundedness", "score": score, "evaluator": "judge-1"}


def _llm_call(rng: random.Random, base: dict[str, Any]) -> dict[str, Any]:
    model = rng.choice(MODELS)
    return base | {
        "type": "llm.call",
        "span_id": f"{rng.getrandbits(64):016x}",
        "provider": "gateway",
        "request_model": model,
        "response_model": model,
        "prompt_version": "v12",
        "input_tokens": rng.randint(400, 4_000),
        "output_tokens": rng.randint(20, 600),
        "cost_usd": round(rng.uniform(0.0005, 0.01), 6),
        "duration_ms": round(rng.uniform(300, 4_000), 1),
        "finish_reasons": ["stop"],
        "refusal": rng.random() < 0.02,
        "output_chars": rng.randint(80, 2_400),
        "status": "ok",
    }


def _tool_call(rng: random.Random, base: dict[str, Any], tool: str, **given: Any) -> dict[str, Any]:
    return base | {
        "type": "tool.call",
        "span_id": f"{rng.getrandbits(64):016x}",
        "tool": tool,
        "arguments_hash": f"{rng.getrandbits(64):016x}",
        "argument_keys": ["limit", "query"],
        "result_hash": f"{rng.getrandbits(64):016x}",
        "result_shape": "{items:[{id:int,name:str}],total:int}",
        "result_items": rng.randint(1, 20),
        "duration_ms": round(rng.uniform(20, 900), 1),
        "status": "ok",
        "credential": f"key-{base['agent']}",
        **given,
    }


def _message(
    rng: random.Random, base: dict[str, Any], agent: str, to_agent: str, intent: str
) -> dict[str, Any]:
    content = f"{rng.getrandbits(64):016x}"
    return base | {
        "type": "message",
        "agent": agent,
        "process": f"{agent}-0" if agent != base["agent"] else base["process"],
        "to_agent": to_agent,
        "intent": intent,
        "content_hash": content,
    }


def _tool_loop(rng: random.Random, base: dict[str, Any]) -> Steps:
    for _ in range(8):
        yield _llm_call(rng, base)
        yield _tool_call(rng, base, "files.list", arguments_hash="a" * 16, result_hash="b" * 16)


def _retry_storm(rng: random.Random, base: dict[str, Any]) -> Steps:
    failure = {
        "status": "error",
        "error_type": "401",
        "result_hash": None,
        "result_items": None,
        "result_shape": None,
    }
    for _ in range(6):
        yield _tool_call(rng, base, "crm.lookup", arguments_hash="c" * 16, **failure)


def _ping_pong(rng: random.Random, base: dict[str, Any]) -> Steps:
    first, second = base["agent"], f"verifier-{base['agent']}"
    for turn in range(20):
        sender, receiver = (first, second) if turn % 2 == 0 else (second, first)
        yield _message(rng, base, sender, receiver, "clarification")


def _undeclared_tool(rng: random.Random, base: dict[str, Any]) -> Steps:
    yield _llm_call(rng, base)
    yield _tool_call(rng, base, "refunds.autopay")


_PLANTED: dict[str, Callable[[random.Random, dict[str, Any]], Steps]] = {
    "tool_loop": _tool_loop,
    "retry_storm": _retry_storm,
    "ping_pong": _ping_pong,
    "undeclared_tool": _undeclared_tool,
}
