"""store → incident.events: the incident log, keyed by incident, each event at least once and in order."""

from __future__ import annotations

from collections.abc import Iterable

from responders.bus import Bus
from responders.effects import Delivered, Outcome
from schemas import topics
from schemas.incident import IncidentEvent


class KafkaIncidentLog:
    """Publishes events as they are stored.

    The outbox sends an incident's events one batch after the other.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def publish(self, events: Iterable[IncidentEvent]) -> Outcome:
        for event in events:
            value = event.model_dump_json(by_alias=True, exclude_none=True).encode()
            outcome = await self._bus.deliver(topics.INCIDENTS, event.incident_id.encode(), value)
            if not isinstance(outcome, Delivered):
                return outcome
        return Delivered()
