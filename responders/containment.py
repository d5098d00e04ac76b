"""What several incidents want of one target, in one state: the strictest of each part wins."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Final, get_args

from schemas.control import EVERY_AGENT, ControlState, Mode, Rung, Target
from schemas.event import Budget
from watchkeeper_client.wanted import DEFAULT_CALLS_PER_MINUTE

MODES: Final[tuple[Mode, ...]] = get_args(Mode)
"""From the laxest to the strictest."""
RUNGS: Final[tuple[Rung, ...]] = get_args(Rung)
"""From the top of the ladder to the bottom."""
RUN: Final = ControlState(mode="run")


class TargetError(ValueError):
    """The text is not a target; the message is one line that says what to write."""


def combine(wanted: Sequence[ControlState]) -> ControlState:
    """The state that satisfies every one of ``wanted``; run, when nobody wants anything.

    >>> halt, degrade = ControlState(mode="halt"), ControlState(mode="degrade", ladder="rag")
    >>> state = combine([degrade, halt])
    >>> state.mode, state.ladder
    ('halt', 'rag')
    """
    if not wanted:
        return RUN
    budgets = [state.budget for state in wanted if state.budget is not None]
    return ControlState(
        mode=max((state.mode for state in wanted), key=MODES.index),
        ladder=max((state.ladder for state in wanted), key=RUNGS.index),
        revoked_tools=sorted({tool for state in wanted for tool in state.revoked_tools}),
        calls_per_minute=_smallest(_rate(state) for state in wanted),
        budget=_smallest_budget(budgets) if budgets else None,
    )


def _rate(state: ControlState) -> int | None:
    """A throttle that gives no rate means one; said out loud, it outlasts a stricter mode beside it."""
    if state.calls_per_minute is None and state.mode == "throttle":
        return DEFAULT_CALLS_PER_MINUTE
    return state.calls_per_minute


def _smallest(values: Iterable[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)


def _smallest_budget(budgets: Sequence[Budget]) -> Budget:
    fan_out: dict[str, int] = {}
    for budget in budgets:
        for tool, calls in (budget.fan_out or {}).items():
            fan_out[tool] = min(calls, fan_out.get(tool, calls))
    return Budget(
        tokens=_smallest(budget.tokens for budget in budgets),
        steps=_smallest(budget.steps for budget in budgets),
        cost_usd=min((b.cost_usd for b in budgets if b.cost_usd is not None), default=None),
        wall_ms=min((b.wall_ms for b in budgets if b.wall_ms is not None), default=None),
        fan_out=fan_out or None,
    )


def parse_target(text: str) -> Target:
    """A target as people write it: ``agent``, ``tenant/agent`` or ``tenant/agent/session``.

    ``*`` as the agent is every agent.

    Raises:
        TargetError: a part is empty or too long, or every agent is combined with a session.

    >>> parse_target("billing").key, parse_target("acme/billing/s-1").session
    ('default/billing', 's-1')
    """
    parts = text.strip().split("/", 2)
    if not all(0 < len(part) <= 256 for part in parts):
        raise TargetError(f"{text!r} is not a target: write agent, tenant/agent or tenant/agent/session")
    if len(parts) == 1:
        return Target(agent=parts[0])
    if len(parts) == 2:
        return Target(tenant=parts[0], agent=parts[1])
    if parts[1] == EVERY_AGENT:
        raise TargetError(f"{text!r} is not a target: every agent (*) takes no session")
    return Target(tenant=parts[0], agent=parts[1], session=parts[2])


def scope_of(target: Target) -> str:
    """The target as a key that is one target only: names may contain the ``/`` of its Kafka key.

    >>> scope_of(Target(agent="a/b"))
    '["default","a/b",null]'
    """
    return json.dumps(
        [target.tenant, target.agent, target.session], ensure_ascii=False, separators=(",", ":")
    )


def covers(outer: Target, inner: Target) -> bool:
    """Whether ``inner`` is ``outer`` or a session of it. The global stop covers only itself."""
    if (outer.tenant, outer.agent) != (inner.tenant, inner.agent):
        return False
    return outer.session is None or outer.session == inner.session


def without_tools(tools: Iterable[str]) -> ControlState:
    """The agent goes on, without these tools."""
    # Degraded to the top of the ladder: less than this, only `run`, an engine's key may not ask for.
    return ControlState(mode="degrade", revoked_tools=sorted(set(tools)))


def within_budget(
    cost_usd: float | None = None, tokens: int | None = None, steps: int | None = None
) -> ControlState:
    """The agent goes on, each session of it within these caps."""
    return ControlState(mode="degrade", budget=Budget(cost_usd=cost_usd, tokens=tokens, steps=steps))


def describe(state: ControlState) -> str:
    """The state in a few words, as a page says it.

    >>> describe(ControlState(mode="degrade", ladder="keyword", revoked_tools=["mail"]))
    'degrade to keyword, without mail'
    >>> describe(within_budget(cost_usd=5, steps=15))
    'go on, a session at most $5, 15 steps'
    """
    words = {
        "run": "run",
        "throttle": "throttle",
        "degrade": "go on" if state.ladder == "full" else f"degrade to {state.ladder}",
        "require_approval": "ask before each action",
        "halt": "halt",
    }[state.mode]
    if state.calls_per_minute is not None:
        words += f", {state.calls_per_minute} calls a minute"
    if state.revoked_tools:
        words += ", without " + ", ".join(state.revoked_tools[:8])
    caps = _caps(state.budget or Budget())
    return f"{words}, a session at most {', '.join(caps)}" if caps else words


def _caps(budget: Budget) -> list[str]:
    caps = []
    if budget.cost_usd is not None:
        caps.append(f"${budget.cost_usd:,.12g}")
    if budget.tokens is not None:
        caps.append(f"{budget.tokens:,} tokens")
    if budget.steps is not None:
        caps.append(f"{budget.steps:,} steps")
    if budget.wall_ms is not None:
        caps.append(f"{budget.wall_ms / 1000:,.12g} s")
    fan_out = sorted((budget.fan_out or {}).items())
    return caps + [f"{targets:,} of {name}" for name, targets in fan_out[:8]]
