"""Folds summaries of healthy sessions into what is normal for an agent (`detectors.profile`).

The fold adds, unites and intersects, so neither the order of sessions nor how they are spread over partitions
matters, as long as nothing has to be left out for its size. Ranges come from the sessions with the smallest
hashes of their ids: a sample of all there have been, drawn alike from the first and the newest, so a slow
drift cannot push it along. A deployment of a tool makes the agent's knowledge of that tool begin anew.

>>> from detectors.summary import AgentUse, CallForm, SessionSummary
>>> learner, state = Learner(min_sessions=2), Learned()
>>> for number in range(2):
...     use = AgentUse(calls=[CallForm("search", keys=["q", "page"][: number + 1], calls=1)])
...     session = SessionSummary(
...         tenant="t", agent="a", session=f"s{number}", start_ms=0, end_ms=9_000 * number, use=use,
...         steps=3 + number, source_topic="t", source_partition=0, source_offset=number)
...     learner.learn(state, session)
...     profile = learner.due(state, "default", "a")
>>> profile.sessions, profile.tools["search"].required, profile.steps.max
(2, ['q'], 4.0)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec
from xxhash import xxh64_intdigest

from detectors.profile import MIN_SESSIONS, AgentProfile, Range, ToolProfile
from detectors.summary import AgentUse, CallForm, Fact, SessionSummary, shape_hash

ROOM: Final = 12 * 1024
MAX_TOOL_SHAPES: Final = 16
MAX_CREDENTIALS: Final = 32
SAMPLE: Final = 64
OVERHEAD: Final = 4
TOOL_OVERHEAD: Final = 32
GROWTH: Final = 1.1
TOTALS: Final = ("steps", "tokens", "cost_usd", "duration_ms", "input_tokens")


class Learned(msgspec.Struct, omit_defaults=True):
    """All that is known of one agent. `sample` is (hash of the session, totals in the order of `TOTALS`); an
    unknown cost is NaN. `changed` is whether a profile would say something it has not said.
    """

    sessions: int = 0
    updated_ms: int = 0
    tools: dict[str, ToolProfile] = {}
    credentials: list[str] = []
    scopes: list[str] = []
    models: dict[str, list[str]] = {}
    sample: list[tuple[int, tuple[float, ...]]] = []
    most: list[float] = []
    room: int = ROOM
    open: bool = False
    changed: bool = False
    emitted_ms: int = 0
    emitted_sessions: int = 0
    emitted_most: list[float] = []


@dataclass(frozen=True, slots=True)
class Learner:
    """A profile is given out from `min_sessions` on, and at most once in `interval_ms` of event time."""

    min_sessions: int = MIN_SESSIONS
    interval_ms: int = 10_000

    def learn(self, state: Learned, summary: SessionSummary) -> None:
        """Take one session in."""
        state.sessions += 1
        state.updated_ms = max(state.updated_ms, summary.end_ms)
        self._learn_use(state, summary.use)
        cost = math.nan if summary.cost_unknown_calls else summary.cost_usd_micro / 1e6
        duration_ms = max(0, summary.end_ms - summary.start_ms)
        totals = (summary.steps, summary.tokens, cost, duration_ms, summary.use.input_tokens)
        _sample(state, f"{summary.session}/{summary.start_ms}", tuple(map(float, totals)))
        if state.sessions >= 2 * state.emitted_sessions or any(
            most > GROWTH * said for most, said in zip(state.most, state.emitted_most, strict=False)
        ):
            state.changed = True

    def forget(self, state: Learned, fact: Fact) -> None:
        """Take a deployment in: what a tool did before it says nothing any more."""
        if fact.component == "tool" and fact.name in state.tools:
            state.tools[fact.name] = ToolProfile()
            state.changed = True

    def due(self, state: Learned, tenant: str, agent: str, now_ms: int = 0) -> AgentProfile | None:
        """The profile, if there is one, it is news and the last one is long enough before `now_ms`."""
        if not state.changed or state.sessions < self.min_sessions:
            return None
        now_ms = max(now_ms, state.updated_ms)
        if state.emitted_sessions and now_ms < state.emitted_ms + self.interval_ms:
            return None
        state.changed = False
        state.emitted_ms = now_ms
        state.emitted_sessions = state.sessions
        state.emitted_most = list(state.most)
        return profile(state, tenant, agent)

    def _learn_use(self, state: Learned, use: AgentUse) -> None:
        state.open |= use.open
        for credential in use.credentials:
            if credential not in state.credentials:
                # Credentials are renewed: the oldest goes.
                state.credentials = [*state.credentials, credential][-MAX_CREDENTIALS:]
                state.changed = True
        for request, responses in use.models.items():
            if request not in state.models:
                if not _take(state, len(request) + TOOL_OVERHEAD):
                    state.open = True
                    continue
                state.models[request] = []
            state.open |= not _unite(state, state.models[request], responses)
        tools: set[str] = set()
        for form in use.calls:
            known = state.tools.get(form.tool)
            if known is None:
                if not _take(state, len(form.tool) + TOOL_OVERHEAD):
                    state.open = True
                    continue
                known = state.tools[form.tool] = ToolProfile()
                state.changed = True
            known.sessions += form.tool not in tools
            tools.add(form.tool)
            _learn_form(state, known, form)


def profile(state: Learned, tenant: str, agent: str) -> AgentProfile:
    """What the state says."""
    ranges = {
        name: _range([totals[place] for _, totals in state.sample], state.most[place])
        for place, name in enumerate(TOTALS)
    }
    return AgentProfile(
        tenant=tenant,
        agent=agent,
        sessions=state.sessions,
        updated_ms=state.updated_ms,
        tools={
            name: msgspec.structs.replace(
                tool,
                required=sorted(tool.required),
                keys=sorted(tool.keys),
                effects=sorted(tool.effects),
                shapes=dict(sorted(tool.shapes.items())),
            )
            for name, tool in sorted(state.tools.items())
        },
        credentials=sorted(state.credentials),
        scopes=sorted(state.scopes),
        models={request: sorted(responses) for request, responses in sorted(state.models.items())},
        open=state.open,
        **ranges,
    )


def _learn_form(state: Learned, known: ToolProfile, form: CallForm) -> None:
    if form.keys is not None:
        required = [key for key in known.required if key in form.keys] if known.keyed_calls else form.keys
        if required != known.required:
            known.required = list(required)
            state.changed = True
        known.keyed_calls += form.calls
        known.open |= not _unite(state, known.keys, form.keys)
    for name in ("calls", "counted_calls", "short_calls", "hollow_calls", "empty_calls"):
        setattr(known, name, getattr(known, name) + getattr(form, name))
    known.open |= form.open
    if form.effect is not None:
        known.open |= not _unite(state, known.effects, (form.effect,))
    if form.scope is not None:
        state.open |= not _unite(state, state.scopes, (form.scope,))
    if form.shape is not None:
        _learn_shape(state, known, form.shape, form.calls)


def _learn_shape(state: Learned, known: ToolProfile, shape: str, calls: int) -> None:
    """Count a shape, under its text if that is known from any session, else under its hash."""
    if shape not in known.shapes:
        hashed = shape_hash(shape)
        if shape == hashed:
            shape = next((text for text in known.shapes if shape_hash(text) == hashed), shape)
        elif hashed in known.shapes:
            if not _take(state, len(shape)):
                shape = hashed
            else:
                known.shapes[shape] = known.shapes.pop(hashed)
    if shape not in known.shapes:
        if len(known.shapes) >= MAX_TOOL_SHAPES or not _take(state, len(shape) + OVERHEAD):
            known.open = True
            return
        known.shapes[shape] = 0
        state.changed = True
    known.shapes[shape] += calls


def _unite(state: Learned, known: list[str], names: Iterable[str]) -> bool:
    """Add what is not there; False if something had to be left out."""
    complete = True
    for name in names:
        if name not in known:
            if _take(state, len(name) + OVERHEAD):
                known.append(name)
                state.changed = True
            else:
                complete = False
    return complete


def _take(state: Learned, characters: int) -> bool:
    if characters > state.room:
        return False
    state.room -= characters
    return True


def _sample(state: Learned, session: str, totals: tuple[float, ...]) -> None:
    # NaN is greater than nothing.
    most = state.most or [0.0] * len(totals)
    state.most = [total if total > so_far else so_far for total, so_far in zip(totals, most, strict=True)]
    state.sample = sorted([*state.sample, (xxh64_intdigest(session.encode()), totals)])[:SAMPLE]


def _range(values: list[float], most: float) -> Range:
    known = sorted(value for value in values if not math.isnan(value))
    if not known:
        return Range()
    return Range(p50=_quantile(known, 0.5), p95=_quantile(known, 0.95), max=most)


def _quantile(ordered: list[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
