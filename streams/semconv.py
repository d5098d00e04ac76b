"""The one alias table: what OpenTelemetry gen_ai (old and new), OpenInference and OpenLLMetry call a thing.

The semantic conventions mark their gen_ai names as in development and rename them; nothing outside this file
knows a name. First in a tuple wins. Sources: opentelemetry.io/docs/specs/semconv/gen-ai, OpenInference's
`spec/semantic_conventions.md`, `opentelemetry-semantic-conventions-ai` (OpenLLMetry). Names that begin with
`watchkeeper.` are ours, for what no convention has a name for yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

Kind = Literal["llm", "tool", "agent", "retrieval", "evaluation", "handoff"]

ALIASES: Final[dict[str, tuple[str, ...]]] = {
    # who and where
    "agent": ("gen_ai.agent.name", "agent.name", "agent_name", "traceloop.agent.name"),
    "agent_version": ("gen_ai.agent.version", "service.version"),
    "session": (
        "gen_ai.conversation.id",
        "session.id",
        "langfuse.session.id",
        "traceloop.association.properties.session_id",
    ),
    "tenant": ("watchkeeper.tenant", "tenant.id", "traceloop.association.properties.tenant_id"),
    "service": ("service.name",),
    "process": ("service.instance.id",),
    "user": ("watchkeeper.user_hash",),
    # what kind of step
    "operation": ("gen_ai.operation.name",),
    "openinference_kind": ("openinference.span.kind",),
    "traceloop_kind": ("traceloop.span.kind",),
    "request_type": ("llm.request.type", "gen_ai.request.type"),
    # model calls
    "provider": ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system"),
    "request_model": ("gen_ai.request.model", "llm.request.model", "llm.model_name"),
    "response_model": ("gen_ai.response.model", "llm.response.model"),
    "prompt_version": (
        "gen_ai.prompt.version",
        "llm.prompt_template.version",
        "traceloop.prompt.version",
        "watchkeeper.prompt_version",
    ),
    "input_tokens": (
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.prompt_tokens",
        "llm.token_count.prompt",
        "llm.usage.prompt_tokens",
    ),
    "output_tokens": (
        "gen_ai.usage.output_tokens",
        "gen_ai.usage.completion_tokens",
        "llm.token_count.completion",
        "llm.usage.completion_tokens",
    ),
    "cache_read_tokens": (
        "gen_ai.usage.cache_read.input_tokens",
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.details.cache_read_tokens",
        "llm.token_count.prompt_details.cache_read",
    ),
    "cost_usd": ("operation.cost", "gen_ai.usage.cost", "llm.cost.total"),
    "ttft_s": ("gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token"),
    "finish_reasons": (
        "gen_ai.response.finish_reasons",
        "llm.finish_reason",
        "gen_ai.completion.0.finish_reason",
        "llm.response.finish_reason",
    ),
    "confidence": ("watchkeeper.confidence",),
    "tool_definitions": ("gen_ai.tool.definitions", "llm.tools"),
    # tools
    "tool": ("gen_ai.tool.name", "tool.name", "traceloop.entity.name"),
    "arguments": (
        "gen_ai.tool.call.arguments",
        "tool_arguments",
        "tool.parameters",
        "traceloop.entity.input",
        "input.value",
    ),
    "result": ("gen_ai.tool.call.result", "tool_response", "traceloop.entity.output", "output.value"),
    "credential": ("watchkeeper.credential",),
    "scope": ("watchkeeper.scope",),
    "effect": ("watchkeeper.effect",),
    "irreversible": ("watchkeeper.irreversible",),
    "approval": ("watchkeeper.approval",),
    "targets": ("watchkeeper.targets",),
    "foreign_arguments": ("watchkeeper.foreign_arguments",),
    # retrieval
    "index": (
        "gen_ai.data_source.id",
        "gen_ai.memory.store.id",
        "db.collection.name",
        "vector_db.collection",
        "traceloop.entity.name",
    ),
    "index_version": ("watchkeeper.index_version",),
    "documents": ("gen_ai.retrieval.documents", "retrieval.documents", "db.response.returned_rows"),
    "owner": ("watchkeeper.owner_hash",),
    "as_of": ("watchkeeper.as_of",),
    # evaluations
    "evaluation": ("gen_ai.evaluation.name", "eval.name"),
    "score": ("gen_ai.evaluation.score.value", "eval.score"),
    "label": ("gen_ai.evaluation.score.label", "eval.label"),
    "evaluator": ("gen_ai.evaluation.evaluator", "eval.evaluator"),
    # from one agent to another
    "to_agent": ("gen_ai.handoff.to_agent", "watchkeeper.to_agent", "to_agent"),
    "from_agent": ("gen_ai.handoff.from_agent", "watchkeeper.from_agent", "from_agent"),
    "intent": ("watchkeeper.intent",),
    "message": ("gen_ai.handoff.message", "watchkeeper.message"),
    # how it ended
    "error_type": ("error.type",),
    "exception_type": ("exception.type",),
    "event_name": ("event.name",),
    # what was said: read for a hash, a length and the refusal flag, then dropped
    "output_messages": ("gen_ai.output.messages", "gen_ai.completion", "pydantic_ai.output_messages"),
    "output_text": (
        "final_result",
        "llm.output_messages.0.message.content",
        "gen_ai.completion.0.content",
        "traceloop.entity.output",
        "output.value",
    ),
}

TOP_SCORE_KEYS: Final = ("score", "document.score", "relevance_score")
SLICE_PREFIX: Final = "watchkeeper.slice."
SLICE_NAMES: Final = ("deployment.environment.name", "deployment.environment")
OPENINFERENCE_DOCUMENTS: Final = "retrieval.documents."
OPENINFERENCE_SCORE: Final = ".document.score"
EVALUATION_EVENT: Final = "gen_ai.evaluation.result"
LLM_EVENT: Final = "gen_ai.client.inference.operation.details"
EXCEPTION_EVENT: Final = "exception"
REFUSED_FINISH: Final = frozenset({"refusal", "content_filter", "SAFETY"})

_BY_OPERATION: Final[dict[str, Kind]] = {
    "chat": "llm",
    "completion": "llm",
    "text_completion": "llm",
    "generate_content": "llm",
    "execute_tool": "tool",
    "invoke_agent": "agent",
    "invoke_workflow": "agent",
    "retrieval": "retrieval",
    "search_memory": "retrieval",
    "evaluate": "evaluation",
    "handoff": "handoff",
}
_BY_OPENINFERENCE: Final[dict[str, Kind]] = {
    "LLM": "llm",
    "TOOL": "tool",
    "AGENT": "agent",
    "RETRIEVER": "retrieval",
    "EVALUATOR": "evaluation",
}
_BY_TRACELOOP: Final[dict[str, Kind]] = {"agent": "agent", "workflow": "agent", "tool": "tool"}
_BY_REQUEST_TYPE: Final[dict[str, Kind]] = {"chat": "llm", "completion": "llm"}

_BY_ATTRIBUTE: Final[tuple[tuple[str, dict[str, Kind]], ...]] = (
    ("operation", _BY_OPERATION),
    ("openinference_kind", _BY_OPENINFERENCE),
    ("traceloop_kind", _BY_TRACELOOP),
    ("request_type", _BY_REQUEST_TYPE),
)


def first(attributes: Mapping[str, Any], field: str) -> Any:
    """The first of a field's names that has a value, or None."""
    for name in ALIASES[field]:
        value = attributes.get(name)
        if value is not None and value != "":
            return value
    return None


def kind_of(attributes: Mapping[str, Any]) -> Kind | None:
    """What kind of step a span is; None for what is not an agent's (HTTP, databases, embeddings, chains)."""
    for field, kinds in _BY_ATTRIBUTE:
        kind = kinds.get(str(first(attributes, field)))
        if kind is not None:
            return kind
    return "handoff" if first(attributes, "to_agent") is not None else None
