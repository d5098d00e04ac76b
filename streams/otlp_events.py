"""Spans and log records → fields of agent events: what each convention says, in the contract's terms.

Content (arguments, results, messages) is read here for hashes, lengths, shapes and the refusal flag and goes
no further. Tokens come from model calls only: an agent's span sums up its calls and would count them twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import orjson

from schemas.base import from_epoch_ms
from streams import semconv
from streams.otlp_wire import Log, Span
from watchkeeper_client.fingerprint import argument_keys, arguments_hash, content_hash, fingerprint
from watchkeeper_client.refusal import is_refusal

_NS_PER_MS = 1_000_000
_MAX_SLICES = 32
_MAX_TOOLS = 512

Fields = dict[str, Any]


def time_of(item: Span | Log) -> str:
    """When it was known: the end of a span, the time of a record; RFC 3339."""
    nanoseconds = (item.end_ns or item.start_ns) if isinstance(item, Span) else item.time_ns
    return _rfc3339(nanoseconds)


def start_of(item: Span | Log) -> str:
    """When it began, RFC 3339."""
    return _rfc3339(item.start_ns or item.end_ns) if isinstance(item, Span) else time_of(item)


def _rfc3339(nanoseconds: int) -> str:
    return from_epoch_ms(nanoseconds / _NS_PER_MS).isoformat()


def base_fields(item: Span | Log) -> Fields:
    """What every event of this span or record carries, without agent, session, id and time."""
    resource = item.resource
    slices = {
        name.removeprefix(semconv.SLICE_PREFIX): value
        for name, value in chain(resource.items(), item.attributes.items())
        if (name.startswith(semconv.SLICE_PREFIX) or name in semconv.SLICE_NAMES)
        and isinstance(value, str | bool | int | float)
    }
    fields = {
        "tenant": text(item, "tenant") or _text(semconv.first(resource, "tenant")) or "default",
        "agent_version": text(item, "agent_version") or _text(semconv.first(resource, "agent_version")),
        "process": _text(semconv.first(resource, "process")),
        "trace_id": item.trace_id or None,
        "span_id": item.span_id or None,
        "parent_span_id": item.parent_span_id or None if isinstance(item, Span) else None,
        "attributes": dict(list(slices.items())[:_MAX_SLICES]) or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def llm_fields(item: Span | Log) -> Fields:
    """A model call. Tokens that it does not report are 0; without any its cost stays unknown."""
    attributes = item.attributes
    request_model = text(item, "request_model") or text(item, "response_model") or "unknown"
    response_model = text(item, "response_model")
    input_tokens = _count(semconv.first(attributes, "input_tokens"))
    output_tokens = _count(semconv.first(attributes, "output_tokens"))
    cached = _count(semconv.first(attributes, "cache_read_tokens"))
    first_token_s = _number(semconv.first(attributes, "ttft_s"))
    output, messages_finish = _output(item)
    reasons = _texts(semconv.first(attributes, "finish_reasons")) or messages_finish
    refused = bool(semconv.REFUSED_FINISH & set(reasons))
    return {
        "type": "llm.call",
        "provider": text(item, "provider"),
        "request_model": request_model,
        "response_model": response_model,
        "prompt_version": text(item, "prompt_version"),
        "input_tokens": input_tokens or 0,
        "output_tokens": output_tokens or 0,
        "cache_read_tokens": cached,
        "cost_usd": _number(semconv.first(attributes, "cost_usd")),
        "ttft_ms": None if first_token_s is None else first_token_s * 1000,
        "finish_reasons": reasons[:16] or None,
        "refusal": True if refused else None if output is None else is_refusal(output),
        "confidence": _number(semconv.first(attributes, "confidence")),
        "output_chars": None if output is None else len(output),
        "output_hash": content_hash(output) if output else None,
        **_ending(item),
    }


def tool_fields(item: Span) -> Fields:
    """A tool call. Without its arguments the hash is the span's own: nothing can be said to repeat."""
    attributes = item.attributes
    arguments = semconv.first(attributes, "arguments")
    result = semconv.first(attributes, "result")
    fields: Fields = {
        "type": "tool.call",
        "tool": text(item, "tool") or item.name,
        "arguments_hash": f"unseen-{item.span_id}" if arguments is None else arguments_hash(arguments),
        "argument_keys": None if arguments is None else argument_keys(arguments),
        "credential": text(item, "credential"),
        "scope": text(item, "scope"),
        "effect": text(item, "effect"),
        "irreversible": _flag(semconv.first(attributes, "irreversible")),
        "approval": text(item, "approval"),
        "targets": _count(semconv.first(attributes, "targets")),
        "foreign_arguments": _flag(semconv.first(attributes, "foreign_arguments")),
        **_ending(item),
    }
    if result is not None:
        seen = fingerprint(result)
        fields["result_hash"] = seen.result_hash
        fields["result_shape"] = seen.result_shape
        fields["result_items"] = seen.result_items
        fields["result_total"] = seen.result_total
    return fields


def retrieval_fields(item: Span) -> Fields:
    """A look into an index or a memory: how many documents, and how close the best one was."""
    documents = _parsed(semconv.first(item.attributes, "documents"))
    scores = [
        score
        for name, value in item.attributes.items()
        if name.startswith(semconv.OPENINFERENCE_DOCUMENTS)
        and name.endswith(semconv.OPENINFERENCE_SCORE)
        and (score := _number(value)) is not None
    ]
    count = _count(documents) or 0
    if isinstance(documents, list):
        count = len(documents)
        scores += [score for entry in documents if (score := _score_of(entry)) is not None]
    elif documents is None:
        numbers = {
            name.removeprefix(semconv.OPENINFERENCE_DOCUMENTS).partition(".")[0]
            for name in item.attributes
            if name.startswith(semconv.OPENINFERENCE_DOCUMENTS)
        }
        count = len(numbers)
    return {
        "type": "retrieval",
        "index": text(item, "index") or item.name,
        "index_version": text(item, "index_version"),
        "documents": count,
        "top_score": max(scores, default=None),
        "owner": text(item, "owner"),
        "as_of": text(item, "as_of"),
    }


def evaluation_fields(item: Span | Log, attributes: Mapping[str, Any], ref: str | None) -> Fields:
    """A judge's score, on a span, a span's event or a log record."""
    return {
        "type": "evaluation",
        "name": _text(semconv.first(attributes, "evaluation")),
        "score": _number(semconv.first(attributes, "score")),
        "label": _text(semconv.first(attributes, "label")),
        "ref": ref,
        "evaluator": _text(semconv.first(attributes, "evaluator")) or text(item, "evaluator"),
    }


def message_fields(item: Span) -> Fields:
    """What one agent handed to another."""
    message = semconv.first(item.attributes, "message")
    return {
        "type": "message",
        "to_agent": text(item, "to_agent"),
        "intent": text(item, "intent") or "delegate",
        "content_hash": content_hash(message) if isinstance(message, str) else None,
    }


def outcome_of(item: Span) -> str:
    """How an agent's run ended, as far as a span says."""
    if _ending(item)["status"] == "error":
        return "failed"
    output, _ = _output(item)
    return "refused" if output and is_refusal(output) else "completed"


def declared_tools(item: Span | Log) -> Fields:
    """The tools that a model call was offered, with what their arguments must and may be; empty if unsaid."""
    definitions = _parsed(semconv.first(item.attributes, "tool_definitions"))
    tools: dict[str, Fields] = {}
    for definition in definitions if isinstance(definitions, list) else []:
        described = definition.get("function", definition) if isinstance(definition, dict) else {}
        name = _text(described.get("name")) if isinstance(described, dict) else None
        if name is not None:
            tools[name] = _tool_schema(described.get("parameters"))
    tools = dict(list(tools.items())[:_MAX_TOOLS])
    return {"declared_tools": sorted(tools), "tool_schemas": tools} if tools else {}


def _tool_schema(parameters: Any) -> Fields:
    schema = parameters if isinstance(parameters, dict) else {}
    properties = schema.get("properties")
    return {
        "required": _texts(schema.get("required")),
        "properties": _texts(list(properties)) if isinstance(properties, dict) else [],
    }


def _ending(item: Span | Log) -> Fields:
    error_type = text(item, "error_type")
    failed = error_type is not None
    fields: Fields = {}
    if isinstance(item, Span):
        failed = failed or item.failed
        raised = [event for event in item.events if event.name == semconv.EXCEPTION_EVENT]
        if failed and error_type is None and raised:
            error_type = _text(semconv.first(raised[-1].attributes, "exception_type"))
        if item.end_ns >= item.start_ns > 0:
            fields["duration_ms"] = (item.end_ns - item.start_ns) / _NS_PER_MS
    return {**fields, "status": "error" if failed else "ok", "error_type": error_type if failed else None}


def _output(item: Span | Log) -> tuple[str | None, list[str]]:
    """The text a model or an agent answered with (None: the span carries none) and its finish reasons."""
    messages = _parsed(semconv.first(item.attributes, "output_messages"))
    if isinstance(messages, list):
        found = [message for message in messages if isinstance(message, dict)]
        reasons = [reason for message in found if (reason := _text(message.get("finish_reason")))]
        return "".join(part for message in found for part in _message_texts(message)), reasons
    for candidate in (messages, semconv.first(item.attributes, "output_text")):
        if isinstance(candidate, str):
            return candidate, []
    for event in item.events if isinstance(item, Span) else []:
        content = _parsed(semconv.first(event.attributes, "output_messages"))
        if isinstance(content, str):
            return content, []
    return None, []


def _message_texts(message: Mapping[str, Any]) -> Iterator[str]:
    """The texts of a message: its parts (new), or its content (old)."""
    if isinstance(message.get("content"), str):
        yield message["content"]
    parts = message.get("parts")
    for part in parts if isinstance(parts, list) else []:
        if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("content"), str):
            yield part["content"]


def text(item: Span | Log, field: str) -> str | None:
    """A field of the span or record as text."""
    return _text(semconv.first(item.attributes, field))


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _texts(value: Any) -> list[str]:
    parsed = _parsed(value)
    if isinstance(parsed, list):
        return [found for entry in parsed if (found := _text(entry)) is not None]
    single = _text(parsed)
    return [] if single is None else [single]


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _count(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number.is_integer() else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else {"true": True, "false": False}.get(str(value).lower())


def _score_of(document: Any) -> float | None:
    if not isinstance(document, dict):
        return None
    found = (_number(document.get(name)) for name in semconv.TOP_SCORE_KEYS)
    return next((score for score in found if score is not None), None)


def _parsed(value: Any) -> Any:
    """Structured content is a value or, in most instrumentations, JSON in a string."""
    if not isinstance(value, str) or value[:1] not in ("[", "{"):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return value
