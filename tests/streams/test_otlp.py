"""OTLP into agent events: three conventions, two encodings, no content, the same again on a replay."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from schemas.dead_letter import DEAD_LETTER
from schemas.event import (
    AGENT_EVENT,
    AgentEvent,
    Evaluation,
    LlmCall,
    Message,
    Retrieval,
    SessionEnd,
    SessionStart,
    ToolCall,
)
from schemas.topics import BY_NAME
from streams import otlp
from streams.decode import Flaw
from streams.otlp import OtlpProcessor, Traces, convert, otlp_stage
from streams.stage import Output, PlainRecord, RecordBatch

NOON_NS = 1_772_366_400 * 10**9
NOON_MS = NOON_NS // 10**6
SECRET = "the customer's home address"


def any_value(value: Any) -> AnyValue:
    found = AnyValue()
    if isinstance(value, bool):
        found.bool_value = value
    elif isinstance(value, int):
        found.int_value = value
    elif isinstance(value, float):
        found.double_value = value
    elif isinstance(value, list):
        found.array_value.values.extend(any_value(item) for item in value)
    elif isinstance(value, dict):
        found.kvlist_value.values.extend(pairs(value))
    else:
        found.string_value = value
    return found


def pairs(attributes: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in attributes.items()]


def request(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> ExportTraceServiceRequest:
    """Spans given as {"n": number, "attributes", "name", "trace", "parent", "failed", "events", "ms"}."""
    message = ExportTraceServiceRequest()
    group = message.resource_spans.add()
    group.resource.attributes.extend(pairs({"service.name": "svc"} if resource is None else resource))
    scope = group.scope_spans.add()
    for place, given_span in enumerate(spans, 1):
        number = given_span.get("n", place)
        end = NOON_NS + number * 10**6
        span = scope.spans.add(
            name=given_span.get("name", "span"),
            trace_id=given_span.get("trace", 1).to_bytes(16, "big"),
            span_id=number.to_bytes(8, "big"),
            parent_span_id=given_span.get("parent", 99).to_bytes(8, "big")
            if given_span.get("parent", 99)
            else b"",
            start_time_unix_nano=end - given_span.get("ms", 5) * 10**6,
            end_time_unix_nano=end,
            attributes=pairs(given_span.get("attributes", {})),
        )
        span.status.code = Status.STATUS_CODE_ERROR if given_span.get("failed") else Status.STATUS_CODE_UNSET
        for name, attributes in given_span.get("events", []):
            span.events.add(name=name, attributes=pairs(attributes))
    return message


def as_json(message: ExportTraceServiceRequest | ExportLogsServiceRequest) -> bytes:
    """OTLP/JSON of a request: protobuf's JSON with hexadecimal ids and enums as numbers."""

    def hexadecimal(node: Any) -> None:
        if isinstance(node, dict):
            for name in ("traceId", "spanId", "parentSpanId"):
                if name in node:
                    node[name] = base64.b64decode(node[name]).hex()
            for inner in node.values():
                hexadecimal(inner)
        elif isinstance(node, list):
            for inner in node:
                hexadecimal(inner)

    document = MessageToDict(message, use_integers_for_enums=True)
    hexadecimal(document)
    return json.dumps(document).encode()


def events_of(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> list[AgentEvent]:
    """What the spans become, both encodings giving the same; without the announcement of the session."""
    message = request(*spans, resource=resource)
    found = convert(message.SerializeToString(), "otlp_spans", 0, Traces()).events
    assert convert(as_json(message), "otlp_spans", 0, Traces()).events == found
    assert not any(isinstance(item, Flaw) for item in found)
    return [item for item in found if not isinstance(item, Flaw | SessionStart)]


def only(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> Any:
    (event,) = events_of(*spans, resource=resource)
    return event


def chat(**attributes: Any) -> dict[str, Any]:
    base = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "gen_ai.agent.name": "support"}
    return {"attributes": {**base, **{name.replace("__", "."): value for name, value in attributes.items()}}}


class TestConventions:
    @pytest.mark.parametrize(
        "attributes",
        [
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.response.model": "gpt-4o-2024-08-06",
                "gen_ai.usage.input_tokens": 1_000,
                "gen_ai.usage.output_tokens": 100,
                "gen_ai.response.finish_reasons": ["stop"],
                "gen_ai.agent.name": "support",
                "gen_ai.conversation.id": "conv-1",
                "gen_ai.output.messages": json.dumps(
                    [{"role": "assistant", "parts": [{"type": "text", "content": SECRET}]}]
                ),
            },
            {
                "gen_ai.operation.name": "chat",
                "gen_ai.system": "openai",
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.response.model": "gpt-4o-2024-08-06",
                "gen_ai.usage.prompt_tokens": 1_000,
                "gen_ai.usage.completion_tokens": 100,
                "gen_ai.completion.0.finish_reason": "stop",
                "gen_ai.completion.0.content": SECRET,
                "gen_ai.agent.name": "support",
                "session.id": "conv-1",
            },
            {
                "openinference.span.kind": "LLM",
                "llm.provider": "openai",
                "llm.model_name": "gpt-4o",
                "gen_ai.response.model": "gpt-4o-2024-08-06",
                "llm.token_count.prompt": 1_000,
                "llm.token_count.completion": 100,
                "llm.finish_reason": "stop",
                "llm.output_messages.0.message.content": SECRET,
                "agent.name": "support",
                "session.id": "conv-1",
            },
            {
                "llm.request.type": "chat",
                "gen_ai.system": "openai",
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.response.model": "gpt-4o-2024-08-06",
                "gen_ai.usage.prompt_tokens": 1_000,
                "gen_ai.usage.completion_tokens": 100,
                "gen_ai.completion.0.content": SECRET,
                "gen_ai.completion.0.finish_reason": "stop",
                "traceloop.agent.name": "support",
                "traceloop.association.properties.session_id": "conv-1",
            },
        ],
        ids=["gen_ai", "gen_ai_old", "openinference", "openllmetry"],
    )
    def test_a_model_call_is_the_same_event(self, attributes: dict[str, Any]) -> None:
        event = only({"attributes": attributes, "ms": 250})
        assert isinstance(event, LlmCall)
        assert (event.agent, event.session, event.provider) == ("support", "conv-1", "openai")
        assert (event.request_model, event.response_model) == ("gpt-4o", "gpt-4o-2024-08-06")
        assert (event.input_tokens, event.output_tokens) == (1_000, 100)
        assert event.cost_usd == pytest.approx(0.0035)
        assert (event.finish_reasons, event.refusal, event.output_chars) == (["stop"], False, len(SECRET))
        assert (event.duration_ms, event.status) == (250, "ok")
        assert SECRET not in event.model_dump_json()

    @pytest.mark.parametrize(
        "attributes",
        [
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "search",
                "gen_ai.tool.call.arguments": '{"q": "x", "n": 2}',
                "gen_ai.tool.call.result": '{"rows": [{"id": 1}], "total": 1}',
            },
            {
                "openinference.span.kind": "TOOL",
                "tool.name": "search",
                "input.value": '{"n": 2, "q": "x"}',
                "output.value": '{"total": 1, "rows": [{"id": 1}]}',
            },
            {
                "traceloop.span.kind": "tool",
                "traceloop.entity.name": "search",
                "traceloop.entity.input": '{"n": 2, "q": "x"}',
                "traceloop.entity.output": '{"total": 1, "rows": [{"id": 1}]}',
            },
            {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": "search",
                "gen_ai.tool.call.arguments": {"q": "x", "n": 2},
                "gen_ai.tool.call.result": {"rows": [{"id": 1}], "total": 1},
            },
        ],
        ids=["gen_ai", "openinference", "openllmetry", "structured"],
    )
    def test_a_tool_call_has_the_same_fingerprints(self, attributes: dict[str, Any]) -> None:
        event = only({"attributes": attributes})
        assert isinstance(event, ToolCall)
        assert (event.tool, event.argument_keys) == ("search", ["n", "q"])
        assert (event.result_items, event.result_total) == (1, 1)
        assert event.result_shape == "{rows:[{id:number}],total:number}"
        same = only({"attributes": {**attributes, "gen_ai.tool.name": "search"}})
        assert (event.arguments_hash, event.result_hash) == (same.arguments_hash, same.result_hash)

    def test_fingerprints_agree_over_the_conventions(self) -> None:
        new = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.arguments": '{"a": 1, "b": [2]}'}
        old = {"openinference.span.kind": "TOOL", "input.value": '{"b": [2], "a": 1}'}
        assert only({"attributes": new}).arguments_hash == only({"attributes": old}).arguments_hash

    def test_unseen_arguments_never_look_repeated(self) -> None:
        span = {"attributes": {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "search"}}
        first, second = events_of(span, span)
        assert isinstance(first, ToolCall)
        assert isinstance(second, ToolCall)
        assert first.arguments_hash != second.arguments_hash
        assert first.result_hash is None

    def test_a_retrieval(self) -> None:
        documents = {f"retrieval.documents.{n}.document.score": n / 10 for n in range(3)}
        event = only({"name": "docs", "attributes": {"openinference.span.kind": "RETRIEVER", **documents}})
        assert isinstance(event, Retrieval)
        assert (event.index, event.documents, event.top_score) == ("docs", 3, 0.2)
        new = {
            "gen_ai.operation.name": "retrieval",
            "gen_ai.data_source.id": "docs",
            "gen_ai.retrieval.documents": json.dumps([{"id": "a", "score": 0.9}, {"id": "b", "score": 0.4}]),
        }
        event = only({"attributes": new})
        assert (event.index, event.documents, event.top_score) == ("docs", 2, 0.9)

    def test_evaluations_of_a_span(self) -> None:
        judged = [
            (
                "gen_ai.evaluation.result",
                {"gen_ai.evaluation.name": name, "gen_ai.evaluation.score.value": 0.5},
            )
            for name in ("groundedness", "tone")
        ]
        found = events_of({**chat(), "events": judged})
        call = next(event for event in found if isinstance(event, LlmCall))
        scores = [event for event in found if isinstance(event, Evaluation)]
        assert [(event.name, event.score, event.ref) for event in scores] == [
            ("groundedness", 0.5, call.event_id),
            ("tone", 0.5, call.event_id),
        ]

    def test_a_handoff(self) -> None:
        attributes = {"gen_ai.operation.name": "handoff", "gen_ai.handoff.from_agent": "a"}
        event = only({"attributes": {**attributes, "gen_ai.handoff.to_agent": "b"}})
        assert isinstance(event, Message)
        assert (event.agent, event.to_agent, event.intent) == ("a", "b", "delegate")

    def test_what_is_no_agent_s_is_skipped_and_counted(self) -> None:
        spans: list[dict[str, Any]] = [
            {"attributes": {"http.request.method": "GET"}},
            {"attributes": {"openinference.span.kind": "CHAIN"}},
            {"attributes": {"gen_ai.operation.name": "embeddings", "gen_ai.usage.input_tokens": 5}},
        ]
        conversion = convert(request(*spans).SerializeToString(), "otlp_spans", 0, Traces())
        assert (conversion.events, conversion.skipped) == ([], 3)

    def test_our_own_names_fill_what_no_convention_has(self) -> None:
        own = {"watchkeeper.effect": "email.send", "watchkeeper.irreversible": True, "watchkeeper.targets": 7}
        slices = {
            "watchkeeper.slice.language": "de",
            "deployment.environment.name": "prod",
            "other": "dropped",
        }
        event = only({"attributes": {"gen_ai.operation.name": "execute_tool", **own, **slices}})
        assert (event.effect, event.irreversible, event.targets) == ("email.send", True, 7)
        assert event.attributes == {"language": "de", "deployment.environment.name": "prod"}


class TestHowItEnded:
    def test_a_failed_span_is_an_error_with_its_type(self) -> None:
        raised = [("exception", {"exception.type": "TimeoutError", "exception.message": SECRET})]
        event = only({**chat(), "failed": True, "events": raised})
        assert (event.status, event.error_type) == ("error", "TimeoutError")
        assert SECRET not in event.model_dump_json()
        assert only(chat(error__type="rate_limit")).error_type == "rate_limit"

    def test_a_refusal_is_a_flag(self) -> None:
        said = json.dumps(
            [{"role": "assistant", "parts": [{"type": "text", "content": "I can't help with that."}]}]
        )
        assert only(chat(gen_ai__output__messages=said)).refusal is True
        assert only(chat(gen_ai__response__finish_reasons=["refusal"])).refusal is True
        assert only(chat()).refusal is None

    @pytest.mark.parametrize("model", ["gpt-4o", "no-such-model"])
    def test_an_unknown_price_is_unknown(self, model: str) -> None:
        span = chat(
            gen_ai__request__model=model, gen_ai__usage__input_tokens=9, gen_ai__usage__output_tokens=1
        )
        assert (only(span).cost_usd is None) == (model != "gpt-4o")
        assert only(chat(gen_ai__request__model=model)).cost_usd is None

    def test_tokens_are_counted_on_model_calls_only(self) -> None:
        run = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.agent.name": "a",
        }
        found = events_of(chat(gen_ai__usage__input_tokens=10), {"attributes": run, "parent": 0})
        assert sum(event.input_tokens for event in found if isinstance(event, LlmCall)) == 10
        assert [type(event) for event in found] == [LlmCall, SessionEnd]

    @pytest.mark.parametrize(
        ("change", "outcome"),
        [
            ({}, "completed"),
            ({"failed": True}, "failed"),
            ({"attributes": {"final_result": "I'm sorry, but I can't help with that."}}, "refused"),
        ],
    )
    def test_how_a_run_ended(self, change: dict[str, Any], outcome: str) -> None:
        attributes = {"gen_ai.operation.name": "invoke_agent", **change.get("attributes", {})}
        event = only({**change, "attributes": attributes, "parent": 0})
        assert (event.type, event.outcome) == ("session.end", outcome)

    def test_a_part_of_a_run_does_not_end_the_session(self) -> None:
        def run(name: str, n: int, parent: int) -> dict[str, Any]:
            attributes = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": name}
            return {"attributes": attributes, "n": n, "parent": parent}

        found = events_of(chat(), run("helper", 2, 8), run("support", 3, 9))
        assert [event.agent for event in found if isinstance(event, SessionEnd)] == ["support"]


class TestWhoAndWhere:
    def test_without_a_name_the_agent_is_the_service_and_the_session_the_trace(self) -> None:
        event = only({"attributes": {"gen_ai.operation.name": "chat"}}, resource={"service.name": "svc"})
        assert (event.agent, event.session) == ("svc", (1).to_bytes(16, "big").hex())

    def test_a_trace_remembers_its_agent_and_session(self) -> None:
        traces = Traces()
        nameless = {"attributes": {"gen_ai.operation.name": "chat"}}
        named = chat(gen_ai__conversation__id="conv-1")
        found = [
            convert(request({**span, "n": n}).SerializeToString(), "otlp_spans", n, traces).events[-1]
            for n, span in enumerate([nameless, named, nameless], 1)
        ]
        assert [(event.agent, event.session[:6]) for event in found if not isinstance(event, Flaw)] == [
            ("svc", "000000"),
            ("support", "conv-1"),
            ("support", "conv-1"),
        ]

    def test_within_one_request_what_any_span_says_holds_for_all(self) -> None:
        run = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "support"}
        found = events_of({"attributes": {"gen_ai.operation.name": "chat"}}, {"attributes": run, "parent": 0})
        assert {event.agent for event in found} == {"support"}

    def test_the_session_is_announced_once_with_its_tools(self) -> None:
        tools = json.dumps(
            [
                {
                    "type": "function",
                    "name": "search",
                    "parameters": {"properties": {"q": {}, "n": {}}, "required": ["q"]},
                }
            ]
        )
        message = request(
            chat(gen_ai__tool__definitions=tools), chat(gen_ai__tool__definitions=tools), chat()
        )
        traces = Traces()
        first = convert(message.SerializeToString(), "otlp_spans", 0, traces).events
        starts = [event for event in first if isinstance(event, SessionStart)]
        assert len(starts) == 1
        assert starts[0].declared_tools == ["search"]
        assert starts[0].tool_schemas is not None
        assert starts[0].tool_schemas["search"].required == ["q"]
        later = convert(request({**chat(), "n": 9}).SerializeToString(), "otlp_spans", 1, traces).events
        assert not any(isinstance(event, SessionStart) for event in later)

    @pytest.mark.parametrize(
        ("span", "resource", "word"),
        [
            ({"attributes": {"gen_ai.operation.name": "chat"}}, {}, "agent"),
            ({**chat(), "trace": 0}, None, "session"),
            ({**chat(), "n": 0}, None, "span id"),
            (chat(gen_ai__agent__name="x" * 257), None, "agent"),
            (chat(gen_ai__agent__name="a\x00b"), None, "U+0000"),
            (
                {"attributes": {"gen_ai.operation.name": "evaluate", "gen_ai.evaluation.score.value": 7.0}},
                None,
                "score",
            ),
        ],
    )
    def test_what_cannot_be_placed_is_said(
        self, span: dict[str, Any], resource: dict[str, Any] | None, word: str
    ) -> None:
        good = {**chat(), "n": 7, "trace": 5}
        message = request(span, good, resource=resource)
        found = convert(message.SerializeToString(), "otlp_spans", 0, Traces()).events
        flaws = [item for item in found if isinstance(item, Flaw)]
        assert any(word in flaw.detail for flaw in flaws)
        assert any(isinstance(item, LlmCall) and item.span_id == "0000000000000007" for item in found)


class TestLogs:
    def log(self, name: str, attributes: dict[str, Any]) -> list[AgentEvent | Flaw]:
        message = ExportLogsServiceRequest()
        group = message.resource_logs.add()
        group.resource.attributes.extend(pairs({"service.name": "svc"}))
        group.scope_logs.add().log_records.add(
            time_unix_nano=NOON_NS,
            event_name=name,
            trace_id=b"\x01" * 16,
            span_id=b"\x02" * 8,
            attributes=pairs(attributes),
        )
        found = convert(message.SerializeToString(), "otlp_logs", 0, Traces())
        assert convert(as_json(message), "otlp_logs", 0, Traces()) == found
        assert len(found.events) + found.skipped >= 1
        return found.events

    def test_an_evaluation(self) -> None:
        attributes = {"gen_ai.evaluation.name": "tone", "gen_ai.evaluation.score.value": 0.25}
        (event,) = self.log("gen_ai.evaluation.result", attributes)
        assert isinstance(event, Evaluation)
        assert (event.name, event.score) == ("tone", 0.25)

    def test_a_call_told_by_span_and_log_is_one_event(self) -> None:
        attributes = {"gen_ai.request.model": "gpt-4o", "gen_ai.agent.name": "support"}
        told = [
            event
            for event in self.log("gen_ai.client.inference.operation.details", attributes)
            if isinstance(event, LlmCall)
        ]
        message = request(chat())
        span = message.resource_spans[0].scope_spans[0].spans[0]
        span.trace_id, span.span_id = b"\x01" * 16, b"\x02" * 8
        found = convert(message.SerializeToString(), "otlp_spans", 0, Traces()).events
        assert told[0].event_id in {event.event_id for event in found if not isinstance(event, Flaw)}

    def test_other_logs_are_skipped(self) -> None:
        assert self.log("gen_ai.user.message", {"content": SECRET}) == []


class TestUnreadable:
    @pytest.mark.parametrize("topic", ["otlp_spans", "otlp_logs"])
    @pytest.mark.parametrize(
        "value",
        [
            None,
            b"\xff\xff\xff",
            b"{",
            b"{}",
            b'{"resourceSpans": 3, "resourceLogs": 3}',
            b'{"resourceSpans": [3], "resourceLogs": [3]}',
            b'{"resourceSpans": [{"scopeSpans": {}}], "resourceLogs": [{"scopeLogs": {}}]}',
            b"[]",
            b"\x08\x01",
        ],
    )
    def test_it_is_one_flaw(self, value: bytes | None, topic: str) -> None:
        (flaw,) = convert(value, topic, 0, Traces()).events
        assert isinstance(flaw, Flaw)

    @pytest.mark.parametrize(
        "change",
        [
            {"traceId": "xyz"},
            {"traceId": 3},
            {"startTimeUnixNano": "soon"},
            {"endTimeUnixNano": str(2**64)},
            {"endTimeUnixNano": "-1"},
            {"attributes": [{"key": "a", "value": 3}]},
            {"attributes": {"a": 1}},
            {"status": "bad"},
            {"events": [{"attributes": [{"key": 3}]}]},
        ],
    )
    def test_a_bad_span_leaves_its_neighbours(self, change: dict[str, Any]) -> None:
        document = json.loads(as_json(request(chat(), {**chat(), "n": 2})))
        document["resourceSpans"][0]["scopeSpans"][0]["spans"][0].update(change)
        found = convert(json.dumps(document).encode(), "otlp_spans", 0, Traces()).events
        assert [type(item) for item in found if not isinstance(item, SessionStart)] == [Flaw, LlmCall]

    def test_depth_is_bounded(self) -> None:
        deep: Any = "x"
        for _ in range(40):
            deep = [deep]
        message = request(chat(deep=deep))
        for value in (message.SerializeToString(), as_json(message)):
            (flaw,) = convert(value, "otlp_spans", 0, Traces()).events
            assert isinstance(flaw, Flaw)
            assert flaw.reason == "too_deep"

    @settings(max_examples=150, deadline=None)
    @given(
        st.binary(max_size=60) | st.text(max_size=60).map(str.encode),
        st.sampled_from(["otlp_spans", "otlp_logs"]),
    )
    def test_no_bytes_raise(self, value: bytes, topic: str) -> None:
        conversion = convert(value, topic, 0, Traces())
        assert conversion.events or conversion.skipped or not value or value.startswith(b"\n")


def batch(records: Iterable[tuple[int, bytes | None]], topic: str = "otlp_spans") -> RecordBatch:
    plain = [PlainRecord(topic, 0, offset, NOON_MS, b"k", value) for offset, value in records]
    return RecordBatch(topic, 0, plain)


class TestStage:
    def test_the_docstring_opens_with_the_way(self) -> None:
        stage = otlp_stage()
        opening = (otlp.__doc__ or "").splitlines()[0]
        assert opening.startswith(f"{', '.join(stage.sources)} → {stage.outputs[0]}")
        assert set(stage.sources) | set(stage.outputs) <= set(BY_NAME)

    def test_events_go_out_by_session_with_the_record_s_time(self) -> None:
        value = request(chat(gen_ai__conversation__id="conv-1")).SerializeToString()
        outputs = list(OtlpProcessor().process(batch([(0, value)])))
        assert {(out.topic, out.key, out.timestamp_ms) for out in outputs} == {
            ("agent.events", b"conv-1", NOON_MS)
        }
        assert [AGENT_EVENT.validate_json(out.value or b"").type for out in outputs] == [
            "session.start",
            "llm.call",
        ]

    def test_what_cannot_be_read_is_a_dead_letter(self) -> None:
        outputs = list(OtlpProcessor().process(batch([(4, b"\xff"), (5, None)])))
        letters = [DEAD_LETTER.validate_json(out.value or b"") for out in outputs]
        assert [
            (out.topic, letter.topic, letter.offset) for out, letter in zip(outputs, letters, strict=True)
        ] == [
            ("agent.events.dead", "otlp_spans", 4),
            ("agent.events.dead", "otlp_spans", 5),
        ]

    def test_a_skewed_span_is_a_dead_letter(self) -> None:
        record = PlainRecord(
            "otlp_spans", 0, 0, NOON_MS + 25 * 3_600_000, None, request(chat()).SerializeToString()
        )
        outputs = list(OtlpProcessor().process(RecordBatch("otlp_spans", 0, [record])))
        assert {DEAD_LETTER.validate_json(out.value or b"").reason for out in outputs} == {"clock"}

    def values(self) -> list[bytes]:
        """Six traces, one after the other, each without a name at first and with tools at last."""
        nameless = {"attributes": {"gen_ai.operation.name": "chat"}}
        tools = json.dumps([{"name": "search"}])
        named = chat(gen_ai__conversation__id="c")
        spans = [nameless, nameless, named, chat(gen_ai__tool__definitions=tools)]
        return [
            request({**span, "n": n + 1, "trace": 1 + n // 4}).SerializeToString()
            for n, span in enumerate(spans * 6)
        ]

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_a_crash_anywhere_tells_the_same_again(self, data: st.DataObject) -> None:
        """State may be written later or earlier than the marker: any key as of any later point."""
        records = list(enumerate(self.values()))
        whole = OtlpProcessor()
        expected: list[list[Output]] = []
        states: list[dict[bytes, bytes | None]] = [{}]
        for record in records:
            expected.append(list(whole.process(batch([record]))))
            states.append({**states[-1], **dict(whole.dirty())})
        committed = data.draw(st.integers(0, len(records)))
        again = OtlpProcessor()
        for key in states[-1]:
            seen = data.draw(st.integers(committed, len(records)))
            if key in states[seen]:
                again.restore(key, states[seen][key])
        again.restore_marker(whole.marker())
        replayed = [list(again.process(batch([record]))) for record in records[committed:]]
        assert replayed == expected[committed:]

    def test_memory_is_bounded_and_forgets_the_first_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(otlp, "MAX_TRACES", 50)
        processor = OtlpProcessor()
        for n in range(60):
            value = request({**chat(), "n": n + 1, "trace": n + 1}).SerializeToString()
            list(processor.process(batch([(n, value)])))
        dirty = dict(processor.dirty())
        assert sum(value is not None for value in dirty.values()) == 50
        assert sum(value is None for value in dirty.values()) == 10
        first = b"otlp_spans/" + (1).to_bytes(16, "big").hex().encode()
        assert dirty[first] is None
        assert list(processor.dirty()) == []
