"""OTLP/HTTP: the key of a request's record, parts that fit the bus, answers in the form the sender used.

A batch of spans that carry messages easily passes the bus's limit of a record (1 MiB by default), and an
exporter drops what is refused. So a large request goes on as several, each a whole OTLP request.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, cast

import orjson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from starlette.responses import Response

from api.errors import ApiError

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
MAX_RECORD_BYTES = 900 * 1024

Signal = Literal["traces", "logs"]


class _Names(NamedTuple):
    """What a signal's parts are called, in protobuf and in JSON."""

    resources: tuple[str, str]
    scopes: tuple[str, str]
    items: tuple[str, str]
    rejected: tuple[str, str]


_NAMES: dict[Signal, _Names] = {
    "traces": _Names(
        ("resource_spans", "resourceSpans"),
        ("scope_spans", "scopeSpans"),
        ("spans", "spans"),
        ("rejected_spans", "rejectedSpans"),
    ),
    "logs": _Names(
        ("resource_logs", "resourceLogs"),
        ("scope_logs", "scopeLogs"),
        ("log_records", "logRecords"),
        ("rejected_log_records", "rejectedLogRecords"),
    ),
}


class Parts(NamedTuple):
    """Records for the bus. ``key`` keeps in order what one process sends; None when it is not named."""

    key: bytes | None
    records: list[bytes]
    rejected: int


def read_request(body: bytes, signal: Signal, media: str) -> Parts:
    """Splits a request into records that fit; what is too large alone is counted as rejected.

    Raises:
        ApiError: 400, the body is not a request of this signal.
    """
    parts = _read_json(body, signal) if media == JSON else _read_protobuf(body, signal)
    if len(body) <= MAX_RECORD_BYTES:
        return parts._replace(records=[body] if body else [])
    return parts


def _read_protobuf(body: bytes, signal: Signal) -> Parts:
    make = ExportTraceServiceRequest if signal == "traces" else ExportLogsServiceRequest
    names = [pair[0] for pair in _NAMES[signal]]
    request: Any = make()
    try:
        request.ParseFromString(body)
    except DecodeError:
        raise ApiError(400, "malformed", f"the body is not an OTLP {signal} request in protobuf") from None
    items = [
        (group, scope, item)
        for group in getattr(request, names[0])
        for scope in getattr(group, names[1])
        for item in getattr(scope, names[2])
    ]
    if body and not items:
        return Parts(None, [], 0)

    def encode(chosen: list[Any]) -> bytes:
        part: Any = make()
        for group, scope, item in chosen:
            new_group = getattr(part, names[0]).add(resource=group.resource, schema_url=group.schema_url)
            new_scope = getattr(new_group, names[1]).add(scope=scope.scope, schema_url=scope.schema_url)
            getattr(new_scope, names[2]).append(item)
        return cast("bytes", part.SerializeToString())

    attributes = items[0][0].resource.attributes if items else ()
    key = _key({pair.key: pair.value.string_value for pair in attributes})
    return _cut(items, encode, key, len(body))


def _read_json(body: bytes, signal: Signal) -> Parts:
    names = [pair[1] for pair in _NAMES[signal]]
    try:
        request = orjson.loads(body)
        items = [
            (group, scope, item)
            for group in request.get(names[0], [])
            for scope in group.get(names[1], [])
            for item in scope.get(names[2], [])
        ]
        attributes = items[0][0].get("resource", {}).get("attributes", []) if items else []
        key = _key({pair["key"]: pair["value"].get("stringValue", "") for pair in attributes})
    except orjson.JSONDecodeError as error:
        raise ApiError(400, "malformed", f"the body is not JSON: {error.msg}") from None
    except (AttributeError, TypeError, KeyError):
        raise ApiError(400, "malformed", f"the body is not an OTLP {signal} request in JSON") from None

    def encode(chosen: list[Any]) -> bytes:
        groups = [{**group, names[1]: [{**scope, names[2]: [item]}]} for group, scope, item in chosen]
        return orjson.dumps({names[0]: groups})

    return _cut(items, encode, key, len(body))


def _cut(items: list[Any], encode: Any, key: bytes | None, size: int) -> Parts:
    if size <= MAX_RECORD_BYTES:
        return Parts(key, [], 0)
    records = list(_fitting(items, encode))
    return Parts(key, [record for record in records if record is not None], records.count(None))


def _fitting(items: list[Any], encode: Any) -> Iterator[bytes | None]:
    """Halves until it fits; None for one that does not fit alone."""
    record = encode(items)
    if len(record) <= MAX_RECORD_BYTES:
        yield record
    elif len(items) == 1:
        yield None
    else:
        middle = len(items) // 2
        yield from _fitting(items[:middle], encode)
        yield from _fitting(items[middle:], encode)


def _key(resource: dict[str, str]) -> bytes | None:
    name = resource.get("service.instance.id") or resource.get("service.name")
    return name.encode() if name else None


def success(signal: Signal, media: str, rejected: int) -> Response:
    """The export response, with a partial success when something was too large."""
    names = _NAMES[signal].rejected
    line = f"{rejected} larger than {MAX_RECORD_BYTES} bytes each: send less content with them"
    if media == JSON:
        partial = {"partialSuccess": {names[1]: str(rejected), "errorMessage": line}} if rejected else {}
        return Response(orjson.dumps(partial), media_type=JSON)
    response: Any = ExportTraceServiceResponse() if signal == "traces" else ExportLogsServiceResponse()
    if rejected:
        setattr(response.partial_success, names[0], rejected)
        response.partial_success.error_message = line
    return Response(response.SerializeToString(), media_type=PROTOBUF)


def failure(error: ApiError, media: str) -> Response:
    """The error as OTLP wants it: a google.rpc.Status in the sender's encoding."""
    if media != PROTOBUF:
        body = orjson.dumps({"code": error.status, "message": error.detail})
        return Response(body, error.status, error.headers, JSON)
    return Response(_status_message(error.detail), error.status, error.headers, PROTOBUF)


def _status_message(text: str) -> bytes:
    """Field 2 of google.rpc.Status, a string; the package that has the message is not needed for it."""
    content = text.encode()
    length, size = b"", len(content)
    while size >= 0x80:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return b"\x12" + length + bytes([size]) + content
