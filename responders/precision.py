"""How often each detector is right, by what people made of its incidents.

Statistic: share of closed incidents that were not marked a false alarm, with Wilson's 95% interval (Wilson,
"Probable Inference", 1927): few judgements say little, and the interval says how little. An incident counts
for every detector that took part in it; one merged into another is judged there.

>>> low, high = wilson(9, 10)
>>> f"{low:.2f} {high:.2f}"
'0.60 0.98'
"""

from __future__ import annotations

import math
from typing import Final

from sqlalchemy import select

from responders.store import tables
from responders.store.event_store import Store
from schemas.base import Contract
from schemas.detection import Detection
from schemas.incident import INCIDENT_EVENT, DetectionJoined, Triggered

_Z: Final = 1.959964


class DetectorPrecision(Contract):
    """``precision`` is None where nobody has judged an incident of the detector yet."""

    detector: str
    incidents: int
    open: int
    confirmed: int
    false_alarms: int
    precision: float | None
    low: float | None
    high: float | None


def wilson(right: int, judged: int) -> tuple[float, float]:
    """The interval for ``right`` of ``judged``, which is not 0."""
    share, spread = right / judged, _Z**2 / judged
    middle = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * math.sqrt(share * (1 - share) / judged + spread / (4 * judged))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def by_detector(store: Store) -> list[DetectorPrecision]:
    """Every detector that has been in an incident, the least precise first. Raises StoreError."""
    took_part: dict[str, set[str]] = {}
    closed: dict[str, str] = {}
    events = tables.events.c
    of_interest = ("triggered", "detection_joined", "resolved", "false_alarm", "merged")
    with store.reading() as connection:
        rows = connection.execute(
            select(events.incident_id, events.type, events.event).where(events.type.in_(of_interest))
        )
        for row in rows:
            if row.type not in ("triggered", "detection_joined"):
                closed[row.incident_id] = row.type
            elif (detection := _detection(row.event)) is not None:
                took_part.setdefault(detection.detector, set()).add(row.incident_id)
    found = [_precision(name, [closed.get(each) for each in ids]) for name, ids in took_part.items()]
    return sorted(found, key=lambda each: (2.0 if each.precision is None else each.precision, each.detector))


def _detection(event: str) -> Detection | None:
    data = INCIDENT_EVENT.validate_json(event).data
    return data.detection if isinstance(data, Triggered | DetectionJoined) else None


def _precision(detector: str, ends: list[str | None]) -> DetectorPrecision:
    confirmed, wrong = ends.count("resolved"), ends.count("false_alarm")
    judged = confirmed + wrong
    low, high = wilson(confirmed, judged) if judged else (None, None)
    return DetectorPrecision(
        detector=detector,
        incidents=len(ends),
        open=ends.count(None),
        confirmed=confirmed,
        false_alarms=wrong,
        precision=confirmed / judged if judged else None,
        low=low,
        high=high,
    )
