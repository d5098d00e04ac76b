"""budget: a session has spent more tokens, steps, dollars or time than it may.

Statistic: the session's totals over its caps. Units: tokens, US dollars, milliseconds of event time, and
steps: turns of the model with their tool call, that is the greater of the calls of tools and those of models,
as the client's gate counts them before the call. Source: R 47 and R 67; caps come with `session.start`, and
100,000 tokens and 15 steps hold where it names none. A declared cap is a promise: passing it is critical, and
every agent that goes on spending is reported once for each cap. A default cap is a guess, which healthy long
work passes: a warning, once a session; what healthy sessions of the agent have used at most, three times
over, takes its place where that is more. Cost that is not known counts as not known, so the dollar cap sees
what is known only. A cap that is met exactly is kept. Time is also watched by a timer: a session that hangs
passes it in silence.

>>> from detectors.testing import events, run
>>> start = dict(type="session.start", budget={"tokens": 1000})
>>> call = dict(type="llm.call", request_model="m", input_tokens=400, output_tokens=100, status="ok")
>>> run(Budget(), events([start, call, call, call, call]))
[('critical', 'e3', 1.5)]
>>> run(Budget(), events([call] * 16))
[('warning', 'e15', 1.0666666666666667)]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import msgspec

from detectors.base import HALT, NOTHING, Beginning, SessionContext, SessionFacts, name_hash
from detectors.bounded import remember
from schemas.detection import Detection

MAX_REPORTED = 128
NORMAL_FACTOR = 3.0


class Overrun(NamedTuple):
    """A total that has passed its cap."""

    what: str
    spent: float
    cap: float
    declared: bool


@dataclass(frozen=True, slots=True)
class Budget:
    """The caps of a session that names none. None: no cap."""

    default_tokens: int | None = 100_000
    default_steps: int | None = 15

    name: ClassVar[str] = "budget"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("llm.call", "tool.call")

    class State(msgspec.Struct):
        """Whether the timer has come; hashes of what was reported, joined: the cap, and the agent where the
        cap was declared.
        """

        timed: bool = False
        reported: bytes = b""

    def update(self, state: State, event: Any, context: SessionContext) -> Iterable[Detection]:
        facts = context.facts
        token_cap = self.default_tokens if facts.token_cap is None else facts.token_cap
        step_cap = self.default_steps if facts.step_cap is None else facts.step_cap
        if (
            (token_cap is None or facts.tokens <= token_cap)
            and (step_cap is None or facts.steps <= step_cap)
            and (facts.cost_cap_usd is None or facts.cost_usd <= facts.cost_cap_usd)
            and (facts.wall_cap_ms is None or context.time_ms - facts.start_ms <= facts.wall_cap_ms)
        ):
            return NOTHING
        return self._report(state, context, self._overruns(facts, context))

    def due_ms(self, state: State, facts: SessionFacts) -> float | None:
        if facts.wall_cap_ms is None or facts.outcome is not None or state.timed:
            return None
        return facts.start_watermark_ms + facts.wall_cap_ms + 1

    def on_timer(self, state: State, context: SessionContext) -> Iterable[Detection]:
        facts = context.facts
        cap_ms = facts.wall_cap_ms or 0.0
        state.timed = True
        return list(self._report(state, context, [Overrun("wall_ms", cap_ms, cap_ms, True)]))

    def _overruns(self, facts: SessionFacts, context: SessionContext) -> Iterator[Overrun]:
        profile = context.profile
        tokens, steps = (0.0, 0.0) if profile is None else (profile.tokens.max, profile.steps.max)
        totals = (
            ("tokens", facts.tokens, facts.token_cap, _at_least(self.default_tokens, tokens)),
            ("steps", facts.steps, facts.step_cap, _at_least(self.default_steps, steps)),
            ("cost_usd", facts.cost_usd, facts.cost_cap_usd, None),
            ("wall_ms", context.time_ms - facts.start_ms, facts.wall_cap_ms, None),
        )
        for what, spent, declared, default in totals:
            cap = default if declared is None else declared
            if cap is not None and spent > cap:
                yield Overrun(what, spent, cap, declared is not None)

    def _report(
        self, state: State, context: SessionContext, overruns: Iterable[Overrun]
    ) -> Iterable[Detection]:
        facts = context.facts
        found: list[Detection] = []
        for what, spent, cap, declared in overruns:
            trigger = f"{what}/{context.agent}" if declared else what
            mark = name_hash(trigger)
            if mark in state.reported:
                continue
            state.reported = remember(state.reported, mark, MAX_REPORTED)
            kind = "declared" if declared else "default"
            found.append(
                context.detection(
                    self,
                    trigger=trigger,
                    severity="critical" if declared else "warning",
                    metric=what,
                    observed=spent,
                    expected=cap,
                    threshold=cap,
                    score=spent / cap if cap else float(spent),
                    sample_size=facts.events,
                    time_ms=facts.start_ms + cap if what == "wall_ms" else None,
                    since=Beginning(context.event_id, context.time_ms, facts.first_offset),
                    summary=f"{context.agent} works on after session {facts.session} used {spent:,.6g} "
                    f"{what} of a {kind} cap of {cap:,.6g}.",
                    suggested=HALT if declared else None,
                )
            )
        return found


def _at_least(guess: int | None, normal_most: float) -> float | None:
    """The default cap, or what the agent's history puts in its place."""
    return None if guess is None else max(guess, NORMAL_FACTOR * normal_most)
