"""The dead letter: what could not be taken in, kept whole, with a reason a person can act on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from schemas.base import Contract, Count, Identifier, ShortText, Utc

DeadReason = Literal[
    "malformed",
    "too_large",
    "too_deep",
    "not_finite",
    "duplicate_key",
    "too_many_events",
    "unknown_type",
    "unknown_schema",
    "invalid",
    "clock",
]
"""Why, as a machine reads it; ``detail`` says it to a person."""


class DeadLetter(Contract):
    reason: DeadReason
    detail: ShortText
    topic: Identifier
    partition: Count
    offset: Count
    raw_base64: Annotated[str, Field(description="The record's value as received, cut at 256 KiB.")]
    time: Utc = Field(description="The broker's time of the record.")


DEAD_LETTER: TypeAdapter[DeadLetter] = TypeAdapter(DeadLetter)
