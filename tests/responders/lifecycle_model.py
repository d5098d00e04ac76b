"""What an incident does, told a second time from the design's words: small, slow, and without the tables.

The machine in `test_lifecycle_machine` asks both the responder and this the same, and compares.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from schemas.control import ControlState, Target
from schemas.detection import Detection

Phase = Literal["none", "requested", "applied", "verified", "disobeyed", "released"]
STRICTER = ("run", "throttle", "degrade", "require_approval", "halt")
LOWER = ("full", "rag", "keyword", "static")
WORSE = ("info", "warning", "critical")


class RefusedError(Exception):
    """The model says that this is not possible."""


def both(*wishes: ControlState) -> ControlState:
    """A state that grants every wish."""
    rates = [wish.calls_per_minute for wish in wishes if wish.calls_per_minute is not None]
    return ControlState(
        mode=max((wish.mode for wish in wishes), key=STRICTER.index, default="run"),
        ladder=max((wish.ladder for wish in wishes), key=LOWER.index, default="full"),
        calls_per_minute=min(rates, default=None),
    )


@dataclass
class Wish:
    """What one incident wants of one target, and how far the proof has come."""

    target: Target
    state: ControlState | None = None
    phase: Phase = "none"
    epoch: int = 0
    asked: ControlState | None = None
    denied: bool = False
    applied_at: datetime | None = None
    ordered_at: datetime | None = None

    @property
    def holds(self) -> bool:
        return self.phase not in ("none", "released")

    @property
    def waits(self) -> bool:
        return self.asked is not None and not self.denied

    @property
    def watched_at(self) -> datetime | None:
        """When a call would be noticed: of everybody but the first who answers, twenty seconds after the
        order.
        """
        if self.target.agent != "*" or self.applied_at is None or self.ordered_at is None:
            return self.applied_at
        return max(self.applied_at, self.ordered_at + timedelta(seconds=20))

    def order(self, state: ControlState, epoch: int, now: datetime) -> None:
        """Wanted from here on, and to be proved anew. What was asked for beyond it still waits."""
        stands = self.waits and self.asked is not None and both(state, self.asked) != both(state)
        if not stands:
            self.asked = None
        self.state, self.epoch, self.phase, self.denied = state, epoch, "requested", False
        self.ordered_at = now
        self.applied_at = None


@dataclass
class Case:
    """An incident. ``alone_since`` is since when nobody is on it, ``critical_since`` since when it is worse
    than it was when it opened.
    """

    severity: str
    alone_since: datetime | None
    critical_since: datetime | None = None
    attended: bool = False
    open: bool = True
    mitigated: bool = False
    taken: bool = False
    wishes: dict[str, Wish] = field(default_factory=dict)

    @property
    def state(self) -> str:
        if not self.open:
            return "resolved"
        if self.mitigated:
            return "mitigated"
        return "acknowledged" if self.taken else "triggered"

    def wish(self, target: Target) -> Wish:
        return self.wishes.setdefault(target.model_dump_json(), Wish(target))

    def take(self) -> None:
        self.attended, self.alone_since = True, None
        if not self.mitigated:
            self.taken = True

    def worse(self, now: datetime) -> None:
        """Once all was proved, what comes on top needs a person again."""
        if self.mitigated:
            self.mitigated = self.taken = False
            if self.attended:
                self.attended, self.alone_since = False, now

    def quiet(self, now: datetime, after: timedelta) -> None:
        """Time passes: what obeys and has been quiet is proved; with all of it the incident is mitigated."""
        for wish in [each for each in self.wishes.values() if each.phase == "applied"]:
            if wish.watched_at is not None and wish.watched_at + after <= now:
                wish.phase = "verified"
                held = [each for each in self.wishes.values() if each.holds]
                if self.open and all(each.phase == "verified" for each in held):
                    self.mitigated = True


def automatic(detection: Detection) -> bool:
    """The default policy: a critical halt of a session, and slowing or stepping down, need no person."""
    state = detection.suggested
    if state is None:
        return False
    if state.mode == "halt":
        return detection.severity == "critical" and detection.session is not None
    return state.mode in ("degrade", "throttle")


@dataclass
class Cases:
    """Every incident by its id, and which open one a session or an agent belongs to."""

    by_id: dict[str, Case] = field(default_factory=dict)
    keys: dict[tuple[str, ...], str] = field(default_factory=dict)

    @staticmethod
    def keys_of(target: Target) -> list[tuple[str, ...]]:
        of_agent = ("agent", target.tenant, target.agent)
        return (
            [of_agent] if target.session is None else [("session", target.tenant, target.session), of_agent]
        )

    def belongs(self, target: Target) -> str | None:
        return next((self.keys[key] for key in self.keys_of(target) if key in self.keys), None)

    def halting(self, target: Target) -> list[str]:
        """The open cases that want the target to stop, the narrowest order first."""
        of_agent = target.model_copy(update={"session": None})
        wider = (target, of_agent, of_agent.model_copy(update={"agent": "*"}))
        found = [
            incident_id
            for each in wider
            for incident_id, case in sorted(self.by_id.items())
            if case.open
            and (wish := case.wishes.get(each.model_dump_json())) is not None
            and wish.holds
            and wish.state is not None
            and wish.state.mode == "halt"
        ]
        return list(dict.fromkeys(found))

    def claim(self, incident_id: str, target: Target) -> None:
        for key in self.keys_of(target):
            self.keys.setdefault(key, incident_id)

    def close(self, incident_id: str) -> None:
        self.by_id[incident_id].open = False
        self.keys = {key: held for key, held in self.keys.items() if held != incident_id}

    def must_be_open(self, incident_id: str) -> Case:
        case = self.by_id[incident_id]
        if not case.open:
            raise RefusedError
        return case

    def wanted_of(self, target: Target) -> ControlState:
        """What every incident together wants of a target, those included that are over."""
        held = [case.wish(target) for case in self.by_id.values() if target.model_dump_json() in case.wishes]
        return both(*(wish.state for wish in held if wish.holds and wish.state is not None))
