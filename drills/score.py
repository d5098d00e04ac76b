"""Judges a drill: what was done, what was seen, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from drills.done import Done
from drills.proof import Proof, shortfall
from drills.script import Drill


@dataclass(frozen=True, slots=True)
class Seen:
    """A detection as it arrived."""

    detector: str
    agent: str
    time_ms: float
    wall_ms: float
    summary: str


@dataclass(frozen=True, slots=True)
class Score:
    """The result of one drill, as `drill --json` has it. Seconds: wall clock since the first faulty act; in
    `proof`, since the detection.
    """

    drill: str
    requirement: int
    passed: bool
    detected: bool
    detector: str | None
    seconds_to_detection: float | None
    events_to_detection: int | None
    usd_to_detection: float | None
    contained: bool | None
    seconds_to_containment: float | None
    actions_after_stop: int | None
    usd_after_stop: float | None
    false_alarms: tuple[str, ...]
    summary: str | None
    why: tuple[str, ...]
    proof: tuple[Proof, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "proof": [each.as_dict() for each in self.proof]}


def score(
    drill: Drill,
    done: Sequence[Done],
    seen: Sequence[Seen],
    *,
    ordered_ms: float | None = None,
    stopped_ms: float | None = None,
    proof: Sequence[Proof] | None = None,
    asked: str | None = None,
) -> Score:
    """Judges one run.

    Args:
        done: the acts that happened or were denied, in order.
        seen: the detections of the run's tenant, in order of arrival.
        ordered_ms: wall clock at which the first command was issued.
        stopped_ms: wall clock at which the last of the agents concerned was stopped by its gate; None if one
            was not.
        proof: what the incidents' logs prove; None where there are none.
        asked: the HTTP API that was asked whether calls are allowed.
    """
    onset = next((entry for entry in done if entry.act.faulty), None)
    faulty = [entry for entry in done if entry.act.faulty and not entry.denied]
    found = _found(drill, seen)
    until = [entry for entry in faulty if found is not None and entry.event_ms <= found.time_ms]
    after = [entry for entry in faulty if ordered_ms is not None and entry.wall_ms > ordered_ms]
    early = tuple(entry.detector for entry in seen if onset is None or entry.time_ms < onset.event_ms)
    events = max(1, len(until)) if found else None
    dollars = round(sum(entry.act.cost_usd for entry in until), 6) if found else None
    contained = stopped_ms is not None if drill.contained else None
    why = (*_failures(drill, found, events, dollars, contained, early), *_fleet_failures(drill, seen))
    if drill.proof is not None and proof is not None:
        why = (*why, *shortfall(proof, drill.proof, asked))
    return Score(
        drill=drill.name,
        requirement=drill.requirement,
        passed=not why,
        detected=found is not None,
        detector=found.detector if found else None,
        seconds_to_detection=_seconds(onset, found.wall_ms if found else None),
        events_to_detection=events,
        usd_to_detection=dollars,
        contained=contained,
        seconds_to_containment=_seconds(onset, stopped_ms),
        actions_after_stop=len(after) if ordered_ms is not None else None,
        usd_after_stop=round(sum(entry.act.cost_usd for entry in after), 6)
        if ordered_ms is not None
        else None,
        false_alarms=early,
        summary=found.summary if found else None,
        why=why,
        proof=tuple(proof or ()),
    )


def _failures(
    drill: Drill,
    found: Seen | None,
    events: int | None,
    dollars: float | None,
    contained: bool | None,
    early: Sequence[str],
) -> list[str]:
    why = []
    if early:
        why.append(f"false alarm before the onset: {', '.join(early)}")
    if found is None:
        return [*why, f"not detected by {' or '.join(drill.detectors)}"]
    if drill.within_events is not None and events is not None and events > drill.within_events:
        why.append(f"detected after {events} events, wanted {drill.within_events}")
    if drill.within_usd is not None and dollars is not None and dollars > drill.within_usd:
        why.append(f"${dollars:.2f} spent before detection, wanted ${drill.within_usd:.2f}")
    if contained is False:
        why.append("not contained")
    return why


def found_all(drill: Drill, seen: Sequence[Seen]) -> bool:
    """Whether everything has been detected that must be."""
    return _found(drill, seen) is not None and {entry.detector for entry in seen}.issuperset(drill.fleet)


def _found(drill: Drill, seen: Sequence[Seen]) -> Seen | None:
    """The first detection that finds the failure; where agents are named, that of the last of them."""
    firsts: dict[str, Seen] = {}
    for entry in seen:
        if entry.detector in drill.detectors:
            firsts.setdefault(entry.agent, entry)
    if not drill.agents:
        return next(iter(firsts.values()), None)
    named = [entry for agent, entry in firsts.items() if agent in drill.agents]
    return named[-1] if len(named) == len(drill.agents) else None


def _fleet_failures(drill: Drill, seen: Sequence[Seen]) -> list[str]:
    why = []
    for name in drill.fleet:
        agents = {entry.agent for entry in seen if entry.detector == name}
        if len(agents) != 1:
            why.append(f"{name} found {len(agents)} times for the fleet, wanted once")
    return why


def _seconds(onset: Done | None, wall_ms: float | None) -> float | None:
    if onset is None or wall_ms is None:
        return None
    return round(max(0.0, wall_ms - onset.wall_ms) / 1000, 3)
