"""What is generated is what the models say, and says what the decoder does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from schemas.event import AGENT_EVENT, EVENT_TYPES
from schemas.export import GENERATED, MESSAGES, asyncapi, documents, json_schema, main, stale, write
from schemas.topics import TOPICS
from streams.decode import Flaw, read_events
from tests.streams.test_decode import EVENT

EVENT_SCHEMA = json_schema(MESSAGES[0])
VALIDATOR = Draft202012Validator(EVENT_SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)

SAMPLES: dict[str, dict[str, Any]] = {
    "session.start": {
        "declared_tools": ["search"],
        "tool_schemas": {"search": {"required": ["q"], "properties": ["q", "limit"]}},
        "budget": {"tokens": 1_000, "cost_usd": 1.5, "fan_out": {"email.send": 20}},
    },
    "session.end": {"outcome": "completed"},
    "llm.call": {"request_model": "gpt-4o", "input_tokens": 1, "output_tokens": 2, "status": "ok"},
    "tool.call": {"tool": "search", "arguments_hash": "ab", "status": "error", "error_type": "Timeout"},
    "effect": {"ref": "e-0", "confirmed": False},
    "retrieval": {"index": "docs", "documents": 3, "top_score": 0.7, "as_of": "2026-02-01T00:00:00Z"},
    "message": {"to_agent": "verifier", "intent": "clarification"},
    "escalation": {"to": "human"},
    "evaluation": {"name": "groundedness", "score": 0.4},
    "canary": {"canary": "c-1", "passed": True},
    "deployment": {"component": "prompt", "name": "system", "to_version": "v2"},
    "feedback": {"kind": "ticket"},
    "heartbeat": {},
}
BASE = {name: EVENT[name] for name in ("schema", "event_id", "time", "agent", "session")}


def test_the_files_in_the_repository_are_up_to_date() -> None:
    assert stale(GENERATED) == []


def test_a_stale_missing_or_left_over_file_is_found(tmp_path: Path) -> None:
    write(tmp_path)
    assert stale(tmp_path) == []
    (tmp_path / "asyncapi.json").write_text("{}")
    (tmp_path / "agent.event.schema.json").unlink()
    (tmp_path / "old.schema.json").write_text("{}")
    assert stale(tmp_path) == ["agent.event.schema.json", "asyncapi.json", "old.schema.json"]
    write(tmp_path)
    assert stale(tmp_path) == []


def test_wrong_usage_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--chekc"]) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(documents()))
def test_every_document_is_json_and_every_schema_a_schema(name: str) -> None:
    document = json.loads(documents()[name])
    if name != "asyncapi.json":
        Draft202012Validator.check_schema(document)


def test_every_event_type_has_a_sample() -> None:
    assert set(SAMPLES) == {str(model.model_fields["type"].default) for model in EVENT_TYPES}


@pytest.mark.parametrize("kind", sorted(SAMPLES))
def test_schema_and_decoder_take_the_same_events(kind: str) -> None:
    event = {**BASE, "type": kind, **SAMPLES[kind], "not_in_the_schema": {"x": 1}}
    assert list(VALIDATOR.iter_errors(event)) == []
    (read,) = read_events(json.dumps(event).encode())
    assert not isinstance(read, Flaw)
    again = json.loads(AGENT_EVENT.dump_json(read, exclude_none=True))
    assert list(VALIDATOR.iter_errors(again)) == []


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("llm.call", {"input_tokens": -1}),
        ("llm.call", {"input_tokens": "1"}),
        ("llm.call", {"input_tokens": 1.5}),
        ("llm.call", {"input_tokens": True}),
        ("llm.call", {"input_tokens": None}),
        ("llm.call", {"status": "fine"}),
        ("llm.call", {"confidence": 1.1}),
        ("llm.call", {"embedding": [0.0] * 65}),
        ("llm.call", {"schema": "agent.event/2"}),
        ("llm.call", {"type": "telepathy"}),
        ("llm.call", {"time": 1_772_366_400}),
        ("tool.call", {"tool": ""}),
        ("tool.call", {"attributes": {"a": []}}),
        ("session.start", {"budget": {"tokens": -1}}),
    ],
)
def test_schema_and_decoder_refuse_the_same_events(kind: str, change: dict[str, Any]) -> None:
    event = {**BASE, "type": kind, **SAMPLES[kind], **change}
    assert list(VALIDATOR.iter_errors(event)) != []
    (read,) = read_events(json.dumps(event).encode())
    assert isinstance(read, Flaw)


@pytest.mark.parametrize("missing", ["schema", "type", "event_id", "time", "agent", "session"])
def test_schema_and_decoder_need_the_same_fields(missing: str) -> None:
    event = {name: value for name, value in {**BASE, "type": "heartbeat"}.items() if name != missing}
    assert list(VALIDATOR.iter_errors(event)) != []
    (read,) = read_events(json.dumps(event).encode())
    assert isinstance(read, Flaw)


def test_asyncapi_has_every_topic_of_the_table_and_every_message() -> None:
    document = asyncapi()
    assert document["asyncapi"].startswith("3.")
    assert list(document["channels"]) == [topic.name for topic in TOPICS]
    for topic in TOPICS:
        channel = document["channels"][topic.name]
        configuration = channel["bindings"]["kafka"]["topicConfiguration"]
        assert configuration == {"cleanup.policy": [topic.cleanup]}
        assert channel["x-keyed-by"] == topic.keyed_by
    carried = {name for channel in document["channels"].values() for name in channel["messages"]}
    assert carried == set(document["components"]["messages"]) == {message.name for message in MESSAGES}


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi()
    files = documents()
    references: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            references.extend([node["$ref"]] if "$ref" in node else [])
            for inner in node.values():
                walk(inner)
        elif isinstance(node, list):
            for inner in node:
                walk(inner)

    walk(document)
    for reference in references:
        if reference.startswith("./"):
            assert reference.removeprefix("./") in files
        else:
            found: Any = document
            for part in reference.removeprefix("#/").split("/"):
                found = found[part]
    assert len(references) > len(MESSAGES)
