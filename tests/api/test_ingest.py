"""Telemetry over HTTP: what is taken, what is said about the rest, and what goes onto the bus."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from starlette.testclient import TestClient

from api.ingest import MAX_OTLP_BYTES
from api.otlp_http import MAX_RECORD_BYTES
from schemas.base import MAX_MESSAGE_BYTES
from streams.otlp import Traces, convert
from tests.api.conftest import NOW, Remembering

PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json"}


def event(**changes: Any) -> dict[str, Any]:
    base = {"schema": "agent.event/1", "event_id": "e-1", "type": "heartbeat", "time": NOW}
    return {**base, "agent": "support", "session": "s-1", **changes}


def trace_request(spans: int = 1, filler: int = 0) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    attribute = group.resource.attributes.add(key="service.instance.id")
    attribute.value.string_value = "pod-7"
    scope = group.scope_spans.add()
    for number in range(spans):
        span = scope.spans.add(name="chat", trace_id=b"\x01" * 16, span_id=number.to_bytes(8, "big"))
        span.attributes.add(key="filler").value.string_value = "x" * filler
    return request


class TestEvents:
    def test_an_event_is_produced_by_session_without_what_is_not_in_the_schema(
        self, client: TestClient, parts: Remembering
    ) -> None:
        answer = client.post("/v1/events", json=event(prompt="content"))
        assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "rejected": []})
        ((topic, key, value),) = parts.sent
        assert (topic, key) == ("agent.events", b"s-1")
        assert json.loads(value)["event_id"] == "e-1"
        assert b"content" not in value

    def test_an_array_with_bad_events_says_which_and_takes_the_rest(
        self, client: TestClient, parts: Remembering
    ) -> None:
        bad_type, skewed = event(type="telepathy"), event(time="2026-02-01T00:00:00Z")
        answer = client.post("/v1/events", json=[event(), bad_type, event(event_id="e-2"), skewed])
        assert answer.status_code == 207
        found = answer.json()
        assert found["accepted"] == len(parts.sent) == 2
        assert [(one["index"], one["reason"]) for one in found["rejected"]] == [
            (1, "unknown_type"),
            (3, "clock"),
        ]

    def test_nothing_taken_is_a_bad_request(self, client: TestClient, parts: Remembering) -> None:
        answer = client.post("/v1/events", content=b"{", headers=JSON)
        assert answer.status_code == 400
        assert answer.json()["rejected"][0]["reason"] == "malformed"
        assert parts.sent == []

    def test_a_broken_bus_is_said_and_may_be_tried_again(
        self, client: TestClient, parts: Remembering
    ) -> None:
        parts.broken = True
        answer = client.post("/v1/events", json=event())
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert answer.json()["error"] == "bus_unavailable"

    def test_too_large_is_refused(self, client: TestClient) -> None:
        body = json.dumps(event(x="x" * MAX_MESSAGE_BYTES)).encode()
        assert client.post("/v1/events", content=body, headers=JSON).status_code == 413

    def test_a_gzip_bomb_stops_at_the_limit(self, client: TestClient) -> None:
        bomb = gzip.compress(b" " * 50_000_000)
        headers = {**JSON, "Content-Encoding": "gzip"}
        assert client.post("/v1/events", content=bomb, headers=headers).status_code == 413

    @pytest.mark.parametrize(
        ("body", "encoding", "status"),
        [
            (gzip.compress(json.dumps(event()).encode()), "gzip", 202),
            (gzip.compress(b"[") + gzip.compress(json.dumps(event()).encode() + b"]"), "gzip", 202),
            (gzip.compress(json.dumps(event()).encode())[:-9], "gzip", 400),
            (b"not gzip", "gzip", 400),
            (b"{}", "br", 415),
        ],
    )
    def test_content_encoding(self, client: TestClient, body: bytes, encoding: str, status: int) -> None:
        headers = {**JSON, "Content-Encoding": encoding}
        assert client.post("/v1/events", content=body, headers=headers).status_code == status


class TestWhoMayIngest:
    PATHS = ("/v1/events", "/v1/traces", "/v1/logs")

    @pytest.mark.parametrize("path", PATHS)
    def test_on_another_listener_it_needs_the_token(
        self, make_client: Callable[..., TestClient], parts: Remembering, bearer: dict[str, str], path: str
    ) -> None:
        client = make_client(loopback=False)
        body = event() if path == "/v1/events" else {}
        assert client.post(path, json=body).status_code == 401
        assert client.post(path, json=body, headers={"Authorization": "Bearer x"}).status_code == 403
        assert parts.sent == []
        assert client.post(path, json=body, headers=bearer).status_code in (200, 202)

    @pytest.mark.parametrize("path", PATHS)
    def test_a_rebound_host_name_is_not_loopback(
        self, make_client: Callable[..., TestClient], path: str
    ) -> None:
        assert make_client(host="evil.example").post(path, json=event()).status_code == 401

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", ""])
    def test_what_a_page_can_send_without_a_preflight_is_not_taken(
        self, client: TestClient, path: str, media: str
    ) -> None:
        answer = client.post(path, content=json.dumps(event()), headers={"Content-Type": media})
        assert answer.status_code == 415


class TestOtlp:
    def test_protobuf_goes_on_as_received_and_is_answered_in_protobuf(
        self, client: TestClient, parts: Remembering
    ) -> None:
        body = trace_request().SerializeToString()
        answer = client.post("/v1/traces", content=body, headers=PROTOBUF)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-protobuf")
        assert not ExportTraceServiceResponse.FromString(answer.content).HasField("partial_success")
        assert parts.sent == [("otlp_spans", b"pod-7", body)]

    def test_json_goes_on_as_received_and_is_answered_in_json(
        self, client: TestClient, parts: Remembering
    ) -> None:
        body = b'{"resourceLogs": [{"resource": {"attributes": []}, "scopeLogs": [{"logRecords": [{}]}]}]}'
        answer = client.post("/v1/logs", content=body, headers=JSON)
        assert (answer.status_code, answer.json()) == (200, {})
        assert parts.sent == [("otlp_logs", None, body)]

    def test_gzip_is_unpacked(self, client: TestClient, parts: Remembering) -> None:
        body = trace_request().SerializeToString()
        headers = {**PROTOBUF, "Content-Encoding": "gzip"}
        assert client.post("/v1/traces", content=gzip.compress(body), headers=headers).status_code == 200
        assert parts.sent[0][2] == body

    def test_an_empty_request_is_fine_and_sends_nothing(self, client: TestClient, parts: Remembering) -> None:
        assert client.post("/v1/traces", content=b"", headers=PROTOBUF).status_code == 200
        assert parts.sent == []

    @pytest.mark.parametrize("media", [PROTOBUF, JSON])
    def test_garbage_is_a_bad_request_in_the_sender_s_encoding(
        self, client: TestClient, media: dict[str, str]
    ) -> None:
        answer = client.post("/v1/traces", content=b"\xffgarbage", headers=media)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == media["Content-Type"]
        assert b"body is not" in answer.content

    def test_a_large_request_is_cut_into_whole_requests(self, client: TestClient, parts: Remembering) -> None:
        body = trace_request(spans=30, filler=100_000).SerializeToString()
        assert client.post("/v1/traces", content=body, headers=PROTOBUF).status_code == 200
        assert max(len(value) for _, _, value in parts.sent) <= MAX_RECORD_BYTES
        spans = [
            span.span_id
            for _, _, value in parts.sent
            for group in ExportTraceServiceRequest.FromString(value).resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        assert spans == [number.to_bytes(8, "big") for number in range(30)]

    def test_a_large_json_request_is_cut_too(self, client: TestClient, parts: Remembering) -> None:
        record = {"body": {"stringValue": "x" * 100_000}}
        request = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record] * 20}]}]}
        answer = client.post("/v1/logs", json=request)
        assert answer.status_code == 200
        records = [
            scope["logRecords"]
            for _, _, value in parts.sent
            for group in json.loads(value)["resourceLogs"]
            for scope in group["scopeLogs"]
        ]
        assert sum(map(len, records)) == 20
        assert max(len(value) for _, _, value in parts.sent) <= MAX_RECORD_BYTES

    def test_a_span_too_large_alone_is_reported(self, client: TestClient, parts: Remembering) -> None:
        request = trace_request(spans=1, filler=1_000_000)
        request.MergeFrom(trace_request(spans=2))
        answer = client.post("/v1/traces", content=request.SerializeToString(), headers=PROTOBUF)
        told = ExportTraceServiceResponse.FromString(answer.content).partial_success
        assert (answer.status_code, told.rejected_spans) == (200, 1)
        assert len(parts.sent) >= 1

    def test_the_limit_holds(self, client: TestClient) -> None:
        answer = client.post("/v1/logs", content=b" " * (MAX_OTLP_BYTES + 1), headers=PROTOBUF)
        assert answer.status_code == 413

    def test_a_broken_bus_is_retryable(self, client: TestClient, parts: Remembering) -> None:
        parts.broken = True
        answer = client.post("/v1/traces", content=trace_request().SerializeToString(), headers=PROTOBUF)
        assert answer.status_code == 503

    def test_what_is_put_on_the_bus_the_next_stage_can_read(
        self, client: TestClient, parts: Remembering
    ) -> None:
        client.post("/v1/traces", content=trace_request(spans=3).SerializeToString(), headers=PROTOBUF)
        conversion = convert(parts.sent[0][2], "otlp_spans", 0, Traces())
        assert (conversion.events, conversion.skipped) == ([], 3)
