"""What a session has used and may use: booked before a call, corrected after it. Pure: no I/O, no clock.

A call books what it is expected to use when it is allowed, so parallel calls cannot all take the same rest of
a budget. What it has really used comes afterwards, by settling the difference or from the session's own
`llm.call` events; of the two accounts the greater counts, so that nothing is counted twice.

The worst overshoot: steps, targets and what was booked never pass a cap. Beyond that each call that was under
way when the cap was reached may pass it by what it used more than it had booked, and no call is allowed after
it. So calls made one after the other pass a cap by at most one call's use, and calls that book the most they
can use (prompt plus `max_tokens`) by nothing.

A step is one turn of the model with its tool call, as the engine's `budget` detector counts it: the greater
of the calls of tools and the calls of anything else. Units: tokens, US dollars, epoch milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from watchkeeper_client.control import Budget

MAX_FAN_OUT_NAMES: Final = 512
"""Tools and effects whose targets are counted in a session; further ones are not."""


class Call(NamedTuple):
    """A call to be decided; see :class:`watchkeeper_client.gate.CallFields`."""

    tool: str | None = None
    effect: str | None = None
    targets: int = 1
    tokens: int = 0
    cost_usd: float = 0.0
    approval: str | None = None
    irreversible: bool = False


@dataclass(slots=True)
class Spent:
    """What a session has used, as far as this process has seen. ``caps`` are those it brought along."""

    since_ms: float
    caps: Budget | None = None
    tool_calls: int = 0
    other_calls: int = 0
    booked_tokens: int = 0
    booked_usd: float = 0.0
    reported_tokens: int = 0
    reported_usd: float = 0.0
    targets: dict[str, int] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        return max(self.booked_tokens, self.reported_tokens)

    @property
    def cost_usd(self) -> float:
        return max(self.booked_usd, self.reported_usd)

    def book(self, call: Call) -> None:
        """Counts an allowed call with all it is expected to use."""
        if call.tool is None:
            self.other_calls += 1
        else:
            self.tool_calls += 1
            self._touch(call.tool, call.targets)
        if call.effect is not None and call.effect != call.tool:
            self._touch(call.effect, call.targets)
        self.booked_tokens += call.tokens
        self.booked_usd += call.cost_usd

    def settle(self, tokens: int, cost_usd: float) -> None:
        """Corrects what is booked by the difference between real and expected use."""
        self.booked_tokens = max(0, self.booked_tokens + tokens)
        self.booked_usd = max(0.0, self.booked_usd + cost_usd)

    def report(self, tokens: int, cost_usd: float) -> None:
        """Adds what the session says a call has used."""
        self.reported_tokens += tokens
        self.reported_usd += cost_usd

    def exceeded(self, budget: Budget, call: Call, now_ms: float) -> tuple[str, float] | None:
        """The first cap that the call would pass, by name and size; None when there is room."""
        steps = self.other_calls if call.tool is None else self.tool_calls
        if budget.steps is not None and steps >= budget.steps:
            return "steps", budget.steps
        # A call that expects to use nothing still needs something left.
        if budget.tokens is not None and self.tokens + (call.tokens or 1) > budget.tokens:
            return "tokens", budget.tokens
        if budget.cost_usd is not None and (
            self.cost_usd >= budget.cost_usd or self.cost_usd + call.cost_usd > budget.cost_usd
        ):
            return "cost_usd", budget.cost_usd
        if budget.wall_ms is not None and now_ms - self.since_ms >= budget.wall_ms:
            return "wall_ms", budget.wall_ms
        for name, cap in budget.fan_out:
            if name in (call.tool, call.effect) and self.targets.get(name, 0) + max(1, call.targets) > cap:
                return f"fan_out of {name}", cap
        return None

    def _touch(self, name: str, targets: int) -> None:
        if name in self.targets or len(self.targets) < MAX_FAN_OUT_NAMES:
            self.targets[name] = self.targets.get(name, 0) + max(1, targets)


def caps(budget: Mapping[str, Any]) -> Budget:
    """The caps of a budget as `session.start` carries it, of which every figure has been checked."""
    return Budget(
        tokens=budget.get("tokens"),
        steps=budget.get("steps"),
        cost_usd=budget.get("cost_usd"),
        wall_ms=budget.get("wall_ms"),
        fan_out=tuple(sorted((budget.get("fan_out") or {}).items())),
    )


def overridden(general: Budget | None, own: Budget) -> Budget:
    """``own`` where it says something, ``general`` elsewhere."""
    if general is None:
        return own
    return Budget(
        tokens=general.tokens if own.tokens is None else own.tokens,
        steps=general.steps if own.steps is None else own.steps,
        cost_usd=general.cost_usd if own.cost_usd is None else own.cost_usd,
        wall_ms=general.wall_ms if own.wall_ms is None else own.wall_ms,
        fan_out=tuple(sorted({**dict(general.fan_out), **dict(own.fan_out)}.items())),
    )
