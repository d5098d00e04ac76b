"""Containment by hand as a request says it: which action takes what, and what is wrong with it."""

from __future__ import annotations

import math
from typing import Any, Final, get_args

from pydantic import TypeAdapter, ValidationError

from api.errors import ApiError
from api.ports import ControlAction, ControlOrder, DegradeTo
from responders.containment import TargetError, parse_target, within_budget, without_tools
from schemas.control import EVERY_AGENT, ControlState, Target
from schemas.event import NameList

CAPS: Final = ("usd", "tokens", "steps")
TAKES: Final[dict[ControlAction, tuple[str, ...]]] = {
    "halt": (),
    "resume": (),
    "require_approval": (),
    "degrade": ("ladder",),
    "throttle": ("calls_per_minute",),
    "revoke": ("tools",),
    "budget": CAPS,
}
"""What each action needs to be told; of a budget any, at least one."""

_ALWAYS: Final = ("target", "reason", "person")
_FIELDS: Final = frozenset({"action", *_ALWAYS, *(name for names in TAKES.values() for name in names)})
_NAMES: Final[TypeAdapter[list[str]]] = TypeAdapter(NameList)
_MOST: Final = 10**12


def order_of(fields: dict[str, Any]) -> ControlOrder:
    """The order that a request's body gives.

    Raises:
        ApiError: 400, which says what is missing, wrong or too much.
    """
    action = fields.get("action")
    if not isinstance(action, str) or action not in TAKES:
        raise ApiError(400, "bad_action", f"action must be one of {', '.join(TAKES)}")
    unknown = sorted(fields.keys() - _FIELDS)
    if unknown:
        raise ApiError(
            400, "unknown_field", f"there is no {unknown[0][:64]!r}: {action} takes {_taken(action)}"
        )
    for other, names in TAKES.items():
        given = [name for name in names if fields.get(name) is not None]
        if given and given[0] not in TAKES[action]:
            raise ApiError(400, f"bad_{given[0]}", f"{given[0]} goes with {other} only")
    reason = fields.get("reason", f"{action} by hand")
    if not isinstance(reason, str) or not 1 <= len(reason) <= 1024:
        raise ApiError(400, "bad_reason", "reason must be a text of 1 to 1,024 characters")
    return ControlOrder(action, _target(fields.get("target")), _state(action, fields), reason)


def _taken(action: ControlAction) -> str:
    return ", ".join((*TAKES[action], *_ALWAYS))


def _state(action: ControlAction, fields: dict[str, Any]) -> ControlState | None:
    match action:
        case "resume":
            return None
        case "halt" | "require_approval":
            return ControlState(mode=action)
        case "degrade":
            ladder = fields.get("ladder")
            if not isinstance(ladder, str) or ladder not in get_args(DegradeTo):
                rungs = ", ".join(get_args(DegradeTo))
                raise ApiError(400, "bad_ladder", f"degrade needs a ladder: one of {rungs}")
            return ControlState(mode="degrade", ladder=ladder)
        case "throttle":
            if fields.get("calls_per_minute") is None:
                raise ApiError(400, "bad_calls_per_minute", "throttle needs calls_per_minute: a whole number")
            return ControlState(mode="throttle", calls_per_minute=_count(fields, "calls_per_minute"))
        case "revoke":
            return without_tools(_tools(fields.get("tools")))
        case "budget":
            if all(fields.get(name) is None for name in CAPS):
                raise ApiError(400, "bad_budget", "budget needs a cap: usd, tokens or steps a session")
            return within_budget(_dollars(fields), _count(fields, "tokens"), _count(fields, "steps"))


def _tools(value: Any) -> list[str]:
    """One name at least: without any, nothing would be taken away."""
    try:
        tools = _NAMES.validate_python(value, strict=True)
    except ValidationError:
        tools = []
    if not tools or not all(tools):
        raise ApiError(400, "bad_tools", 'revoke needs tools: a list of names, like ["send_email"]')
    return tools


def _count(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise ApiError(400, f"bad_{name}", f"{name} must be a whole number, 0 or more")
    return value


def _dollars(fields: dict[str, Any]) -> float | None:
    value = fields.get("usd")
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 <= value <= _MOST:
        raise ApiError(400, "bad_usd", "usd must be an amount of dollars, 0 or more")
    return float(value)


def _target(value: Any) -> Target:
    """A target as people write it, or as the contract does; `*` is every agent."""
    if isinstance(value, str):
        try:
            return parse_target(value)
        except TargetError as error:
            raise ApiError(400, "bad_target", str(error)) from None
    try:
        target = Target.model_validate(value)
    except ValueError:
        detail = 'target must be "tenant/agent[/session]" or {"tenant", "agent", "session"}'
        raise ApiError(400, "bad_target", detail) from None
    if target.agent == EVERY_AGENT and target.session is not None:
        raise ApiError(400, "bad_target", "every agent (*) takes no session")
    return target
