"""What the HTTP API counts; `/metrics` shows these and everything else in the registry."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter


@dataclass(frozen=True, slots=True)
class Metrics:
    """The counters of one app in one registry."""

    registry: CollectorRegistry
    events: Counter
    otlp_requests: Counter
    allow: Counter
    slack: Counter


def make_metrics(registry: CollectorRegistry | None = None) -> Metrics:
    registry = registry or CollectorRegistry()
    prefix = "watchkeeper_http"
    return Metrics(
        registry,
        Counter(f"{prefix}_events", "Agent events received over HTTP.", ["result"], registry=registry),
        Counter(
            f"{prefix}_otlp_requests", "OTLP requests received.", ["signal", "result"], registry=registry
        ),
        Counter(f"{prefix}_allow", "Decisions given to enforcement points.", ["decision"], registry=registry),
        Counter(f"{prefix}_slack", "Slack interactions received.", ["result"], registry=registry),
    )
