"""``agent.event/1`` built beside the agent: content goes in, only hashes, lengths, shapes and flags come out.

:class:`Session` has a method for every event type. Content arguments (``arguments``, ``result``, ``output``,
``content``, ``goal``, ``user``) are reduced here and never kept. Nothing raises on odd values: names too long
are cut with a hash, numbers outside their range are left out, because a telemetry mistake must not stop an
agent.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from types import TracebackType
from typing import Final, Literal, Self, TypedDict, Unpack, cast

from watchkeeper_client.fingerprint import (
    argument_keys,
    arguments_hash,
    content_hash,
    fingerprint,
)
from watchkeeper_client.foreign import Foreign
from watchkeeper_client.gate import Denied, current_session
from watchkeeper_client.refusal import is_refusal
from watchkeeper_client.wanted import rfc_3339

EVENT_SCHEMA: Final = "agent.event/1"
EVENTS_TOPIC: Final = "agent.events"

Status = Literal["ok", "error"]
Outcome = Literal["completed", "failed", "refused", "escalated", "abandoned", "cancelled"]
Intent = Literal["request", "clarification", "answer", "delegate", "result"]
Component = Literal["prompt", "model", "tool", "index", "config", "agent"]
Attribute = str | bool | int | float
Emit = Callable[[str, str, Mapping[str, object]], str]
"""Takes (session, type, fields), adds what every event has, spools it, and returns its event_id."""

FOREIGN_VALUES: Final = "watchkeeper.foreign_values"
"""Attributes of a call with foreign arguments: see :class:`watchkeeper_client.foreign.Verdict`."""
FOREIGN_ASKED: Final = "watchkeeper.foreign_asked"
FOREIGN_WRITES: Final = "watchkeeper.foreign_writes"

_MAX_COUNT = 2**53 - 1
_MAX_ID_CHARS = 256
_MAX_ATTRIBUTES = 32
_MAX_EMBEDDING = 64
_MAX_FINISH_REASONS = 16
_MAX_NAMES = 512
_ABSENT: Final = object()


class Common(TypedDict, total=False):
    """What any event may carry. ``time_ms``: epoch milliseconds, when it was not now."""

    time_ms: float | None
    trace_id: str | None
    span_id: str | None
    parent_span_id: str | None
    attributes: Mapping[str, Attribute] | None


class ToolSchema(TypedDict, total=False):
    required: Sequence[str]
    properties: Sequence[str]


class Budget(TypedDict, total=False):
    """Caps a session brings along."""

    tokens: int
    steps: int
    cost_usd: float
    wall_ms: float
    fan_out: Mapping[str, int]


class StartFields(Common, total=False):
    """``goal`` and ``user`` are hashed; ``goal_name`` and ``credential`` (a name, no secret) are sent.

    ``idle_timeout_ms``: how long the session may be silent before it counts as left (default: 30 minutes).
    """

    goal: str | None
    goal_name: str | None
    declared_tools: Sequence[str] | None
    tool_schemas: Mapping[str, ToolSchema] | None
    allowed_effects: Sequence[str] | None
    credential: str | None
    scopes: Sequence[str] | None
    budget: Budget | None
    user: str | None
    parent_session: str | None
    idle_timeout_ms: float | None


class LlmFields(Common, total=False):
    """``output`` is the answer's text: it becomes output_chars, output_hash and refusal."""

    output: str | None
    provider: str | None
    response_model: str | None
    prompt_version: str | None
    cache_read_tokens: int | None
    cost_usd: float | None
    duration_ms: float | None
    ttft_ms: float | None
    finish_reasons: Sequence[str] | None
    refusal: bool | None
    confidence: float | None
    embedding: Sequence[float] | None
    status: Status
    error_type: str | None


class ToolFields(Common, total=False):
    """``result`` is the tool's answer: it becomes result_hash, _shape, _items and _total. Whether arguments
    are foreign is found out (see :meth:`Session.request`) unless ``foreign_arguments`` says so.
    """

    result: object
    duration_ms: float | None
    status: Status
    error_type: str | None
    credential: str | None
    scope: str | None
    effect: str | None
    irreversible: bool | None
    approval: str | None
    targets: int | None
    foreign_arguments: bool | None


class RetrievalFields(Common, total=False):
    """``owner`` (the user the memory belongs to) is hashed; ``as_of_ms`` is epoch milliseconds. ``content``,
    what was retrieved, is compared with later arguments and never sent.
    """

    index_version: str | None
    top_score: float | None
    owner: str | None
    as_of_ms: float | None
    content: object


class EvaluationFields(Common, total=False):
    label: str | None
    ref: str | None
    evaluator: str | None


class Session:
    """One session of the agent: publishes its events. As a context manager it also starts and ends it.

    Leaving it through an exception ends the session as ``failed``, ``cancelled`` when the task was cancelled,
    or ``abandoned`` when the gate denied a call. Every method returns at once, with the event's id.
    """

    def __init__(
        self, session: str, emit: Emit, *, hash_key: bytes | None = None, start: StartFields | None = None
    ) -> None:
        self.id = session
        self._emit_event = emit
        self._hash_key = hash_key
        self._start_fields: StartFields = start or {}
        self._token: Token[str | None] | None = None
        self._ended = False
        self._foreign: Foreign | None = None

    def __enter__(self) -> Self:
        self._token = current_session.set(self.id)
        self.start(**self._start_fields)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            current_session.reset(self._token)
            self._token = None
        if not self._ended:
            self.end(_outcome(error))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def start(self, **fields: Unpack[StartFields]) -> str:
        """``session.start``."""
        goal, user = fields.get("goal"), fields.get("user")
        sent = {
            **_without(fields, "goal", "goal_name", "user", "tool_schemas", "budget"),
            "goal": fields.get("goal_name") or (None if goal is None else content_hash(goal, self._hash_key)),
            "user": None if user is None else content_hash(user, self._hash_key),
            "tool_schemas": _tool_schemas(fields.get("tool_schemas")),
            "budget": _budget(fields.get("budget")),
        }
        return self._emit("session.start", sent)

    def request(self, text: str, *, asks: bool = True) -> None:
        """What the user wrote, to tell it from what tools return: hashed in memory, never sent.

        Call it before the tool calls that follow from it; every later :meth:`tool_call` then says whether its
        arguments are foreign. ``asks=False`` for the developer's own text (a system prompt): its values are
        trusted, but it asks for nothing.
        """
        if self._foreign is None:
            self._foreign = Foreign()
        self._foreign.request(text, asks=asks)

    def end(self, outcome: Outcome = "completed", **fields: Unpack[Common]) -> str:
        """``session.end``."""
        self._ended = True
        return self._emit("session.end", {"outcome": outcome, **fields})

    def llm_call(
        self, request_model: str, *, input_tokens: int, output_tokens: int, **fields: Unpack[LlmFields]
    ) -> str:
        """``llm.call``: one call of a model."""
        sent: dict[str, object] = {
            "request_model": request_model or "unknown",
            "input_tokens": _count(input_tokens) or 0,
            "output_tokens": _count(output_tokens) or 0,
            "status": "ok",
        }
        output = fields.get("output")
        if output is not None:
            sent["output_chars"] = len(output)
            sent["output_hash"] = content_hash(output, self._hash_key)
            sent["refusal"] = is_refusal(output)
        return self._emit("llm.call", {**sent, **_without(fields, "output")})

    def tool_call(self, tool: str, arguments: object = None, **fields: Unpack[ToolFields]) -> str:
        """``tool.call``: one call of a tool, with its ``arguments`` and ``result`` as the tool saw them."""
        sent: dict[str, object] = {
            "tool": tool or "unknown",
            "arguments_hash": arguments_hash(arguments, self._hash_key),
            "argument_keys": argument_keys(arguments) or None,
            "status": "ok",
        }
        result = fields.get("result", _ABSENT)
        if result is not _ABSENT:
            found = fingerprint(result, self._hash_key)
            sent["result_hash"] = found.result_hash
            sent["result_shape"] = found.result_shape
            sent["result_items"] = found.result_items
            sent["result_total"] = found.result_total
        return self._emit(
            "tool.call", {**sent, **_without(fields, "result"), **self._steered(tool, arguments, fields)}
        )

    def effect(self, ref: str, *, confirmed: bool, **fields: Unpack[Common]) -> str:
        """``effect``: what downstream says became of the tool call with the event id ``ref``."""
        return self._emit("effect", {"ref": ref, "confirmed": confirmed, **fields})

    def retrieval(self, index: str, *, documents: int, **fields: Unpack[RetrievalFields]) -> str:
        """``retrieval``: documents fetched from an index or a memory."""
        owner, as_of_ms = fields.get("owner"), fields.get("as_of_ms")
        sent = {
            "index": index or "unknown",
            "documents": _count(documents) or 0,
            "owner": None if owner is None else content_hash(owner, self._hash_key),
            "as_of": None if as_of_ms is None else rfc_3339(as_of_ms),
        }
        if self._foreign is not None and "content" in fields:
            self._foreign.result(fields["content"])
        return self._emit("retrieval", {**_without(fields, "owner", "as_of_ms", "content"), **sent})

    def message(
        self, to_agent: str, intent: Intent, content: str | None = None, **fields: Unpack[Common]
    ) -> str:
        """``message``: to another agent. ``content`` is hashed."""
        hashed = None if content is None else content_hash(content, self._hash_key)
        return self._emit(
            "message", {"to_agent": to_agent or "unknown", "intent": intent, "content_hash": hashed, **fields}
        )

    def escalation(
        self, to: Literal["human", "queue", "agent"], reason: str | None = None, **fields: Unpack[Common]
    ) -> str:
        """``escalation``: ``reason`` is sent as it is: give a category, not a transcript."""
        return self._emit("escalation", {"to": to, "reason": reason, **fields})

    def evaluation(self, name: str, score: float, **fields: Unpack[EvaluationFields]) -> str:
        """``evaluation``: a judge's score of 0 to 1, cut to that range."""
        return self._emit("evaluation", {"name": name, "score": _cut_to_unit(score), **fields})

    def canary(
        self, canary: str, *, passed: bool, score: float | None = None, **fields: Unpack[Common]
    ) -> str:
        """``canary``: the outcome of a known question."""
        return self._emit("canary", {"canary": canary, "passed": passed, "score": score, **fields})

    def deployment(
        self,
        component: Component,
        name: str,
        *,
        to_version: str,
        from_version: str | None = None,
        **fields: Unpack[Common],
    ) -> str:
        """``deployment``: something the agent depends on has changed."""
        sent = {"component": component, "name": name, "from_version": from_version, "to_version": to_version}
        return self._emit("deployment", {**sent, **fields})

    def feedback(
        self, kind: Literal["ticket", "thumb"], value: float | None = None, **fields: Unpack[Common]
    ) -> str:
        """``feedback``: what a user thought of it."""
        return self._emit("feedback", {"kind": kind, "value": value, **fields})

    def heartbeat(self, **fields: Unpack[Common]) -> str:
        """``heartbeat``: still here."""
        return self._emit("heartbeat", dict(fields))

    def _steered(self, tool: str, arguments: object, fields: ToolFields) -> dict[str, object]:
        """What is said of the call's arguments; then its result is taken in."""
        if self._foreign is None:
            return {}
        writes = bool(fields.get("effect") or fields.get("irreversible") or fields.get("targets"))
        verdict = self._foreign.judge(tool, arguments, writes=writes)
        if "result" in fields:
            self._foreign.result(fields["result"])
        if fields.get("foreign_arguments") is not None:
            return {}
        if not verdict.foreign:
            return {"foreign_arguments": False}
        attributes = {
            FOREIGN_VALUES: verdict.values,
            FOREIGN_ASKED: verdict.asked,
            FOREIGN_WRITES: verdict.writes,
            **(fields.get("attributes") or {}),
        }
        return {"foreign_arguments": True, "attributes": attributes}

    def _emit(self, type_: str, fields: Mapping[str, object]) -> str:
        return self._emit_event(self.id, type_, clean(fields))


def clean(fields: Mapping[str, object]) -> dict[str, object]:
    """``fields`` as the contract allows them: cut to length, out of range left out, unset left out."""
    sent: dict[str, object] = {}
    for name, value in fields.items():
        kept = _CLEAN.get(name, clip)(value)
        if kept is not None:
            sent[name] = kept
    return sent


def clip(value: object, limit: int = _MAX_ID_CHARS) -> object:
    """Text cut to ``limit`` characters, its hash at the end so that different texts stay different."""
    if not isinstance(value, str):
        return value
    if not value:
        return None
    if not value.isascii():  # lone surrogates cannot be sent
        value = value.encode("utf-8", "replace").decode("utf-8")
    return value if len(value) <= limit else f"{value[: limit - 17]}~{content_hash(value)}"


def _outcome(error: BaseException | None) -> Outcome:
    if error is None:
        return "completed"
    if isinstance(error, Denied):
        return "abandoned"
    return "cancelled" if isinstance(error, (asyncio.CancelledError, KeyboardInterrupt)) else "failed"


def _without(fields: Mapping[str, object], *names: str) -> dict[str, object]:
    return {name: value for name, value in fields.items() if name not in names}


def _count(value: object) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return cast("int", value) if whole and 0 <= cast("int", value) <= _MAX_COUNT else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if abs(value) <= _MAX_COUNT and math.isfinite(value) else None


def _amount(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and number >= 0 else None


def _probability(value: object) -> float | None:
    amount = _amount(value)
    return amount if amount is not None and amount <= 1 else None


def _cut_to_unit(score: float) -> float | None:
    number = _number(score)
    return None if number is None else min(1.0, max(0.0, number))


def _names(value: object, limit: int = _MAX_NAMES) -> list[object] | None:
    if value is None or isinstance(value, str) or not isinstance(value, Sequence):
        return None
    return [clipped for name in value if isinstance(name, str) and (clipped := clip(name))][:limit]


def _finish_reasons(value: object) -> list[object] | None:
    return _names(value, _MAX_FINISH_REASONS)


def _embedding(value: object) -> list[float] | None:
    if value is None or not isinstance(value, Sequence) or not 0 < len(value) <= _MAX_EMBEDDING:
        return None
    numbers = [_number(item) for item in value]
    return None if None in numbers else cast("list[float]", numbers)


def _attributes(value: object) -> dict[str, object] | None:
    if not isinstance(value, Mapping):
        return None
    kept = {
        str(name)[:64]: clip(item)
        for name, item in value.items()
        if str(name) and (isinstance(item, (str, bool)) or _number(item) is not None)
    }
    return dict([pair for pair in kept.items() if pair[1] is not None][:_MAX_ATTRIBUTES]) or None


def _tool_schemas(schemas: Mapping[str, ToolSchema] | None) -> dict[str, object] | None:
    if schemas is None:
        return None
    return {
        str(clip(tool)): {
            "required": _names(schema.get("required", ())),
            "properties": _names(schema.get("properties", ())),
        }
        for tool, schema in schemas.items()
        if tool
    }


def _budget(budget: Budget | None) -> dict[str, object] | None:
    if budget is None:
        return None
    fan_out = {
        clip(tool): calls for tool, calls in budget.get("fan_out", {}).items() if _count(calls) is not None
    }
    caps = {
        "tokens": _count(budget.get("tokens")),
        "steps": _count(budget.get("steps")),
        "cost_usd": _amount(budget.get("cost_usd")),
        "wall_ms": _amount(budget.get("wall_ms")),
        "fan_out": fan_out or None,
    }
    return {name: cap for name, cap in caps.items() if cap is not None}


def _reason(value: object) -> object:
    return clip(value, 1024)


def _shape(value: object) -> object:
    return clip(value, 8192)


def _hash(value: object) -> object:
    return clip(value, 128)


_CLEAN: Final[dict[str, Callable[[object], object]]] = {
    "attributes": _attributes,
    "declared_tools": _names,
    "allowed_effects": _names,
    "scopes": _names,
    "argument_keys": _names,
    "finish_reasons": _finish_reasons,
    "embedding": _embedding,
    "input_tokens": _count,
    "output_tokens": _count,
    "cache_read_tokens": _count,
    "output_chars": _count,
    "result_items": _count,
    "result_total": _count,
    "documents": _count,
    "targets": _count,
    "cost_usd": _amount,
    "duration_ms": _amount,
    "ttft_ms": _amount,
    "idle_timeout_ms": _amount,
    "confidence": _probability,
    "score": _probability,
    "top_score": _number,
    "value": _number,
    "time_ms": _amount,
    "reason": _reason,
    "result_shape": _shape,
    "output_hash": _hash,
    "content_hash": _hash,
    "arguments_hash": _hash,
    "result_hash": _hash,
}
