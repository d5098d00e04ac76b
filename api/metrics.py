"""What the HTTP API counts; `/metrics` shows these and everything else in the registry."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter

STALE_S: Final = 60.0
"""A file that is older was written by a worker that is gone: it would show its last counts for ever."""


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


def written(file: Path | None) -> bytes:
    """What a stream worker wrote into the file lately; nothing when it did not."""
    if file is None:
        return b""
    try:
        fresh = time.time() - file.stat().st_mtime < STALE_S
        return file.read_bytes() if fresh else b""
    except OSError:
        return b""
