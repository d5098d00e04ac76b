"""OTLP bytes → spans and log records: protobuf or JSON, read into one plain form that knows no agents.

OTLP/JSON is not protobuf's JSON: ids are hexadecimal and 64-bit integers are strings
(opentelemetry.io/docs/specs/otlp, "JSON Protobuf Encoding"), so it is read here and not by protobuf.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import orjson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from schemas.base import MAX_NESTING
from streams.decode import Flaw, UnreadableError

Attributes = dict[str, Any]
Item = TypeVar("Item")

_STATUS_ERROR = 2
_STATUS_ERROR_NAME = "STATUS_CODE_ERROR"


class SpanEvent(NamedTuple):
    name: str
    attributes: Attributes


class Span(NamedTuple):
    """A span that ended. Ids are lower-case hexadecimal or ""; times are nanoseconds since 1970."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    start_ns: int
    end_ns: int
    failed: bool
    attributes: Attributes
    resource: Attributes
    events: list[SpanEvent]


class Log(NamedTuple):
    """A log record, for its event name and attributes; the body is not kept."""

    trace_id: str
    span_id: str
    time_ns: int
    event_name: str
    attributes: Attributes
    resource: Attributes


def read_spans(value: bytes) -> list[Span | Flaw]:
    """The spans of an ExportTraceServiceRequest; a `Flaw` stands where one cannot be read.

    Raises:
        UnreadableError: the bytes are not such a request in either encoding.
    """
    if _is_json(value):
        return list(_json_items(value, "resourceSpans", "scopeSpans", "spans", _json_span))
    request = ExportTraceServiceRequest()
    _parse(request, value)
    if value and not request.resource_spans:
        raise UnreadableError("malformed", "not an OTLP trace request: it holds no resourceSpans")
    return [
        _guarded(_proto_span, span, resource)
        for group in request.resource_spans
        for resource in [_proto_attributes(group.resource.attributes)]
        for scope in group.scope_spans
        for span in scope.spans
    ]


def read_logs(value: bytes) -> list[Log | Flaw]:
    """The records of an ExportLogsServiceRequest; a `Flaw` stands where one cannot be read.

    Raises:
        UnreadableError: the bytes are not such a request in either encoding.
    """
    if _is_json(value):
        return list(_json_items(value, "resourceLogs", "scopeLogs", "logRecords", _json_log))
    request = ExportLogsServiceRequest()
    _parse(request, value)
    if value and not request.resource_logs:
        raise UnreadableError("malformed", "not an OTLP logs request: it holds no resourceLogs")
    return [
        _guarded(_proto_log, record, resource)
        for group in request.resource_logs
        for resource in [_proto_attributes(group.resource.attributes)]
        for scope in group.scope_logs
        for record in scope.log_records
    ]


def _is_json(value: bytes) -> bool:
    """A protobuf request cannot begin with a brace: it would be field 15 as a group, which it has not."""
    return value[:64].lstrip()[:1] == b"{"


def _guarded(
    read: Callable[[Any, Attributes], Item], source: Any, resource: Attributes | Flaw
) -> Item | Flaw:
    if isinstance(resource, Flaw):
        return resource
    try:
        return read(source, resource)
    except UnreadableError as error:
        return error.flaw


# --- protobuf ---


def _parse(request: ExportTraceServiceRequest | ExportLogsServiceRequest, value: bytes) -> None:
    try:
        request.ParseFromString(value)
    except DecodeError:
        raise UnreadableError("malformed", "neither OTLP protobuf nor OTLP JSON") from None


def _proto_span(span: trace_pb2.Span, resource: Attributes) -> Span:
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        name=span.name,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        failed=span.status.code == _STATUS_ERROR,
        attributes=_proto_pairs(span.attributes, 1),
        resource=resource,
        events=[SpanEvent(event.name, _proto_pairs(event.attributes, 1)) for event in span.events],
    )


def _proto_log(record: logs_pb2.LogRecord, resource: Attributes) -> Log:
    return Log(
        trace_id=record.trace_id.hex(),
        span_id=record.span_id.hex(),
        time_ns=record.time_unix_nano or record.observed_time_unix_nano,
        event_name=record.event_name,
        attributes=_proto_pairs(record.attributes, 1),
        resource=resource,
    )


def _proto_attributes(pairs: Iterable[common_pb2.KeyValue]) -> Attributes | Flaw:
    try:
        return _proto_pairs(pairs, 1)
    except UnreadableError as error:
        return error.flaw


def _proto_pairs(pairs: Iterable[common_pb2.KeyValue], depth: int) -> Attributes:
    return {pair.key: _proto_value(pair.value, depth) for pair in pairs}


def _proto_value(value: common_pb2.AnyValue, depth: int) -> Any:
    _check_depth(depth)
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_proto_value(item, depth + 1) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _proto_pairs(value.kvlist_value.values, depth + 1)
    return getattr(value, kind)


def _check_depth(depth: int) -> None:
    if depth > MAX_NESTING:
        raise UnreadableError("too_deep", f"an attribute is nested deeper than {MAX_NESTING} levels")


# --- JSON ---


def _json_items(
    value: bytes,
    resources_name: str,
    scopes_name: str,
    items_name: str,
    read: Callable[[Any, Attributes], Item],
) -> Iterator[Item | Flaw]:
    try:
        request = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise UnreadableError("malformed", f"not JSON: {error.msg.lower()}") from None
    if resources_name not in request:
        raise UnreadableError("malformed", f"not an OTLP request of this kind: it has no {resources_name}")
    for group in _list(request, resources_name):
        resource = _json_attributes(_field(group, "resource", dict, {}))
        for scope in _list(group, scopes_name):
            for item in _list(scope, items_name):
                yield _guarded(read, item, resource)


def _json_span(span: Any, resource: Attributes) -> Span:
    status = _field(span, "status", dict, {})
    return Span(
        trace_id=_hex(span, "traceId"),
        span_id=_hex(span, "spanId"),
        parent_span_id=_hex(span, "parentSpanId"),
        name=_field(span, "name", str, ""),
        start_ns=_integer(span, "startTimeUnixNano"),
        end_ns=_integer(span, "endTimeUnixNano"),
        failed=status.get("code") in (_STATUS_ERROR, _STATUS_ERROR_NAME),
        attributes=_json_pairs(_list(span, "attributes"), 1),
        resource=resource,
        events=[
            SpanEvent(_field(event, "name", str, ""), _json_pairs(_list(event, "attributes"), 1))
            for event in _list(span, "events")
        ],
    )


def _json_log(record: Any, resource: Attributes) -> Log:
    return Log(
        trace_id=_hex(record, "traceId"),
        span_id=_hex(record, "spanId"),
        time_ns=_integer(record, "timeUnixNano") or _integer(record, "observedTimeUnixNano"),
        event_name=_field(record, "eventName", str, ""),
        attributes=_json_pairs(_list(record, "attributes"), 1),
        resource=resource,
    )


def _json_attributes(resource: Mapping[str, Any]) -> Attributes | Flaw:
    try:
        return _json_pairs(_list(resource, "attributes"), 1)
    except UnreadableError as error:
        return error.flaw


def _json_pairs(pairs: list[Any], depth: int) -> Attributes:
    return {
        _field(pair, "key", str, ""): _json_value(_field(pair, "value", dict, {}), depth) for pair in pairs
    }


def _json_value(value: Mapping[str, Any], depth: int) -> Any:
    _check_depth(depth)
    for kind, content in value.items():
        match kind:
            case "stringValue" | "boolValue" | "doubleValue":
                return content
            case "intValue":
                return _integer(value, kind)
            case "arrayValue":
                items = _list(_field(value, kind, dict, {}), "values")
                return [_json_value(_checked(item, dict, "values"), depth + 1) for item in items]
            case "kvlistValue":
                return _json_pairs(_list(_field(value, kind, dict, {}), "values"), depth + 1)
            case "bytesValue":
                return _bytes(_field(value, kind, str, ""))
    return None


def _field(source: Any, name: str, kind: type, default: Any) -> Any:
    """A field of a JSON object; absent and null are the default, as everywhere in protobuf's JSON."""
    value = _checked(source, dict, name).get(name)
    return default if value is None else _checked(value, kind, name)


def _checked(value: Any, kind: type, name: str) -> Any:
    if not isinstance(value, kind):
        got = type(value).__name__
        raise UnreadableError("invalid", f"{name}: expected {kind.__name__}, got {got}")
    return value


def _list(source: Any, name: str) -> list[Any]:
    items: list[Any] = _field(source, name, list, [])
    return items


def _hex(source: Any, name: str) -> str:
    text: str = _field(source, name, str, "")
    try:
        return bytes.fromhex(text).hex()
    except ValueError:
        raise UnreadableError("invalid", f"{name}: expected hexadecimal digits") from None


def _integer(source: Mapping[str, Any], name: str) -> int:
    value = source.get(name)
    if value is None or isinstance(value, bool):
        return 0
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise UnreadableError("invalid", f"{name}: expected an integer, as a number or in quotes") from None


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise UnreadableError("invalid", "bytesValue: expected base64") from None
