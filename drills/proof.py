"""What an incident's log proves of each target it contained: every step, and how long after the detection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Final, Literal

from drills.done import Done
from responders.containment import describe
from responders.incident import Containment, Incident, fold
from schemas.control import EVERY_AGENT, Target
from schemas.detection import Detection
from schemas.incident import IncidentEvent

Wanted = Literal["verified", "escalated"]
"""How a drill's containment must end: nothing was seen of the target since, or it went on and people know."""

STEPS: Final = ("issued", "delivered", "applied", "verified", "disobeyed", "escalated", "released")
DENIED_WITHIN_S: Final = 30.0
ESCALATED_WITHIN_S: Final = 45.0


@dataclass(frozen=True, slots=True)
class Proof:
    """One target of one incident.

    ``times`` has the steps that happened, as the log has them; ``escalated`` is when a page has told that it
    goes on. ``seconds`` are since the event that the detection was made on. ``denied_outside`` is among both
    when `/v1/allow` was asked: the first time that it said no. What was done after the stop is what the drill
    did itself, later than ``issued``; ``named`` is what the incident says of it.
    """

    incident_id: str
    target: str
    wanted: str
    state: str
    detector: str | None
    detected_at: datetime | None
    times: Mapping[str, datetime]
    seconds: Mapping[str, float]
    actions_after_stop: int = 0
    usd_after_stop: float = 0.0
    named: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """For JSON: times as RFC 3339."""
        detected_at = None if self.detected_at is None else _rfc3339(self.detected_at)
        times = {step: _rfc3339(at) for step, at in self.times.items()}
        return {**asdict(self), "detected_at": detected_at, "times": times}

    @property
    def verified(self) -> bool:
        return self.state == "verified"

    @property
    def escalated(self) -> bool:
        return self.state == "disobeyed" and "escalated" in self.times and bool(self.named)


class Log:
    """The logs of incidents, as they come; by tenant."""

    def __init__(self) -> None:
        self._events: dict[str, dict[int, IncidentEvent]] = {}
        self._tenants: dict[str, str] = {}

    def take(self, event: IncidentEvent) -> None:
        """One event; the same one may come again, and they may come in any order."""
        self._events.setdefault(event.incident_id, {})[event.version] = event
        if event.data.type == "triggered":
            self._tenants[event.incident_id] = event.data.tenant

    def incidents(self, tenant: str) -> list[Incident]:
        """Those of the tenant, each as far as its log has come without a gap."""
        found = [self._folded(each) for each, whose in self._tenants.items() if whose == tenant]
        return [incident for incident in found if incident is not None]

    def _folded(self, incident_id: str) -> Incident | None:
        events = self._events[incident_id]
        whole: list[IncidentEvent] = []
        while (event := events.get(len(whole) + 1)) is not None:
            whole.append(event)
        return fold(whole)


def proofs(
    incidents: Iterable[Incident],
    done: Sequence[Done] = (),
    denied_outside: Mapping[str, datetime] | None = None,
) -> tuple[Proof, ...]:
    """The proof of every target that was ordered something, in the order in which that was issued.

    Args:
        incidents: of one drill.
        done: what its agents did.
        denied_outside: by key of the target, when `/v1/allow` first said no.
    """
    found = [
        _proof(incident, held, denied_outside or {})
        for incident in incidents
        for held in incident.containments.values()
        if held.issued_at is not None
    ]
    return tuple(_after(each, done) for each in sorted(found, key=lambda each: each.times["issued"]))


def shortfall(found: Sequence[Proof], wanted: Wanted, asked: str | None = None) -> list[str]:
    """What is missing of the proof, in words. ``asked`` is where it was asked from outside."""
    if not found:
        return ["nothing was ordered"]
    if wanted == "verified":
        return [f"{each.target} is {each.state}, not verified" for each in found if not each.verified]
    why = [f"{each.target} is {each.state}, not escalated" for each in found if not each.escalated]
    for each in found:
        limits = {"denied_outside": DENIED_WITHIN_S, "escalated": ESCALATED_WITHIN_S}
        for step, at_most_s in limits.items():
            at = each.times.get(step)
            took_s = None if at is None else (at - each.times["issued"]).total_seconds()
            if took_s is None:
                where = f" at {asked}" if asked is not None and step == "denied_outside" else ""
                why.append(f"{each.target}: never {step.replace('_', ' ')}{where}")
            elif took_s > at_most_s:
                why.append(
                    f"{each.target}: {step.replace('_', ' ')} after {took_s:.1f} s, wanted {at_most_s:g}"
                )
    return why


def complete(found: Sequence[Proof], wanted: Wanted) -> bool:
    """Whether nothing is missing any more."""
    return not shortfall(found, wanted)


def _proof(incident: Incident, held: Containment, denied_outside: Mapping[str, datetime]) -> Proof:
    detection = _detection_of(incident, held)
    times = {step: at for step in STEPS if (at := getattr(held, f"{step}_at", None)) is not None}
    told = [
        status.delivered_at
        for (page, _), status in incident.pages.items()
        if page == f"disobeyed:{held.command_id}" and status.delivered_at is not None
    ]
    if told:
        times["escalated"] = min(told)
    if held.target.key in denied_outside:
        times["denied_outside"] = denied_outside[held.target.key]
    times = dict(sorted(times.items(), key=lambda each: each[1]))
    since = None if detection is None else detection.time
    seconds = {} if since is None else {step: _seconds(since, at) for step, at in times.items()}
    return Proof(
        incident_id=incident.incident_id,
        target=held.target.key,
        wanted=describe(held.wanted),
        state=held.state,
        detector=None if detection is None else detection.detector,
        detected_at=since,
        times=times,
        seconds=seconds,
        named=dict(held.residual_named),
    )


def _detection_of(incident: Incident, held: Containment) -> Detection | None:
    """What it was ordered for: the first detection that asks for something of this target."""
    for each in incident.detections:
        target = Target(tenant=each.tenant, agent=each.agent, session=each.session)
        if each.suggested is not None and target == held.target and each.detector != "disobeyed_control":
            return each
    return next(iter(incident.detections), None)


def _after(proof: Proof, done: Sequence[Done]) -> Proof:
    issued_ms = proof.times["issued"].timestamp() * 1000
    late = [each for each in done if not each.denied and each.wall_ms > issued_ms and _concerns(proof, each)]
    usd = round(sum(each.act.cost_usd for each in late), 6)
    return replace(proof, actions_after_stop=len(late), usd_after_stop=usd)


def _concerns(proof: Proof, done: Done) -> bool:
    _, agent, *session = proof.target.split("/", 2)
    return agent in {EVERY_AGENT, done.act.agent} and (not session or session[0] == done.act.session)


def _rfc3339(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(since: datetime, at: datetime) -> float:
    return round((at - since).total_seconds(), 3)
