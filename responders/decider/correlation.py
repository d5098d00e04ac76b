"""One cause, one incident: what two detections have in common, and what follows from what. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta

from responders.incident import Incident
from responders.policy import Group, Inhibit, agents_of
from schemas.control import EVERY_AGENT
from schemas.detection import Detection


def grouping_keys(
    tenant: str,
    agent: str,
    session: str | None,
    detector: str = "",
    by: Sequence[str] = ("session", "agent"),
) -> tuple[str, ...]:
    """What makes detections one cause, the strongest first: by default the session, then the agent."""
    parts = {
        "session": None if session is None else ("session", tenant, session),
        "agent": ("agent", tenant, agent),
        "agent_detector": ("agent_detector", tenant, agent, detector),
        "detector": ("detector", tenant, detector),
        "tenant": ("tenant", tenant),
    }
    return tuple(_key(*part) for name in by if (part := parts[name]) is not None)


def keys_of(group: Group, detection: Detection) -> tuple[str, ...]:
    """The keys of the detection by the policy's rule for it."""
    return grouping_keys(
        detection.tenant, detection.agent, detection.session, detection.detector, group.by
    ) or grouping_keys(detection.tenant, detection.agent, None)


def digest_key(tenant: str) -> str:
    """What the digest of a tenant's storm is known by."""
    return _key("digest", tenant)


def part_key(part: str, cause: str) -> str:
    """What the incident of a failing part is known by."""
    return _key("part", part, cause)


def part_keys(part: str) -> str:
    """What the keys of all incidents of a part begin with."""
    return _key("part", part)[:-1] + ","


def source_key(tenant: str, detector: str) -> str:
    """What the newest incident of a source is known by."""
    return _key("source", tenant, detector)


def cause_key(detection: Detection) -> str:
    """What a cause is known again by."""
    return _key(detection.tenant, detection.agent, detection.detector)


def _key(*parts: str) -> str:
    return json.dumps(parts, ensure_ascii=False)


def is_source(detection: Detection, rules: Iterable[Inhibit]) -> bool:
    return any(rule.springs_from(detection) for rule in rules)


def sources_of(detection: Detection, rules: Iterable[Inhibit]) -> list[str]:
    """The detectors that may have found what the detection follows from."""
    return sorted({name for rule in rules if rule.concerns(detection) for name in rule.source})


def explains(cause: Incident, detection: Detection, rules: Iterable[Inhibit]) -> bool:
    """Whether the detection is a consequence of the incident: of a source that is not over, within the
    rule's time of it, for an agent it names.
    """
    if not cause.open:
        return False
    for rule in rules:
        if not rule.concerns(detection):
            continue
        for source in _standing(cause, rule):
            since = source.onset - timedelta(minutes=rule.before_minutes)
            until = source.time + timedelta(minutes=rule.for_minutes)
            names = agents_of(source)
            if since <= detection.time <= until and (EVERY_AGENT in names or detection.agent in names):
                return True
    return False


def _standing(cause: Incident, rule: Inhibit) -> list[Detection]:
    """The newest word of each source in the incident, without those that say it is over."""
    newest = {
        (each.detector, each.agent, each.metric): each
        for each in cause.detections
        if each.detector in rule.source
    }
    return [each for each in newest.values() if rule.springs_from(each)]


def follows(consequence: Incident, cause: Incident, rules: Sequence[Inhibit]) -> bool:
    """Whether everything the incident has seen is a consequence of the cause."""
    return (
        consequence.open
        and consequence.incident_id != cause.incident_id
        and bool(consequence.detections)
        and all(explains(cause, each, rules) for each in consequence.detections)
    )
