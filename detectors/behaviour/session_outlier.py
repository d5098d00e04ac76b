"""session_outlier: one session is unlike all others of its agent.

Statistic: a session is one vector (logs of steps, tokens, cost, duration, calls, errors, escalations and
clarifications), each feature in robust standard deviations (median and MAD of the last 64 sessions). Its
score is that of river's Half-Space Trees (`detectors.half_spaces`) times the most unusual feature's distance;
how rare such a score is comes from the tail of the agent's own (`detectors.sequential.tails`). Unit: nats,
minus the log of the probability. Source: Tan, Ting and Liu (2011) for the trees.

Warned of is what is rarer than the agent's number of sessions and this detector's share of false alarms let
expect: no constant, and nothing before some 400 sessions. A session without a call says nothing. Never more
than a warning: one session is no drift. Measured on a healthy fleet with sessions made odd (AUC): the trees
times the distance 0.94, the distance 0.95, the trees 0.91, river's one-class SVM 0.88 on random Fourier
features and 0.44 without.

>>> import numpy as np
>>> from detectors.testing import run_sessions
>>> random = np.random.default_rng(1)
>>> usual = [dict(steps=int(s), tokens=int(900 * s), llm_calls=4) for s in random.integers(4, 9, 600)]
>>> odd = dict(steps=900, tokens=90_000_000, llm_calls=9)
>>> for found in run_sessions(SessionOutlier(), [*usual, odd, *usual[:9]]):
...     print(found.severity, found.summary.partition(";")[0])
warning Session s600 of agent is unlike the others: 90,000,000 tokens (usually 5,397), 900 steps (usually 6)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import exp, log, log1p
from typing import ClassVar, Final

import msgspec
import numpy as np

from detectors.base import NOTHING, Detection, SessionSummary, Standing, WindowContext
from detectors.false_alarms import level
from detectors.half_spaces import FEATURES, Floats, Masses, learn, score
from detectors.sequential.tails import Tails, TailState
from detectors.session_vectors import COST, show, vector

RECENT: Final = 64
RENEWED: Final = 16
LEAST_SPREAD: Final = 0.25
SHARE_OF_MEDIAN: Final = 0.05
BREADTH: Final = 6.0
UNUSUAL: Final = 3.0
LEAST_APART: Final = 5.0
"""Where sessions are all alike a small difference is rare, but nothing to tell of."""
RAREST: Final = log(1e6)
FURTHEST: Final = 1_000.0
LEARNING: Final = 250
"""Scores that only tell how scores are."""
Found = tuple[Floats, float, float]


@dataclass(frozen=True, slots=True)
class SessionOutlier:
    """`tails` judges how rare a score is."""

    tails: Tails = field(default_factory=lambda: Tails(learning=LEARNING))

    name: ClassVar[str] = "session_outlier"
    version: ClassVar[int] = 1

    class State(msgspec.Struct):
        """`recent` are vectors in half precision; `centre` and `spread` the last look at them."""

        first_ms: int = -1
        sessions: int = 0
        recent: bytes = b""
        centre: list[float] = []
        spread: list[float] = []
        masses: Masses = msgspec.field(default_factory=Masses)
        tail: TailState = msgspec.field(default_factory=TailState)

    def update(self, state: State, summary: SessionSummary, context: WindowContext) -> Iterable[Detection]:
        if not summary.llm_calls + summary.tool_calls:
            return NOTHING
        if state.first_ms < 0:
            state.first_ms = summary.end_ms
        state.sessions += 1
        seen = vector(summary)
        if summary.cost_unknown_calls:
            seen[COST] = state.centre[COST] if state.centre else 0.0
        found: Iterable[Detection] = NOTHING
        ready = False
        if state.centre:
            apart = np.clip((seen - state.centre) / state.spread, -FURTHEST, FURTHEST)
            place = np.tanh(apart / BREADTH) / 2 + 0.5
            if state.masses.is_ready:
                oddness = log1p(score(state.masses, place) * float(np.abs(apart).max()))
                rarity, high = self.tails.update(state.tail, oddness)
                span_ms = summary.end_ms - state.first_ms
                wanted = log(level(self.name, "warning", observations=state.sessions, span_ms=span_ms))
                ready = state.tail.count > self.tails.learning
                if high and rarity >= wanted and np.abs(apart).max() >= LEAST_APART:
                    found = [self._detection(state, summary, (apart, rarity, wanted), context)]
            learn(state.masses, place)
        _remember(state, seen)
        context.standings[self.name] = Standing("healthy" if ready else "cannot tell", "sessions")
        return found

    def _detection(
        self, state: State, summary: SessionSummary, found: Found, context: WindowContext
    ) -> Detection:
        apart, rarity, wanted = found
        order = [int(feature) for feature in np.argsort(-np.abs(apart))[:3]]
        unusual = [feature for feature in order if abs(apart[feature]) >= UNUSUAL] or order[:1]
        seen = np.asarray(state.centre) + apart * state.spread
        told = ", ".join(show(feature, seen[feature], state.centre[feature]) for feature in unusual)
        return context.detection(
            self,
            trigger=f"{summary.session}/{summary.end_ms}",
            severity="warning",
            metric="session",
            threshold=wanted,
            score=rarity,
            sample_size=state.sessions,
            since=context.since(summary.start_ms),
            event_ids=(),
            summary=f"Session {summary.session} of {summary.agent} is unlike the others: {told}; such a one "
            f"comes once in {exp(min(rarity, RAREST)):,.0f} or less.",
        )


def _remember(state: SessionOutlier.State, seen: Floats) -> None:
    width = 2 * FEATURES
    state.recent = (state.recent + seen.astype(np.float16).tobytes())[-RECENT * width :]
    if state.sessions % RENEWED == 0 and len(state.recent) >= 2 * RENEWED * width:
        recent = np.frombuffer(state.recent, dtype=np.float16).reshape(-1, FEATURES).astype(float)
        centre = np.median(recent, axis=0)
        spread = 1.4826 * np.median(np.abs(recent - centre), axis=0)
        state.centre = centre.tolist()
        state.spread = np.maximum(spread, np.maximum(SHARE_OF_MEDIAN * np.abs(centre), LEAST_SPREAD)).tolist()
