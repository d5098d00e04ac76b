"""Writes `schemas/generated`: a JSON Schema file a message, and one AsyncAPI 3 document of all topics.

    python -m schemas.export            # write
    python -m schemas.export --check    # exit 1 when the files are not what the models say

A new message is one line in `MESSAGES`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from pydantic import TypeAdapter

from schemas.control import CONTROL, CONTROL_ACK
from schemas.dead_letter import DEAD_LETTER
from schemas.detection import DETECTION
from schemas.event import AGENT_EVENT
from schemas.health import HEALTH
from schemas.incident import INCIDENT_EVENT
from schemas.profile import PROFILE
from schemas.topics import (
    ACKS,
    DEAD,
    DETECTIONS,
    EVENTS,
    INCIDENTS,
    OTLP_LOGS,
    OTLP_SPANS,
    PROFILES,
    TOPICS,
    WINDOWS,
    Topic,
)
from schemas.topics import (
    CONTROL as CONTROL_TOPIC,
)
from schemas.topics import (
    HEALTH as HEALTH_TOPIC,
)
from schemas.window import WINDOW_RECORD

GENERATED: Final = Path(__file__).parent / "generated"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
VERSION: Final = "1.0.0"
"""Of the document; the messages carry their own version in `schema`."""

Direction = Literal["send", "receive"]


class Message(NamedTuple):
    """What a topic carries. ``direction`` is the engine's; ``adapter`` is None for what others define."""

    topic: str
    name: str
    direction: Direction
    adapter: TypeAdapter[Any] | None
    content_type: str = "application/json"
    many: bool = False


MESSAGES: Final[tuple[Message, ...]] = (
    Message(EVENTS, "agent.event", "receive", AGENT_EVENT, many=True),
    Message(OTLP_SPANS, "otlp.spans", "receive", None, "application/x-protobuf"),
    Message(OTLP_LOGS, "otlp.logs", "receive", None, "application/x-protobuf"),
    Message(DEAD, "agent.event.dead", "send", DEAD_LETTER),
    Message(WINDOWS, "agent.window", "send", WINDOW_RECORD),
    Message(DETECTIONS, "agent.detection", "send", DETECTION),
    Message(PROFILES, "agent.profile", "send", PROFILE),
    Message(HEALTH_TOPIC, "agent.health", "send", HEALTH),
    Message(CONTROL_TOPIC, "agent.control", "send", CONTROL),
    Message(ACKS, "agent.control.ack", "receive", CONTROL_ACK),
    Message(INCIDENTS, "incident.event", "send", INCIDENT_EVENT),
)


def documents() -> dict[str, str]:
    """File name to content, for everything that is generated."""
    found = {
        _file(message): _text(json_schema(message)) for message in MESSAGES if message.adapter is not None
    }
    return {**found, "asyncapi.json": _text(asyncapi())}


def json_schema(message: Message) -> dict[str, Any]:
    """What a producer must send, JSON Schema 2020-12.

    ``schema`` and ``type`` have defaults in the models, for those who build them in Python; on the bus they
    are what a message is known by, so they are required.
    """
    if message.adapter is None:
        raise ValueError(f"{message.name} is defined elsewhere")
    schema = message.adapter.json_schema(by_alias=True, mode="validation")
    for definition in (schema, *schema.get("$defs", {}).values()):
        properties = definition.get("properties", {})
        named = [name for name in ("schema", "type") if "const" in properties.get(name, {})]
        if named:
            required = definition.get("required", [])
            definition["required"] = [*named, *(name for name in required if name not in named)]
    return {"$schema": DIALECT, "$id": _file(message), "title": message.name, **schema}


def asyncapi() -> dict[str, Any]:
    """Every topic with its key, its clean-up and its messages, as an AsyncAPI 3.0 document."""
    by_topic = {topic.name: [m for m in MESSAGES if m.topic == topic.name] for topic in TOPICS}
    operations = {
        f"{message.direction}.{message.name}": {
            "action": message.direction,
            "channel": {"$ref": f"#/channels/{message.topic}"},
            "messages": [{"$ref": f"#/channels/{message.topic}/messages/{message.name}"}],
        }
        for message in MESSAGES
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Watchkeeper",
            "version": VERSION,
            "description": "What crosses the bus. Operations are the engine's; agents do the other half.",
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic, by_topic[topic.name]) for topic in TOPICS},
        "operations": operations,
        "components": {"messages": {message.name: _message(message) for message in MESSAGES}},
    }


def _channel(topic: Topic, messages: list[Message]) -> dict[str, Any]:
    return {
        "address": topic.name,
        "description": topic.purpose,
        "messages": {m.name: {"$ref": f"#/components/messages/{m.name}"} for m in messages},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "topicConfiguration": {"cleanup.policy": [topic.cleanup]},
                "bindingVersion": "0.5.0",
            }
        },
        "x-keyed-by": topic.keyed_by,
    }


def _message(message: Message) -> dict[str, Any]:
    topic = next(topic for topic in TOPICS if topic.name == message.topic)
    key = {"type": "string", "description": topic.keyed_by}
    described: dict[str, Any] = {
        "name": message.name,
        "contentType": message.content_type,
        "bindings": {"kafka": {"key": key, "bindingVersion": "0.5.0"}},
    }
    if message.adapter is not None:
        one = {"$ref": f"./{_file(message)}"}
        many = {"oneOf": [one, {"type": "array", "items": one, "minItems": 1, "maxItems": 1000}]}
        described["payload"] = {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": many if message.many else one,
        }
    return described


def _file(message: Message) -> str:
    return f"{message.name}.schema.json"


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def stale(folder: Path) -> list[str]:
    """The names of the files in the folder that are missing, left over or not what the models say."""
    wanted = documents()
    present = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in {*wanted, *present} if wanted.get(name) != present.get(name))


def write(folder: Path) -> None:
    """Writes every document and removes what is no longer one."""
    folder.mkdir(exist_ok=True)
    wanted = documents()
    for path in folder.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        names = stale(GENERATED)
        if names:
            print(f"run python -m schemas.export and commit: {', '.join(names)}", file=sys.stderr)
        return 1 if names else 0
    if arguments:
        print("usage: python -m schemas.export [--check]", file=sys.stderr)
        return 2
    write(GENERATED)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
