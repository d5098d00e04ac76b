"""Faults put into healthy real runs: what each does to a run's events. Seeded; nothing of a run is lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bench.traces import STEP_MS, Event

Make = Callable[[random.Random, list[Event], int], list[Event]]
"""From the run's events (its start may be changed in place) and the place: the events to put in there."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault the named detector must find. `cut` ends the recording there instead."""

    detector: str
    what: str
    make: Make
    cut: bool = False


def put_in(fault: Fault, rng: random.Random, healthy: list[Event]) -> tuple[list[Event], range] | None:
    """The run with the fault in it, and which of its events are faulty; None where the run has no room."""
    events = deepcopy(healthy)
    places = [
        number + 1
        for number, event in enumerate(events)
        if event["type"] == "tool.call" and event["status"] == "ok"
    ]
    if not places:
        return None
    at = rng.choice(places)
    faulty = fault.make(rng, events, at)
    if fault.cut:
        return events[:at], range(at - 1, at)
    base = {name: events[at - 1][name] for name in ("schema", "session", "agent")}
    added = [{**base, **event} for event in faulty]
    merged = [*events[:at], *added, *events[at:]]
    start = datetime.fromisoformat(merged[0]["time"])
    for number, event in enumerate(merged):
        event["event_id"] = f"{base['session']}#{number}"
        event["time"] = (start + timedelta(milliseconds=STEP_MS * number)).isoformat()
    return merged, range(at, at + len(added))


def _hash(rng: random.Random) -> str:
    return f"{rng.getrandbits(64):016x}"


def _call(rng: random.Random, **fields: Any) -> Event:
    return {
        "type": "tool.call",
        "tool": "act",
        "arguments_hash": _hash(rng),
        "result_hash": _hash(rng),
        "status": "ok",
        **fields,
    }


def _declare(events: list[Event], **fields: Any) -> None:
    """Has the session say at its start what it may do; every tool it goes on to use among it."""
    tools = sorted({event["tool"] for event in events if event["type"] == "tool.call"})
    events[0].update(declared_tools=events[0].get("declared_tools") or [*tools, "act"], **fields)


def _loop(_rng: random.Random, events: list[Event], at: int) -> list[Event]:
    return [{**events[at - 1]} for _ in range(12)]


def _retries(rng: random.Random, _events: list[Event], _at: int) -> list[Event]:
    call = {**_call(rng, status="error", error_type="invalid_api_key"), "result_hash": None}
    return [dict(call) for _ in range(8)]


def _questions(rng: random.Random, events: list[Event], at: int) -> list[Event]:
    me = events[at - 1]["agent"]
    ends = ((me, "reviewer"), ("reviewer", me))
    return [
        {
            "type": "message",
            "agent": ends[turn % 2][0],
            "to_agent": ends[turn % 2][1],
            "intent": "clarification",
            "content_hash": _hash(rng),
        }
        for turn in range(16)
    ]


def _undeclared(rng: random.Random, events: list[Event], _at: int) -> list[Event]:
    _declare(events)
    events[0]["declared_tools"] = [tool for tool in events[0]["declared_tools"] if tool != "act"]
    return [_call(rng)]


def _bad_arguments(rng: random.Random, events: list[Event], _at: int) -> list[Event]:
    _declare(events, tool_schemas={"act": {"required": ["id"], "properties": ["id", "note"]}})
    return [_call(rng, argument_keys=["ident"])]


def _over_budget(rng: random.Random, events: list[Event], at: int) -> list[Event]:
    turns = sum(event["type"] == "llm.call" for event in events[:at])
    _declare(events, budget={"steps": turns + 3, "tokens": 10_000_000})
    return [event for _ in range(8) for event in (_llm_call(900), _call(rng))]


def _spending(_rng: random.Random, events: list[Event], _at: int) -> list[Event]:
    _declare(events, budget={"steps": 400, "tokens": 400_000})
    return [_llm_call(1_500 * turn) for turn in range(4, 28)]


def _growing(_rng: random.Random, _events: list[Event], _at: int) -> list[Event]:
    return [_llm_call(2_000 + 3_000 * turn) for turn in range(20)]


def _llm_call(input_tokens: int, **fields: Any) -> Event:
    call = {"type": "llm.call", "request_model": "unknown", "output_tokens": 100, "status": "ok"}
    return {**call, "input_tokens": input_tokens, **fields}


def _cut_off(_rng: random.Random, _events: list[Event], _at: int) -> list[Event]:
    return [_llm_call(900, output_tokens=4_096, finish_reasons=["length"]) for _ in range(12)]


def _other_model(_rng: random.Random, _events: list[Event], _at: int) -> list[Event]:
    asked = [_llm_call(900, request_model="gpt-4o", response_model="gpt-4o-2024-08-06") for _ in range(3)]
    return [*asked, _llm_call(900, request_model="gpt-4o", response_model="gpt-4o-mini-2024-07-18")]


def _hollow(rng: random.Random, _events: list[Event], _at: int) -> list[Event]:
    return [_call(rng, result_items=0, result_total=7)]


def _unconfirmed(rng: random.Random, events: list[Event], at: int) -> list[Event]:
    call = _call(rng, effect="order.create")
    return [call, {"type": "effect", "ref": f"{events[0]['session']}#{at}", "confirmed": False}]


def _foreign_credential(rng: random.Random, events: list[Event], _at: int) -> list[Event]:
    _declare(events, credential="own", scopes=["read"])
    return [_call(rng, credential="admin-root", scope="admin")]


def _off_goal(rng: random.Random, events: list[Event], _at: int) -> list[Event]:
    _declare(events, goal="report", allowed_effects=["report.write"])
    return [_call(rng, effect="record.change")]


def _unapproved(rng: random.Random, _events: list[Event], _at: int) -> list[Event]:
    return [_call(rng, effect="database.drop", irreversible=True)]


def _fan_out(rng: random.Random, events: list[Event], _at: int) -> list[Event]:
    _declare(events, budget={"fan_out": {"act": 20}})
    return [_call(rng, effect="email.send", targets=1) for _ in range(30)]


def _steered(rng: random.Random, _events: list[Event], _at: int) -> list[Event]:
    return [_call(rng, effect="email.send", foreign_arguments=True)]


def _foreign_memory(_rng: random.Random, events: list[Event], _at: int) -> list[Event]:
    _declare(events, user="u1")
    return [{"type": "retrieval", "index": "memory", "documents": 2, "owner": "u2"}]


def _stale_memory(_rng: random.Random, _events: list[Event], _at: int) -> list[Event]:
    read = {"type": "retrieval", "index": "memory", "documents": 1}
    return [{**read, "index_version": version} for version in ("1.3", "1.2")]


def _nothing(_rng: random.Random, _events: list[Event], _at: int) -> list[Event]:
    return []


FAULTS: tuple[Fault, ...] = (
    Fault("tool_loop", "a call of the run made 12 times more, same result", _loop),
    Fault("ping_pong", "16 clarifications between the agent and another", _questions),
    Fault("retry_storm", "8 calls refused for invalid credentials", _retries),
    Fault(
        "budget",
        "8 turns more (a model and a tool call each), of which the declared steps allow 3",
        _over_budget,
    ),
    Fault("spend_forecast", "24 model calls of growing context, 400,000 tokens declared", _spending),
    Fault("context_growth", "20 model calls, 3,000 tokens more each", _growing),
    Fault("truncation", "12 answers cut off at the token limit", _cut_off),
    Fault("undeclared_tool", "one call of a tool nobody declared", _undeclared),
    Fault("bad_arguments", "one call without its required argument, taken", _bad_arguments),
    Fault("result_contract", "one result of 7 hits and no item", _hollow),
    Fault("unconfirmed_effect", "one effect that downstream denies", _unconfirmed),
    Fault("credential_misuse", "one call with a credential not the session's", _foreign_credential),
    Fault("goal_violation", "one effect the goal does not allow", _off_goal),
    Fault("unapproved_action", "one irreversible call without approval", _unapproved),
    Fault("fan_out", "30 mails, 20 declared", _fan_out),
    Fault("foreign_arguments", "one flagged call with an effect", _steered),
    Fault("foreign_memory", "one retrieval of another user's memory", _foreign_memory),
    Fault("stale_memory", "two retrievals, the second of an older version", _stale_memory),
    Fault("model_mismatch", "3 answers of the model asked for, one of another", _other_model),
    Fault("orphaned_session", "the recording stops in the middle", _nothing, cut=True),
)
