"""How far the engine may go by itself, and how long it waits for an answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from responders.containment import RUNGS
from responders.policy.section import Match, Names, Section, named
from schemas.control import ControlState, Mode, Rung
from schemas.detection import Detection
from schemas.incident import Trust


class ContainmentRule(Match):
    """How far the engine may go. The first rule that matches decides; what is not given matches all.

    ``order`` is what is done instead of what the detection suggests, or when it suggests nothing.
    """

    trust: Trust
    order: ControlState | None = None
    modes: frozenset[Mode] | None = None
    scope: Literal["session", "agent"] | None = None

    def matches(self, detection: Detection, state: ControlState) -> bool:
        scope = "agent" if detection.session is None else "session"
        return (
            self.scope in (None, scope)
            and (self.modes is None or state.mode in self.modes)
            and self.fits(detection)
        )


class Ladder(Section):
    """The rungs these agents have, from the top: who is to step down to another goes to the next one below
    it, and stops when there is none.
    """

    rungs: Annotated[tuple[Rung, ...], Field(min_length=1)]
    agents: Names | None = None
    tenants: Names | None = None

    @field_validator("rungs")
    @classmethod
    def _downwards(cls, rungs: tuple[Rung, ...]) -> tuple[Rung, ...]:
        if list(rungs) != sorted(set(rungs), key=RUNGS.index):
            raise ValueError(f"must go down: {', '.join(RUNGS)}")
        return rungs

    def step_down(self, state: ControlState) -> ControlState:
        """The state on the nearest rung these agents have."""
        if state.mode != "degrade" or state.ladder in self.rungs:
            return state
        below = (rung for rung in self.rungs if RUNGS.index(rung) > RUNGS.index(state.ladder))
        rung = next(below, None)
        if rung is None:
            return state.model_copy(update={"mode": "halt", "ladder": "full"})
        return state.model_copy(update={"ladder": rung})


class ContainmentPolicy(Section):
    """Halting a session on a critical detection and stepping down are automatic, and so is halting the agents
    of a spawn storm, which has a new session whenever one is halted. The rest asks a person.

    When nobody has answered within ``approval_minutes`` that is said, and with ``unanswered = "deny"`` it
    counts as a no.
    """

    rules: tuple[ContainmentRule, ...] = (
        ContainmentRule(
            trust="automatic",
            modes=frozenset({"halt"}),
            scope="session",
            severities=frozenset({"critical"}),
        ),
        ContainmentRule(
            trust="automatic",
            modes=frozenset({"halt"}),
            severities=frozenset({"critical"}),
            detectors=frozenset({"spawn_storm"}),
        ),
        ContainmentRule(trust="automatic", modes=frozenset({"degrade", "throttle"})),
    )
    otherwise: Trust = "approve"
    ladder: tuple[Ladder, ...] = ()
    approval_minutes: Annotated[float, Field(gt=0, le=60 * 24 * 7)] = 15.0
    unanswered: Literal["wait", "deny"] = "wait"
    confirm_within_ms: Annotated[int, Field(ge=100)] = 20_000
    verify_quiet_ms: Annotated[int, Field(ge=100)] = 10_000
    republish_first_ms: Annotated[int, Field(ge=100)] = 1_000
    republish_at_most_ms: Annotated[int, Field(ge=100)] = 60_000

    def plan(self, detection: Detection) -> tuple[ControlState, Trust] | None:
        """What is to be done about the detection, and how far that may go by itself; None for nothing."""
        state = detection.suggested
        for rule in self.rules:
            if rule.order is not None and rule.matches(detection, state or rule.order):
                return self._on_its_ladder(detection, rule.order), rule.trust
            if state is not None and rule.matches(detection, state):
                return self._on_its_ladder(detection, state), rule.trust
        return None if state is None else (self._on_its_ladder(detection, state), self.otherwise)

    def _on_its_ladder(self, detection: Detection, state: ControlState) -> ControlState:
        for ladder in self.ladder:
            if named(detection.agent, ladder.agents) and named(detection.tenant, ladder.tenants):
                return ladder.step_down(state)
        return state

    def trust_in(self, detection: Detection, state: ControlState) -> Trust:
        for rule in self.rules:
            if rule.matches(detection, state):
                return rule.trust
        return self.otherwise
