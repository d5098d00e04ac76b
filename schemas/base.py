"""The types every contract is made of: strict about what is kept, lenient about what is ignored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
MAX_MESSAGE_BYTES = 256 * 1024
MAX_NESTING = 32
MAX_EVENTS_PER_MESSAGE = 1_000
MAX_PAST_MS = 24 * 3600 * 1000
MAX_FUTURE_MS = 5 * 60 * 1000


def _to_utc(value: datetime) -> datetime:
    return value if value.tzinfo is UTC else value.astimezone(UTC)


Utc = Annotated[AwareDatetime, AfterValidator(_to_utc)]
"""RFC 3339 time stamp with an offset, kept in UTC."""

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=256)]
"""An id, a name, a hash: long enough for any of them, too short for a prompt."""

Hash = Annotated[str, StringConstraints(min_length=1, max_length=128)]
ShortText = Annotated[str, StringConstraints(max_length=1024)]
Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
Milliseconds = Annotated[float, Field(ge=0)]
Dollars = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
AttributeValue = Annotated[str, StringConstraints(max_length=256)] | bool | int | float


class Contract(BaseModel):
    """Base of every model on the bus.

    Unknown fields are dropped, not stored (an allow-list keeps content out); NaN and infinity are refused;
    instances do not change.
    """

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
        populate_by_name=True,
        serialize_by_alias=True,
        ser_json_inf_nan="constants",
        protected_namespaces=(),
    )


def epoch_ms(time: datetime) -> int:
    """Milliseconds since 1970-01-01 UTC of an aware datetime."""
    return round(time.timestamp() * 1000)


def whole_ms(time: datetime) -> int:
    """The last whole millisecond since 1970-01-01 UTC that is over at ``time``; `epoch_ms` rounds."""
    return (time - _EPOCH) // _MILLISECOND


def from_epoch_ms(milliseconds: float) -> datetime:
    """The aware UTC datetime at ``milliseconds`` since 1970."""
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
