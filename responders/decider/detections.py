"""A detection: an incident of its own, one more of its cause, or a consequence of another."""

from __future__ import annotations

from typing import Final

from responders.decider.containment import disobeyed, suggested
from responders.decider.draft import ENGINE, OPENED, RAISED, TEXT_CHARS, Draft
from responders.decider.inputs import Absorb, MergeInto, OrderIgnored
from responders.decider.paging import tell
from responders.incident import SEVERITIES, Incident
from responders.pages import wording
from schemas import incident as log
from schemas.control import EVERY_AGENT
from schemas.detection import Detection

AGAIN: Final = "again"
"""The page of an incident that needs a person again, followed by its version."""

DISOBEDIENCE: Final = "disobeyed_control"
"""The detector of agents that go on although they were told to stop."""

MOST_JOINED: Final = 300
"""Detections in the log of one incident; those after that are counted."""


def on_detection(draft: Draft, detection: Detection) -> None:
    before = draft.maybe
    if before is None:
        if detection.severity == "info":
            return  # worth knowing, not worth an incident
        draft.open(detection.detection_id, _triggered_by(detection), ENGINE)
        if draft.around.kin is not None:
            draft.add(log.KinLinked(kin=draft.around.kin))
        tell(draft, OPENED, wording.headline(detection), detection)
    else:
        _join(draft, detection)
    if detection.detector == DISOBEDIENCE:
        disobeyed(draft, detection)
    else:
        suggested(draft, detection)
    if before is not None and before.attended and not draft.incident.attended:
        _call_back(draft, before, wording.headline(detection))


def on_ignored(draft: Draft, given: OrderIgnored) -> None:
    """The order is not obeyed, wherever the detection itself is told."""
    if not draft.incident.open:
        return
    before = draft.incident
    disobeyed(draft, given.detection)
    if before.attended and not draft.incident.attended:
        _call_back(draft, before, wording.headline(given.detection))


def _call_back(draft: Draft, before: Incident, headline: str) -> None:
    """Whoever was on it thought it over: they are told, unless they have been just now."""
    incident, told = draft.incident, (len(before.pages), len(before.deferrals))
    if incident.worst is not None and (len(incident.pages), len(incident.deferrals)) == told:
        tell(draft, f"{AGAIN}:{incident.version}", headline, incident.worst)


def _triggered_by(detection: Detection) -> log.Triggered:
    return log.Triggered(
        tenant=detection.tenant,
        agent=detection.agent,
        session=detection.session,
        severity=detection.severity,
        onset=detection.onset,
        summary=detection.summary,
        detection=detection,
    )


def _join(draft: Draft, detection: Detection) -> None:
    """Only what is new goes into the log: a storm of one detection is one fact, the inbox has them all."""
    before = draft.incident.severity
    raises = SEVERITIES.index(detection.severity) > SEVERITIES.index(before) and not draft.around.follows
    # How a fleet's cause stands is told however many have followed from it.
    room = len(draft.incident.detections) < MOST_JOINED or detection.agent == EVERY_AGENT
    if raises or (room and _is_news(draft.incident, detection, draft.around.follows)):
        draft.add(log.DetectionJoined(detection=detection))
    if raises:
        draft.add(
            log.SeverityRaised(before=before, after=detection.severity, detection_id=detection.detection_id)
        )
        tell(draft, f"{RAISED}{detection.severity}", wording.headline(detection), detection)


def _is_news(incident: Incident, detection: Detection, follows: bool) -> bool:
    if follows:
        about = (detection.detector, detection.agent)
        return all((each.detector, each.agent) != about for each in incident.detections)
    if detection.agent == EVERY_AGENT:
        # Of a fleet's cause it matters how it stands now: it may be over, and come again.
        of_it = (detection.detector, detection.metric)
        same = [each.severity for each in incident.detections if (each.detector, each.metric) == of_it]
        return not same or same[-1] != detection.severity
    known = {(d.detector, d.agent, d.session, d.severity) for d in incident.detections}
    return (detection.detector, detection.agent, detection.session, detection.severity) not in known


def on_absorb(draft: Draft, given: Absorb) -> None:
    """The cause stands for its consequences from here on."""
    if not draft.incident.open:
        return
    known = {each.incident_id for each in draft.incident.absorbed}
    for each in given.consequences:
        if each.incident_id not in known:
            draft.add(
                log.IncidentAbsorbed(
                    consequence=each.incident_id, agent=each.agent, headline=each.headline[:TEXT_CHARS]
                )
            )


def on_merge(draft: Draft, given: MergeInto) -> None:
    """Closed as an incident of its own. What it contains stays contained."""
    if not draft.incident.open:
        return
    draft.cancel("page", "late", "escalate", "approval", "digest")
    draft.add(log.Merged(into=given.cause, reason=f"a consequence of {given.headline}"[:TEXT_CHARS]))
