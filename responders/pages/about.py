"""What a page is about, in plain values: for channels that take no Block Kit."""

from __future__ import annotations

import unicodedata
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from responders.incident import Incident
from responders.lifecycle import ContainmentState, State
from responders.pages import wording
from schemas.detection import Detection, Severity


@dataclass(frozen=True, slots=True)
class About:
    """An incident as a page shows it, and which of its transitions the page told (``page``, ``headline``).

    ``detector`` and ``opened_as`` are of the first detection; ``attended`` says that somebody is on it.
    ``held`` is whom it contains, as ``target: state``. ``calls_again`` says that the page is the first one
    since whoever was on it is not any more.
    """

    incident_id: str
    version: int
    page: str
    headline: str
    summary: str
    state: State
    severity: Severity
    opened_as: Severity
    containment: ContainmentState
    tenant: str
    agent: str
    session: str | None
    detector: str
    runbook: str | None
    onset: datetime
    opened_at: datetime
    held: tuple[str, ...] = ()
    attended: bool = False
    acknowledged_by: str | None = None
    acknowledged_at: datetime | None = None
    resolved_by: str | None = None
    resolved_at: datetime | None = None
    false_alarm: bool = False
    calls_again: bool = False

    @property
    def open(self) -> bool:
        return self.state != "resolved"

    def plain(self) -> dict[str, Any]:
        """Everything as JSON has it; what is not known is left out."""
        fields = asdict(self)
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in fields.items()
            if value is not None
        }

    @property
    def title(self) -> str:
        """One line, without what could steer a terminal or a mail header."""
        line = f"{wording.SIGNS[self.severity] if self.open else '✅'} {self.headline}"
        return "".join(" " if unicodedata.category(each) == "Cc" else each for each in line)


def about_of(incident: Incident, page: str, worst: Detection | None) -> About:
    """The page of this transition. ``worst`` is the detection that a person should read first."""
    status = next((each for (name, _), each in incident.pages.items() if name == page), None)
    first = next(iter(incident.detections), None)
    return About(
        incident_id=incident.incident_id,
        version=incident.version,
        page=page,
        headline=incident.headline if status is None else status.headline,
        summary=incident.summary if worst is None else worst.summary,
        state=incident.state,
        severity=incident.severity,
        opened_as=incident.severity if first is None else first.severity,
        containment=incident.containment,
        tenant=incident.tenant,
        agent=incident.agent,
        session=incident.session,
        detector=_detector(incident) if first is None else first.detector,
        runbook=None if worst is None else worst.runbook,
        onset=incident.onset,
        opened_at=incident.opened_at,
        held=tuple(f"{each.target.key}: {each.state}" for each in incident.containments.values()),
        attended=incident.attended,
        acknowledged_by=incident.acknowledged_by,
        acknowledged_at=incident.acknowledged_at,
        resolved_by=incident.resolved_by,
        resolved_at=incident.resolved_at,
        false_alarm=incident.false_alarm,
        calls_again=incident.acknowledged_at is not None and page == _calling(incident),
    )


def _calling(incident: Incident) -> str | None:
    """The page with which people were called since nobody is on it."""
    since = incident.escalating_since
    first = [each for each in incident.pages.values() if each.requested_at == since]
    return None if not first else min(first, key=lambda each: each.version).page


def _detector(incident: Incident) -> str:
    """What an incident without a detection is about: a part of the engine, or what a person ordered."""
    return "by_hand" if incident.part is None else "engine_stalled"
