"""What happened to an incident, as a picture marks it on its time axis."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from responders.containment import describe
from responders.incident import Incident
from schemas.detection import Detection

Kind = Literal["onset", "noticed", "ordered", "stopped"]


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened, and what it is called in the picture."""

    kind: Kind
    at: datetime
    label: str


def moments_of(incident: Incident, detection: Detection) -> list[Moment]:
    """When it began and was noticed; when the first order went out, and when the last was seen to hold."""
    found = [
        Moment("onset", detection.onset, "began (estimate)"),
        Moment("noticed", detection.time, "noticed"),
    ]
    held = [each for each in incident.containments.values() if each.issued_at is not None]
    if held:
        first = min(held, key=lambda each: each.issued_at or each.requested_at or incident.opened_at)
        assert first.issued_at is not None
        found.append(Moment("ordered", first.issued_at, f"told to {describe(first.wanted)}"))
    verified = [each.verified_at for each in held if each.verified_at is not None]
    if verified and len(verified) == len(held):
        found.append(Moment("stopped", max(verified), "seen to obey"))
    return found
