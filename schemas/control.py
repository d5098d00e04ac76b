"""``agent.control/1`` and ``agent.control.ack/1``: the wanted state of a target, and what came of it.

The newest epoch of a target wins. ``signature`` is Ed25519 over the RFC 8785 canonical JSON of all other
fields;
who may sign is decided by whoever obeys (``watchkeeper_client.control``).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter

from schemas.base import Contract, Count, Identifier, ShortText, Utc
from schemas.event import Budget, NameList

CONTROL_SCHEMA: Final = "agent.control/1"
ACK_SCHEMA: Final = "agent.control.ack/1"
EVERY_AGENT = "*"
EVERY_TENANT: Final = "*"
OUTSIDE: Final = "http:"
"""What the name of an enforcement point outside the agent begins with: it sees only what goes through it."""

Mode = Literal["run", "throttle", "degrade", "require_approval", "halt"]
Rung = Literal["full", "rag", "keyword", "static"]


class ControlState(Contract):
    """What an agent may do. ``ladder`` is how far it has stepped down, top rung first."""

    mode: Mode
    ladder: Rung = "full"
    revoked_tools: NameList = Field(default_factory=list)
    calls_per_minute: Annotated[int, Field(ge=0)] | None = None
    budget: Budget | None = None


class Target(Contract):
    """Whom a command is for: a session of an agent, an agent, or every agent (``agent: "*"``)."""

    tenant: Identifier = "default"
    agent: Identifier
    session: Identifier | None = None

    @property
    def key(self) -> str:
        """The Kafka key and the scope of the epoch: ``tenant/agent[/session]``."""
        base = f"{self.tenant}/{self.agent}"
        return base if self.session is None else f"{base}/{self.session}"


class Control(Contract):
    schema_: Literal["agent.control/1"] = Field(default=CONTROL_SCHEMA, alias="schema")
    command_id: Identifier
    epoch: Count
    target: Target
    state: ControlState
    reason: ShortText
    incident_id: Identifier | None = None
    issued_at: Utc
    expires_at: Utc | None = None
    issuer: Identifier
    key_id: Identifier
    signature: Annotated[str, Field(max_length=128, description="base64, Ed25519")]


class ControlAck(Contract):
    schema_: Literal["agent.control.ack/1"] = Field(default=ACK_SCHEMA, alias="schema")
    command_id: Identifier
    epoch: Count
    agent: Identifier
    tenant: Identifier = "default"
    session: Identifier | None = None
    enforcement_point: Identifier
    result: Literal["applied", "refused"]
    reason: ShortText | None = None
    time: Utc


CONTROL: TypeAdapter[Control] = TypeAdapter(Control)
CONTROL_ACK: TypeAdapter[ControlAck] = TypeAdapter(ControlAck)
