"""context_growth: an agent's context grows from call to call, faster than long work explains.

Statistic: the Theil–Sen slope (median of pairwise slopes; up to 29% of the calls may be odd) of the context
over the agent's last twelve calls of a model. Units: tokens, calls. Source: R 6, a weekend run whose context
passed 50,000 tokens by step 20: 2,500 tokens a call, and a cost that grows with the square of the calls.

A warning when at least half of the context has been added since it was last small, the slope is still at
least half of that pace, and it has passed `limit_tokens` within `limit_calls` or will; eight calls and 20,000
tokens are the least that is judged. Three times that, at that pace, is critical: most models' window is full
soon after. A long context that is flat is healthy, and so is slow growth, and so is one large document. One
that falls to half (compaction) begins anew. What healthy sessions of the agent reach, and half as much again,
is no cause where its profile is known. The context is the input of a call, with what was read from a cache
where a provider counts that apart; a call that does not say its input is passed over. Six agents of a session
are followed at once; of more, one whose context does not grow gives its place to another.

>>> from detectors.testing import events, run
>>> call = dict(type="llm.call", request_model="m", output_tokens=100, status="ok")
>>> run(ContextGrowth(), events(dict(call, input_tokens=2_000 + 3_000 * turn) for turn in range(20)))
[('warning', 'e7', 23000.0)]
>>> run(ContextGrowth(), events(dict(call, input_tokens=90_000) for turn in range(20)))
[]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import ClassVar

import msgspec

from detectors.base import NOTHING, SessionContext, name_hash
from detectors.bounded import add_recent
from schemas.detection import Detection, Severity
from schemas.event import LlmCall

MAX_AGENTS = 6
GONE_CALLS = 512
MAX_CALLS = 12
NORMAL_MARGIN = 1.5


class Track(msgspec.Struct, array_like=True):
    """One agent's contexts since it was last small: the smallest, how many, and the last of them; and which
    of the session's calls was its last.
    """

    least_tokens: int
    calls: int = 0
    last_tokens: list[int] = []
    reported: Severity | None = None
    last_call: int = 0


@dataclass(frozen=True, slots=True)
class ContextGrowth:
    """`judged_tokens` is the least context that is judged, `minimum_calls` the least evidence."""

    limit_tokens: int = 50_000
    limit_calls: int = 20
    critical_factor: int = 3
    judged_tokens: int = 20_000
    minimum_calls: int = 8

    name: ClassVar[str] = "context_growth"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("llm.call",)

    class State(msgspec.Struct):
        """By the agent's hash."""

        tracks: dict[bytes, Track] = {}

    def update(self, state: State, event: LlmCall, context: SessionContext) -> Iterable[Detection]:
        tokens = _context_tokens(event)
        if not tokens or event.status != "ok":
            return NOTHING
        agent, tracks, now = name_hash(event.agent), state.tracks, context.facts.llm_calls
        track = tracks.get(agent)
        if track is None:
            if len(tracks) >= MAX_AGENTS:
                gone = next((one for one, each in tracks.items() if self._gives_way(each, now)), None)
                if gone is None:
                    return NOTHING
                del tracks[gone]
            track = tracks[agent] = Track(tokens)
        track.last_call = now
        if track.last_tokens and 2 * tokens < track.last_tokens[-1]:
            track.least_tokens, track.calls, track.last_tokens = tokens, 0, []
        track.calls += 1
        track.least_tokens = min(track.least_tokens, tokens)
        add_recent(track.last_tokens, tokens, MAX_CALLS)
        if tokens < self.judged_tokens or track.calls < self.minimum_calls or track.reported == "critical":
            return NOTHING
        return self._judge(track, tokens, context)

    def _judge(self, track: Track, tokens: int, context: SessionContext) -> Iterable[Detection]:
        limit_tokens = self._limit_tokens(context)
        pace = limit_tokens / self.limit_calls
        full = tokens >= self.critical_factor * limit_tokens
        if 2 * track.least_tokens > tokens or (track.reported and not full):
            return NOTHING
        calls_to_come = self.limit_calls - track.calls
        if calls_to_come <= 0 and tokens < pace * track.calls:
            return NOTHING
        slope = _slope(track.last_tokens)
        if 2 * slope < pace or tokens + slope * max(0, calls_to_come) < limit_tokens:
            return NOTHING
        severity: Severity = "critical" if full else "warning"
        track.reported = severity
        return (
            context.detection(
                self,
                trigger=context.agent,
                severity=severity,
                metric="context_tokens",
                observed=tokens,
                expected=track.least_tokens,
                threshold=limit_tokens * (self.critical_factor if severity == "critical" else 1),
                sample_size=track.calls,
                summary=f"The context of {context.agent} grew to {tokens:,} tokens in {track.calls} calls, "
                f"{slope:,.0f} a call: each call costs more than the one before.",
            ),
        )

    def _gives_way(self, track: Track, now: int) -> bool:
        """Whether nothing is to be found in the agent soon: its context is steady, or it calls no more."""
        grown = track.last_tokens[-1] - track.last_tokens[0]
        pace = self.limit_tokens / self.limit_calls * (len(track.last_tokens) - 1)
        steady = track.calls >= self.minimum_calls and 2 * grown < pace
        return steady or track.reported == "critical" or now - track.last_call > GONE_CALLS

    def _limit_tokens(self, context: SessionContext) -> float:
        profile = context.profile
        normal = 0.0 if profile is None else NORMAL_MARGIN * profile.input_tokens.max
        return max(float(self.limit_tokens), normal)


def _context_tokens(event: LlmCall) -> int:
    """Some providers count what was read from the cache as input, some apart from it."""
    cached = event.cache_read_tokens or 0
    return event.input_tokens if cached <= event.input_tokens else event.input_tokens + cached


def _slope(sizes: list[int]) -> float:
    """Tokens a call: the median over all pairs of calls."""
    pairs = combinations(enumerate(sizes), 2)
    return median((later - earlier) / (at - before) for (before, earlier), (at, later) in pairs)
