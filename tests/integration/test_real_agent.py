"""A real agent, traced by its own library, seen by the engine: from its spans to a detection.

The spans are what pydantic-ai and the OpenTelemetry SDK make of a run, taken in memory and over OTLP/HTTP
into the API; nothing is written by hand. The way over Kafka is in the tests of the whole engine.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import uvicorn
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

from api.app import Parts, make_app
from api.security import Access
from detectors.base import Source
from detectors.session_pipeline import SessionPipeline
from schemas.dead_letter import DeadLetter
from schemas.detection import Detection
from schemas.event import AgentEvent, LlmCall, SessionEnd, SessionStart, ToolCall
from streams.decode import Flaw, decode
from streams.otlp import OtlpProcessor, Traces, convert
from streams.stage import PlainRecord, RecordBatch
from tests.api.conftest import Remembering
from tests.integration.parts.agents import (
    AGENT,
    ANSWER,
    SERVICE,
    Script,
    as_request,
    build_agent,
    captured_run,
    healthy_script,
    looping_script,
)
from tests.streams.test_otlp import as_json

LOOP = looping_script(8)


def events_of(script: Script, include_content: bool = True) -> list[AgentEvent]:
    """The events of one run, the same from both encodings."""
    request = as_request(captured_run(script, "conv-1", include_content=include_content))
    conversion = convert(request.SerializeToString(), "otlp_spans", 0, Traces())
    assert convert(as_json(request), "otlp_spans", 0, Traces()) == conversion
    events = [event for event in conversion.events if not isinstance(event, Flaw)]
    assert len(events) == len(conversion.events)
    return events


def detections_of(events: list[AgentEvent]) -> list[Detection]:
    """What the session detectors find, an event a record."""
    pipeline = SessionPipeline(partition=0)
    outputs = [
        output
        for offset, event in enumerate(events)
        for output in pipeline.process(event, Source("agent.events", 0, offset))
    ]
    return [output for output in outputs if isinstance(output, Detection)]


def test_a_healthy_run_is_told_in_full_and_finds_nothing() -> None:
    events = events_of(healthy_script)
    kinds = ["session.start", "llm.call", "tool.call", "llm.call", "tool.call", "llm.call", "session.end"]
    assert [event.type for event in events] == kinds
    assert {(event.agent, event.session) for event in events} == {(AGENT, "conv-1")}
    start, call, tool, *_, end = events
    assert isinstance(start, SessionStart)
    assert start.declared_tools == ["list_files"]
    assert isinstance(call, LlmCall)
    assert call.input_tokens > 0
    assert isinstance(tool, ToolCall)
    assert (tool.tool, tool.argument_keys, tool.status) == ("list_files", ["path"], "ok")
    assert tool.result_shape == "{files:[{bytes:number,name:string}],path:string,total:number}"
    assert isinstance(end, SessionEnd)
    assert end.outcome == "completed"
    assert detections_of(events) == []


def test_its_content_goes_no_further() -> None:
    told = "".join(event.model_dump_json() for event in events_of(healthy_script))
    for content in (ANSWER, "How many files", "/data/1"):
        assert content not in told


def test_a_loop_is_found() -> None:
    found = detections_of(events_of(LOOP))
    assert {detection.detector for detection in found} == {"tool_loop"}
    assert {(detection.agent, detection.session) for detection in found} == {(AGENT, "conv-1")}
    critical = [detection for detection in found if detection.severity == "critical"]
    assert [detection.observed for detection in critical] == [5]
    assert critical[0].suggested is not None
    assert critical[0].suggested.mode == "halt"


def test_without_content_nothing_is_guessed() -> None:
    events = events_of(LOOP, include_content=False)
    hashes = [event.arguments_hash for event in events if isinstance(event, ToolCall)]
    assert len(set(hashes)) == len(hashes) == 8
    assert detections_of(events) == []


@dataclass
class Listener:
    """The API on a free port, on parts that remember."""

    parts: Remembering = field(default_factory=lambda: Remembering(now_s=time.time()))
    address: str = ""


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    parts = found.parts
    app = make_app(Parts(parts, parts, parts, parts, parts, parts), Access("token", loopback_only=True))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        found.address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield found
        finally:
            server.should_exit = True
            thread.join(timeout=10)


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_a_plain_exporter_pointed_at_the_engine_is_all_it_takes(
    listener: Listener, compression: Compression
) -> None:
    exporter = OTLPSpanExporter(endpoint=f"{listener.address}/v1/traces", compression=compression, timeout=10)
    assert build_agent(LOOP, exporter).run("conv-2") == ANSWER
    assert {(topic, key is not None) for topic, key, _ in listener.parts.sent} == {("otlp_spans", True)}

    processor, now_ms = OtlpProcessor(), int(time.time() * 1000)
    records = [
        PlainRecord("otlp_spans", 0, offset, now_ms, key, value)
        for offset, (_, key, value) in enumerate(listener.parts.sent)
    ]
    outputs = list(processor.process(RecordBatch("otlp_spans", 0, records)))
    assert {(output.topic, output.key) for output in outputs} == {("agent.events", b"conv-2")}
    events = [
        event
        for offset, output in enumerate(outputs)
        for event in decode(output.value, output.topic, 0, offset, output.timestamp_ms)
    ]
    assert len(events) == len(outputs)
    found = detections_of([event for event in events if not isinstance(event, DeadLetter)])
    assert [detection.detector for detection in found if detection.severity == "critical"] == ["tool_loop"]


def test_the_service_stands_in_until_the_agent_is_known() -> None:
    request = as_request(captured_run(healthy_script, "conv-3"))
    for span in request.resource_spans[0].scope_spans[0].spans:
        kept = [pair for pair in span.attributes if not pair.key.startswith(("gen_ai.agent", "gen_ai.conv"))]
        del span.attributes[:]
        span.attributes.extend(pair for pair in kept if pair.key != "agent_name")
    events = convert(request.SerializeToString(), "otlp_spans", 0, Traces()).events
    trace = request.resource_spans[0].scope_spans[0].spans[0].trace_id.hex()
    assert {(event.agent, event.session) for event in events if not isinstance(event, Flaw)} == {
        (SERVICE, trace)
    }
