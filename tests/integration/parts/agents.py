"""Real agents for tests: pydantic-ai on a scripted model, traced by its own OpenTelemetry instrumentation.

No network and no model: `FunctionModel` answers from a function, the rest is the library as people run it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic_ai import Agent
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.instrumented import InstrumentationSettings

SERVICE = "file-service"
AGENT = "file-keeper"
ANSWER = "There are two files."

Script = Callable[[int], ToolCallPart | str]
"""What the model does at its n-th call (from 1): a tool call, or the final answer."""


def healthy_script(turn: int) -> ToolCallPart | str:
    """Looks into two directories, then answers."""
    return ToolCallPart("list_files", {"path": f"/data/{turn}"}) if turn <= 2 else ANSWER


def looping_script(calls: int) -> Script:
    """Asks for the same directory `calls` times before it answers."""
    return lambda turn: ToolCallPart("list_files", {"path": "/data"}) if turn <= calls else ANSWER


@dataclass
class TracedAgent:
    """An agent, and the provider that must be flushed before its spans are counted."""

    agent: Agent[None, str]
    provider: TracerProvider

    def run(self, session: str) -> str:
        """Runs once in the session, to the end, and exports the spans."""
        result = self.agent.run_sync("How many files are there?", conversation_id=session)
        self.provider.force_flush()
        return result.output


def build_agent(
    script: Script,
    exporter: SpanExporter,
    before_tool: Callable[[str], None] | None = None,
    include_content: bool = True,
) -> TracedAgent:
    """An agent that follows the script.

    Args:
        script: what its model does.
        exporter: where its spans go, for example `OTLPSpanExporter(endpoint=f"{http}/v1/traces")`.
        before_tool: is called with the tool's name before each call; a gate that raises stops the call.
        include_content: whether its spans carry arguments and messages, as is the library's default.
    """
    turns = 0

    def answer(messages: Sequence[ModelMessage], info: AgentInfo) -> ModelResponse:
        nonlocal turns
        turns += 1
        step = script(turns)
        return ModelResponse(parts=[TextPart(step) if isinstance(step, str) else step])

    provider = TracerProvider(resource=Resource.create({"service.name": SERVICE}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    settings = InstrumentationSettings(tracer_provider=provider, include_content=include_content)
    model = FunctionModel(answer, model_name="gpt-4o")
    agent = Agent(model, name=AGENT, capabilities=[Instrumentation(settings)])

    @agent.tool_plain
    def list_files(path: str) -> dict[str, Any]:
        if before_tool is not None:
            before_tool("list_files")
        return {"path": path, "files": [{"name": "a", "bytes": 1}, {"name": "b", "bytes": 2}], "total": 2}

    return TracedAgent(agent, provider)


def captured_run(script: Script, session: str, **options: Any) -> list[ReadableSpan]:
    """The spans of one run, in the order in which they ended."""
    exporter = InMemorySpanExporter()
    build_agent(script, exporter, **options).run(session)
    return list(exporter.get_finished_spans())


def as_request(spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    """The request that the OTLP exporter would send of these spans."""
    return encode_spans(spans)
