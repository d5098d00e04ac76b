"""What the HTTP API needs of the rest of the engine, as protocols: the composition root plugs the parts in.

Reads and actions are synchronous (they go to the database) and are called in a thread. They may raise
`responders.decide.ActionRefused` and `responders.containment.TargetError`, which become 409 and 400, and
`responders.store.database.StoreError`, which becomes 503.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from responders.slack.interactions import Answer
from schemas.control import ControlState, Target
from watchkeeper_client.spending import Call
from watchkeeper_client.wanted import Decision

ControlAction = Literal["halt", "resume", "require_approval", "degrade", "throttle", "revoke", "budget"]
DegradeTo = Literal["rag", "keyword", "static"]
JsonObject = Mapping[str, Any]


class ProducerError(Exception):
    """The bus did not take a record; the message says what to do."""


class NoIncidentError(LookupError):
    """There is no such incident; the message is one line that says so."""


class Producer(Protocol):
    """The way onto the bus."""

    async def send(self, topic: str, key: bytes | None, value: bytes) -> None:
        """Returns when the broker has the record.

        Raises:
            ProducerError: it did not take it; sending again is safe.
        """


class Incidents(Protocol):
    """What the console and the command line read."""

    def incidents(self, limit: int) -> list[JsonObject]:
        """The newest incidents first, as JSON."""

    def incident(self, incident_id: str, at: datetime | None) -> JsonObject:
        """One incident with its log, as it was at a time.

        Raises:
            NoIncidentError: there was none.
        """

    def agents(self) -> list[JsonObject]:
        """Every agent that is known, with its open incidents, its containment and its health, None where
        nothing is known of it.
        """


class Actions(Protocol):
    """What a person may do, by whatever means."""

    def acknowledge(self, incident_id: str, person: str) -> JsonObject: ...

    def resolve(self, incident_id: str, person: str) -> JsonObject: ...

    def control(self, order: ControlOrder, person: str) -> JsonObject: ...


class Decider(Protocol):
    """The wanted state, for `/v1/allow`."""

    def decide(self, tenant: str, agent: str, session: str | None, call: Call) -> Decision:
        """Whether this call may be made now; from memory, the fail mode included."""


class Readiness(Protocol):
    """Whether the process can do its work."""

    async def problems(self) -> Mapping[str, str]:
        """What is wrong, by part, each one line; empty when all is well."""

    async def notices(self) -> Mapping[str, str]:
        """What a person must mend though the process does its work meanwhile, likewise."""


@dataclass(frozen=True, slots=True)
class ControlOrder:
    """Containment by hand. ``state`` is what the target is held in; None lets it run again."""

    action: ControlAction
    target: Target
    state: ControlState | None
    reason: str


class SlackHandler(Protocol):
    """What the buttons and the slash command do, and who may."""

    async def take(self, payload: JsonObject) -> Answer | None:
        """Does what a payload asks, whose signature was verified; what to tell the person, if anything."""

    async def reply(self, url: str, answer: Answer) -> bool:
        """Tells the person at the address that came with the payload; whether that was done."""
