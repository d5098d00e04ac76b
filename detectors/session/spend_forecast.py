"""spend_forecast: at its present pace a session will pass its budget, and there is still some left to save.

Statistic: the forecast of a session's tokens and dollars. The use of a call is fitted on its number by least
squares in which a call counts 0.9 times the one after it: a context that grows makes the use of a call grow
in a line, and its sum with the square. The line is summed over the calls to come. Units: tokens, US dollars.

How many are to come: as many as the declared steps leave; else up to the 95th percentile of the agent's
healthy sessions; else as many as there have been, the median of what is left to something of which nothing is
known but its age (Gott, "Implications of the Copernican principle for our future prospects", Nature 363,
1993).

Source: R 6 and R 47. A warning when half of the budget is used, not all of it, and the forecast is a fifth
over it; five calls are the least evidence. A declared budget is judged as declared. Without one it is what
healthy sessions of the agent have used at most, three times over; without a profile the default of 100,000
tokens, and then it is only info: a guess, which healthy long work passes. Calls of unknown cost are left out
of dollars. Reported once for each.

>>> from detectors.testing import events, run
>>> start = dict(type="session.start", budget={"tokens": 100_000})
>>> call = dict(type="llm.call", request_model="m", output_tokens=0, status="ok")
>>> grown = [dict(call, input_tokens=1_000 * turn) for turn in range(1, 14)]
>>> run(SpendForecast(), events([start, *grown]))
[('warning', 'e10', 2.1)]
>>> run(SpendForecast(), events([start, *[dict(call, input_tokens=1_000)] * 50]))
[]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import msgspec

from detectors.base import NOTHING, AgentProfile, SessionContext, SessionFacts
from detectors.trend import Line
from schemas.detection import Detection, Severity
from schemas.event import LlmCall

NORMAL_FACTOR = 3.0


class Cap(NamedTuple):
    """What may be used, and how bad it is to use more."""

    amount: float
    kind: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class SpendForecast:
    """`used` is the share of the budget from which on it is judged, `over` how far the forecast must pass."""

    default_tokens: int | None = 100_000
    minimum_calls: int = 5
    used: float = 0.5
    over: float = 1.2

    name: ClassVar[str] = "spend_forecast"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("llm.call",)

    class State(msgspec.Struct):
        tokens: Line = msgspec.field(default_factory=Line)
        cost_usd: Line = msgspec.field(default_factory=Line)
        reported: list[str] = []

    def update(self, state: State, event: LlmCall, context: SessionContext) -> Iterable[Detection]:
        state.tokens.add(event.input_tokens + event.output_tokens)
        if event.cost_usd is not None:
            state.cost_usd.add(event.cost_usd)
        if state.tokens.count < self.minimum_calls or len(state.reported) == 2:
            return NOTHING
        facts = context.facts
        return [
            *self._judge(state, "tokens", state.tokens, facts.tokens, facts.token_cap, context),
            *self._judge(state, "cost_usd", state.cost_usd, facts.cost_usd, facts.cost_cap_usd, context),
        ]

    def _judge(
        self,
        state: State,
        what: Literal["tokens", "cost_usd"],
        line: Line,
        spent: float,
        declared: float | None,
        context: SessionContext,
    ) -> Iterable[Detection]:
        if line.count < self.minimum_calls or what in state.reported:
            return NOTHING
        cap = self._cap(what, declared, context)
        if cap is None or not self.used * cap.amount <= spent < cap.amount:
            return NOTHING
        calls = _calls_to_come(context.facts, context.profile)
        forecast = spent + line.ahead(calls)
        if forecast < self.over * cap.amount:
            return NOTHING
        state.reported.append(what)
        return (
            context.detection(
                self,
                trigger=what,
                severity=cap.severity,
                metric=f"forecast_{what}",
                observed=forecast,
                expected=spent,
                threshold=cap.amount,
                score=round(forecast / cap.amount, 3),
                sample_size=line.count,
                summary=f"Session {context.session} has used {spent:,.6g} of {cap.kind} {cap.amount:,.6g} "
                f"{what} and is on the way to {forecast:,.6g} in {calls:,.0f} more calls.",
            ),
        )

    def _cap(
        self, what: Literal["tokens", "cost_usd"], declared: float | None, context: SessionContext
    ) -> Cap | None:
        if declared is not None:
            return Cap(declared, "a declared", "warning")
        profile = context.profile
        if profile is not None:
            most = NORMAL_FACTOR * getattr(profile, what).max
            return Cap(most, "three times the normal most of", "warning") if most > 0 else None
        if what == "cost_usd" or self.default_tokens is None:
            return None
        return Cap(self.default_tokens, "a default", "info")


def _calls_to_come(facts: SessionFacts, profile: AgentProfile | None) -> float:
    if facts.step_cap is not None:
        return max(0, facts.step_cap - facts.steps)
    usual = 0.0 if profile is None else profile.steps.p95
    return usual - facts.steps if usual > facts.steps else float(facts.steps)
