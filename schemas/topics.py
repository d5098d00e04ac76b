"""Every topic's name, key and clean-up, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

EVENTS = "agent.events"
OTLP_SPANS = "otlp_spans"
OTLP_LOGS = "otlp_logs"
DEAD = "agent.events.dead"
WINDOWS = "agent.windows"
DETECTIONS = "agent.detections"
PROFILES = "agent.profiles"
HEALTH = "agent.health"
CONTROL = "agent.control"
ACKS = "agent.control.acks"
INCIDENTS = "incident.events"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of the contract. ``keyed_by`` says what the key holds, for people and the AsyncAPI document."""

    name: str
    keyed_by: str
    cleanup: Literal["delete", "compact"]
    purpose: str


TOPICS: tuple[Topic, ...] = (
    Topic(EVENTS, "session", "delete", "What agents did: one event or an array of up to 1,000."),
    Topic(OTLP_SPANS, "any", "delete", "OTLP traces, protobuf or JSON, as the Collector writes them."),
    Topic(OTLP_LOGS, "any", "delete", "OTLP logs, protobuf or JSON, as the Collector writes them."),
    Topic(DEAD, "as received", "delete", "What could not be read, and why."),
    Topic(WINDOWS, "tenant/agent", "delete", "Mergeable per-agent window summaries."),
    Topic(DETECTIONS, "tenant/agent", "delete", "Patterns found."),
    Topic(PROFILES, "tenant/agent", "compact", "What is normal for an agent, learned."),
    Topic(HEALTH, "tenant/agent", "compact", "Composite health score and its parts."),
    Topic(CONTROL, "target", "compact", "The wanted containment state of a target, signed."),
    Topic(ACKS, "target", "delete", "What an enforcement point did with a command."),
    Topic(INCIDENTS, "incident id", "delete", "The incident log, from the store's outbox."),
)

BY_NAME: dict[str, Topic] = {topic.name: topic for topic in TOPICS}


def agent_key(tenant: str, agent: str) -> bytes:
    """The key of everything that is about an agent: ``tenant/agent``."""
    return f"{tenant}/{agent}".encode()
