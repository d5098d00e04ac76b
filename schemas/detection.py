"""``agent.detection/1``: a pattern that was found, with the evidence and one sentence a person can act on."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter

from schemas.base import Contract, Count, Identifier, ShortText, Utc
from schemas.control import ControlState

DETECTION_SCHEMA: Final = "agent.detection/1"

Severity = Literal["info", "warning", "critical"]


class OffsetRange(Contract):
    """Records of one partition, both ends included."""

    topic: Identifier
    partition: Count
    from_offset: Count
    to_offset: Count


class Evidence(Contract):
    """The events that show it: ids for people, offsets for replay. ``counts`` says what there was how often,
    by name.
    """

    event_ids: Annotated[list[Identifier], Field(max_length=64)] = Field(default_factory=list)
    ranges: Annotated[list[OffsetRange], Field(max_length=64)] = Field(default_factory=list)
    counts: Annotated[dict[Identifier, Count], Field(max_length=16)] = Field(default_factory=dict)


class Detection(Contract):
    schema_: Literal["agent.detection/1"] = Field(default=DETECTION_SCHEMA, alias="schema")
    detection_id: Identifier = Field(description="Deterministic: same input, same id.")
    detector: Identifier
    detector_version: Annotated[int, Field(ge=1)]
    tenant: Identifier = "default"
    agent: Identifier
    agents: Annotated[list[Identifier], Field(max_length=256)] = Field(
        default_factory=list, description="Others that it concerns, when it is about a fleet."
    )
    session: Identifier | None = None
    severity: Severity
    time: Utc = Field(description="Event time of the trigger.")
    onset: Utc = Field(description="When it is estimated to have begun.")
    metric: Identifier
    observed: float | None = None
    expected: float | None = None
    threshold: float | None = None
    score: float
    sample_size: Count
    evidence: Evidence = Field(default_factory=Evidence)
    summary: ShortText
    runbook: Identifier
    suggested: ControlState | None = None


DETECTION: TypeAdapter[Detection] = TypeAdapter(Detection)
