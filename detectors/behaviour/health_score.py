"""health_score: several respects of an agent are a little off at once, and none enough to be told of alone.

Statistic: strain, the weighted sum of what the detectors of behaviour make of the agent, each in units of
what it warns of (`detectors.health`, where the weights are). Unit: warnings. Derivation: sums of evidence in
such units cost no more false alarms than the catalogue is allowed. A warning at a strain of 1 while no
detector has spoken; over, and ready to be told again, at half of that. Source: R 41, R 43.

The composite with its parts goes to `agent.health`: at once when its state changes, within a minute when that
of a part does, and once an hour. That it cannot be told is a state of its own; so is it after a day without a
sign of the agent.

>>> from detectors.testing import run_windows, window
>>> from detectors.base import Standing
>>> class Shows:
...     name, version, State = "refusal_rate", 1, HealthScore.State
...     def update(self, state, window, context):
...         off = min(window.parts[""].llm_calls / 20, 0.9)
...         for name in ("refusal_rate", "judge_score"):
...             context.standings[name] = Standing("healthy", name, deviation=off)
...         return list(HealthScore().update(state, window, context))
>>> found = run_windows(Shows(), [window(n, llm_calls=n) for n in range(20)])
>>> [(one.severity, round(one.observed), one.score) for one in found]
[('warning', 50, 1.0)]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

import msgspec

from detectors.base import Detection, Finding, Window, WindowContext
from detectors.health import DEGRADED, LAST_DAY, WEIGHTS, end_to_end, parts_of, score, state_of, strain
from detectors.trailing import DAY_MS, HOUR_MS, MINUTE_MS, Trailing, add
from schemas.base import from_epoch_ms
from schemas.health import AgentHealth, HealthState

EVERY_MS: Final = HOUR_MS
SOONEST_MS: Final = MINUTE_MS
NAMED: Final = 4


@dataclass(frozen=True, slots=True)
class HealthScore:
    """Has no parameters but the weights."""

    name: ClassVar[str] = "health_score"
    version: ClassVar[int] = 1

    class State(msgspec.Struct):
        """Calls and sessions of the last day; what was published last and when; since when it is so."""

        seen_ms: int = -1
        steps: Trailing = msgspec.field(default_factory=Trailing)
        sessions: Trailing = msgspec.field(default_factory=Trailing)
        state: HealthState | None = None
        since_ms: float = 0.0
        parts: dict[str, str] = {}
        published_ms: float = 0.0
        strained: bool = False
        look_ms: float | None = None

    def update(self, state: State, window: Window, context: WindowContext) -> Iterable[Finding]:
        activity = context.activity
        calls, ended = activity.llm_calls + activity.tool_calls, activity.sessions_ended
        if calls:
            errors = activity.llm_errors + activity.tool_errors
            add(state.steps, window.start_ms, calls, errors, LAST_DAY)
        if ended:
            add(state.sessions, window.start_ms, ended, activity.outcomes.get("completed", 0), LAST_DAY)
        state.seen_ms = window.end_ms
        return self._look(state, context)

    def due_ms(self, state: State) -> float | None:
        return state.look_ms

    def on_timer(self, state: State, context: WindowContext) -> Iterable[Finding]:
        return self._look(state, context)

    def _look(self, state: State, context: WindowContext) -> list[Finding]:
        standings, now_ms = context.standings, context.time_ms
        strained = strain(standings)
        silent = now_ms - state.seen_ms >= DAY_MS
        alone = all(each.verdict in ("healthy", "cannot tell") for each in standings.values())
        found: list[Finding] = []
        if strained >= DEGRADED and alone and not state.strained:
            found.append(self._detection(strained, context))
        state.strained = strained >= (DEGRADED / 2 if state.strained else DEGRADED)
        whole = state_of(standings, strained, was_strained=state.strained)
        if silent and whole == "healthy":
            whole = "cannot tell"
        parts = {name: str(each.verdict) for name, each in standings.items() if name in WEIGHTS}
        if whole != state.state:
            state.state, state.since_ms = whole, now_ms
            wait_ms = 0
        else:
            wait_ms = EVERY_MS if parts == state.parts else SOONEST_MS
        if now_ms >= state.published_ms + wait_ms:
            state.parts, state.published_ms, wait_ms = parts, now_ms, EVERY_MS
            found.append(self._health(state, strained, context))
        state.look_ms = None if silent else state.published_ms + wait_ms
        return found

    def _health(self, state: State, strained: float, context: WindowContext) -> AgentHealth:
        whole = state.state
        assert whole is not None
        return AgentHealth(
            tenant=context.tenant,
            agent=context.agent,
            time=from_epoch_ms(context.time_ms),
            state=whole,
            since=from_epoch_ms(state.since_ms),
            score=None if whole == "cannot tell" else score(strained),
            parts={
                **parts_of(context.standings),
                **end_to_end(state.steps, state.sessions, int(context.time_ms)),
            },
        )

    def _detection(self, strained: float, context: WindowContext) -> Detection:
        off = {
            name: WEIGHTS[name] * each.deviation
            for name, each in context.standings.items()
            if name in WEIGHTS
        }
        most = sorted((name for name in off if off[name] > 0), key=lambda name: (-off[name], name))
        named = ", ".join(most[:NAMED])
        return context.detection(
            self,
            trigger=str(int(context.time_ms)),
            severity="warning",
            metric=self.name,
            observed=score(strained),
            expected=100.0,
            threshold=score(DEGRADED),
            score=strained,
            sample_size=len(most),
            event_ids=(),
            summary=f"{context.agent} is a little off in {len(most)} respects at once, none of them enough "
            f"by itself: {named}. Its health is {score(strained):.0f} of 100.",
        )
