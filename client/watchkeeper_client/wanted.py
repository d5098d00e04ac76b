"""The wanted state of every target, as the control topic has told it, and what it means for the next call.

Pure: no I/O and no clock. Commands go in as raw bytes with the present time, acknowledgements come out; a
decision reads memory only. Times are epoch milliseconds.

Of one target the newest epoch wins; between a target and the wider ones it lies in (session, agent, all
agents of a tenant, all tenants) the strictest wins, part by part. A command that asks for less than the
present one of its target does, in strictness or in how long it lasts, must be signed by an operator.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

from xxhash import xxh3_64_hexdigest

from watchkeeper_client.control import (
    LADDER,
    MAX_COUNT,
    MODES,
    Budget,
    Command,
    Ladder,
    Mode,
    Refused,
    Role,
    TrustedKeys,
    Verified,
    parse,
    verify,
)

ACK_SCHEMA: Final = "agent.control.ack/1"
EVERY: Final = "*"
DEFAULT_CALLS_PER_MINUTE: Final = 60
"""What ``throttle`` means when the command does not say."""
BURST_MS: Final = 10_000
"""A throttled agent may use this much of its rate at once."""
MAX_SESSIONS: Final = 10_000
"""Sessions whose spending is remembered; beyond it the longest unused is forgotten."""

Scope = tuple[str, str, str | None]
Denial = Literal["halt", "revoked_tool", "approval", "budget", "throttle", "unheard"]

_MODE_RANK = {mode: rank for rank, mode in enumerate(MODES)}
_LADDER_RANK = {ladder: rank for rank, ladder in enumerate(LADDER)}
_MINUTE_MS = 60_000.0


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the call may go ahead, and how. ``mode`` and ``ladder`` hold for allowed calls too.

    ``reason`` is the command's, for people; ``denied`` is the code. ``retry_after_ms`` is set when waiting
    helps.
    """

    allowed: bool
    mode: Mode = "run"
    ladder: Ladder = "full"
    denied: Denial | None = None
    reason: str = ""
    command_id: str | None = None
    retry_after_ms: float | None = None


ALLOWED: Final = Decision(allowed=True)


@dataclass(frozen=True, slots=True)
class Present:
    """The command in force for a target (or expired: its epoch still counts)."""

    command: Command
    role: Role

    def in_force(self, now_ms: float) -> bool:
        expires_at_ms = self.command.expires_at_ms
        return expires_at_ms is None or now_ms < expires_at_ms


@dataclass(slots=True)
class _Bucket:
    """Tokens of one throttle: ``per_minute`` flow in, at most BURST_MS worth is kept, one call takes one."""

    per_minute: int
    tokens: float
    at_ms: float

    def wait_ms(self, now_ms: float) -> float:
        """How long until there is a token: 0 when there is one now."""
        capacity = max(1.0, self.per_minute * BURST_MS / _MINUTE_MS)
        elapsed_ms = max(0.0, now_ms - self.at_ms)
        self.tokens = min(capacity, self.tokens + elapsed_ms * self.per_minute / _MINUTE_MS)
        self.at_ms = now_ms
        if self.tokens >= 1.0:
            return 0.0
        return (1.0 - self.tokens) * _MINUTE_MS / self.per_minute


@dataclass(slots=True)
class _Spent:
    """What a session has used, as far as this gate has seen."""

    since_ms: float
    tokens: int = 0
    steps: int = 0
    cost_usd: float = 0.0
    calls: dict[str, int] = field(default_factory=dict)


class WantedState:
    """The register. Safe to use from several threads.

    Args:
        keys: whose commands are obeyed.
        enforcement_point: who says so in acknowledgements (process, proxy).
        agent: whom the acknowledgements speak for; None for a point that enforces for every agent, whose
            acknowledgements name the command's own target.
    """

    def __init__(self, keys: TrustedKeys, *, enforcement_point: str, agent: str | None = None) -> None:
        self._keys = keys
        self._enforcement_point = enforcement_point
        self._agent = agent
        self._present: dict[Scope, Present] = {}
        self._buckets: dict[tuple[Scope, Scope], _Bucket] = {}
        self._spent: OrderedDict[Scope, _Spent] = OrderedDict()
        self._lock = threading.Lock()

    def apply(self, raw: bytes | None, now_ms: float) -> dict[str, object]:
        """Takes a record of ``agent.control`` in; returns its acknowledgement (``agent.control.ack/1``).

        ``applied`` means: this is now the wanted state of its target (also when it already was). Anything
        else is ``refused`` with a reason and changes nothing. A tombstone (None) is refused: only a signed
        command may lift containment. Never raises.
        """
        if raw is None:
            return self._ack(None, now_ms, Refused("malformed", "a tombstone is not a command"), b"")
        fields = parse(raw)
        if isinstance(fields, Refused):
            return self._ack(None, now_ms, fields, raw)
        checked = verify(fields, self._keys, now_ms)
        refused = checked if isinstance(checked, Refused) else self._store(checked, now_ms)
        return self._ack(fields, now_ms, refused, raw)

    def present(self, tenant: str, agent: str, session: str | None = None) -> Present | None:
        """The newest command for exactly this target, expired or not."""
        return self._present.get((tenant, agent, session))

    def decide(
        self,
        tenant: str,
        agent: str,
        session: str | None,
        tool: str | None,
        now_ms: float,
        *,
        approval: str | None = None,
        tokens: int = 0,
        cost_usd: float = 0.0,
    ) -> Decision:
        """Whether this call may be made now; from memory only.

        An allowed call counts as one step of the session, with the ``tokens`` and ``cost_usd`` it is expected
        to use (:meth:`settle` corrects them afterwards) and takes a token of every throttle it falls under.
        ``approval`` is the id of a person's approval: with it ``require_approval`` lets the call through.
        """
        who: Scope = (tenant, agent, session)
        with self._lock:
            ruling = [present.command for present in self._ruling(who, now_ms)]
            spent = self._spent_by(who, now_ms)
            decision = ALLOWED
            if ruling:
                decision = self._judge(ruling, who, tool, now_ms, approval, (spent, tokens, cost_usd))
            if decision.allowed:
                spent.steps += 1
                spent.tokens += tokens
                spent.cost_usd += cost_usd
                if tool is not None:
                    spent.calls[tool] = spent.calls.get(tool, 0) + 1
            return decision

    def settle(
        self, tenant: str, agent: str, session: str | None, *, tokens: int = 0, cost_usd: float = 0.0
    ) -> None:
        """Corrects what a session has spent by the difference between real and expected use."""
        with self._lock:
            spent = self._spent.get((tenant, agent, session))
            if spent is not None:
                spent.tokens = max(0, spent.tokens + tokens)
                spent.cost_usd = max(0.0, spent.cost_usd + cost_usd)

    def _store(self, verified: Verified, now_ms: float) -> Refused | None:
        command = verified.command
        with self._lock:
            present = self._present.get(command.scope)
            if present is not None:
                if command.epoch < present.command.epoch:
                    return Refused("older_epoch", f"epoch {present.command.epoch} is in force")
                if command.epoch == present.command.epoch:
                    if command.canonical == present.command.canonical:
                        return None
                    return Refused("conflicting_epoch", "another command holds this epoch")
                lifts = present.in_force(now_ms) and is_laxer(command, present.command)
                if lifts and verified.role != "operator":
                    return Refused("lifts_without_operator", "less strict than the command in force")
            self._present[command.scope] = Present(command, verified.role)
        return None

    def _ruling(self, who: Scope, now_ms: float) -> Iterator[Present]:
        tenant, agent, session = who
        present = self._present
        if not present:
            return
        scopes: tuple[Scope, ...] = (
            (EVERY, EVERY, None),
            (tenant, EVERY, None),
            (tenant, agent, None),
        )
        if session is not None:
            scopes += ((tenant, EVERY, session), who)
        for scope in scopes:
            found = present.get(scope)
            if found is not None and found.in_force(now_ms):
                yield found

    def _spent_by(self, who: Scope, now_ms: float) -> _Spent:
        spent = self._spent.get(who)
        if spent is None:
            spent = self._spent[who] = _Spent(now_ms)
            if len(self._spent) > MAX_SESSIONS:
                self._spent.popitem(last=False)
        else:
            self._spent.move_to_end(who)
        return spent

    def _judge(
        self,
        ruling: list[Command],
        who: Scope,
        tool: str | None,
        now_ms: float,
        approval: str | None,
        use: tuple[_Spent, int, float],
    ) -> Decision:
        strictest = max(ruling, key=lambda command: _MODE_RANK[command.mode])
        ladder = max((command.ladder for command in ruling), key=_LADDER_RANK.__getitem__)

        def deny(denied: Denial, by: Command, retry_after_ms: float | None = None) -> Decision:
            return Decision(False, strictest.mode, ladder, denied, by.reason, by.command_id, retry_after_ms)

        if strictest.mode == "halt":
            return deny("halt", strictest)
        for command in ruling:
            if tool is not None and tool in command.revoked_tools:
                return deny("revoked_tool", command)
        if strictest.mode == "require_approval" and not approval:
            return deny("approval", strictest)
        for command in ruling:
            if command.budget is not None and _exceeds(command.budget, tool, now_ms, use):
                return deny("budget", command)
        throttled = self._take_tokens(ruling, who, now_ms)
        if throttled is not None:
            command, wait_ms = throttled
            return deny("throttle", command, wait_ms)
        return Decision(True, strictest.mode, ladder, None, strictest.reason, strictest.command_id)

    def _take_tokens(
        self, ruling: list[Command], who: Scope, now_ms: float
    ) -> tuple[Command, float | None] | None:
        """Takes one token from every throttle, or from none and says who denies and for how long."""
        buckets: list[_Bucket] = []
        for command in ruling:
            per_minute = _rate(command)
            if per_minute is None:
                continue
            if per_minute == 0:
                return command, None
            # A throttle on all agents gives each its own rate; on an agent, its sessions share one.
            sharer = who if command.session is not None else (who[0], who[1], None)
            bucket = self._buckets.get((command.scope, sharer))
            if bucket is None or bucket.per_minute != per_minute:
                bucket = _Bucket(per_minute, max(1.0, per_minute * BURST_MS / _MINUTE_MS), now_ms)
                self._buckets[command.scope, sharer] = bucket
            wait_ms = bucket.wait_ms(now_ms)
            if wait_ms > 0:
                return command, wait_ms
            buckets.append(bucket)
        for bucket in buckets:
            bucket.tokens -= 1.0
        return None

    def _ack(
        self, fields: dict[str, object] | None, now_ms: float, refused: Refused | None, raw: bytes
    ) -> dict[str, object]:
        claimed = fields or {}
        target = claimed_target(claimed)
        command_id, epoch = claimed.get("command_id"), claimed.get("epoch")
        if not (isinstance(command_id, str) and is_name(command_id)):
            # Tells two unreadable commands apart without repeating either.
            command_id = f"unreadable-{xxh3_64_hexdigest(raw)}"
        if not isinstance(epoch, int) or isinstance(epoch, bool) or not 0 <= epoch <= MAX_COUNT:
            epoch = 0
        ack: dict[str, object] = {
            "schema": ACK_SCHEMA,
            "command_id": command_id,
            "epoch": epoch,
            "agent": self._agent or (target[1] if target else "unknown"),
            "enforcement_point": self._enforcement_point,
            "result": "applied" if refused is None else "refused",
            "time": rfc_3339(now_ms),
        }
        if target is not None:
            ack["tenant"] = target[0]
            if target[2] is not None:
                ack["session"] = target[2]
        if refused is not None:
            ack["reason"] = f"{refused.reason}: {refused.detail}"
        return ack


def is_laxer(new: Command, old: Command) -> bool:
    """Whether ``new`` asks for less than ``old`` in any part, or ends sooner."""
    if _asks_nothing(old):
        return False
    ends_sooner = new.expires_at_ms is not None and (
        old.expires_at_ms is None or new.expires_at_ms < old.expires_at_ms
    )
    if new.mode == "halt":
        # Nothing contains more; a halt must never wait for an operator because it is short.
        return old.mode == "halt" and ends_sooner
    return (
        ends_sooner
        or _MODE_RANK[new.mode] < _MODE_RANK[old.mode]
        or _LADDER_RANK[new.ladder] < _LADDER_RANK[old.ladder]
        or not old.revoked_tools <= new.revoked_tools
        or _is_above(_rate(new), _rate(old))
        or _is_roomier(new.budget, old.budget)
    )


def _asks_nothing(command: Command) -> bool:
    return (
        command.mode == "run"
        and command.ladder == "full"
        and not command.revoked_tools
        and command.calls_per_minute is None
        and command.budget is None
    )


def claimed_target(fields: dict[str, object]) -> Scope | None:
    """Whom a command says it is for, before anything is verified; None when that cannot be read."""
    target = fields.get("target")
    if not isinstance(target, dict):
        return None
    tenant = "default" if target.get("tenant") is None else target["tenant"]
    agent, session = target.get("agent"), target.get("session")
    if not (isinstance(tenant, str) and isinstance(agent, str) and is_name(tenant) and is_name(agent)):
        return None
    if session is None:
        return tenant, agent, None
    return (tenant, agent, session) if isinstance(session, str) and is_name(session) else None


def is_name(text: str) -> bool:
    """Whether ``text`` can be sent as an id: 1 to 256 characters that UTF-8 can hold."""
    return 1 <= len(text) <= 256 and not any("\ud800" <= char <= "\udfff" for char in text)


def rfc_3339(epoch_ms: float) -> str:
    """Epoch milliseconds as RFC 3339 in UTC, to the millisecond."""
    moment = datetime.fromtimestamp(epoch_ms / 1000, tz=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _rate(command: Command) -> int | None:
    if command.calls_per_minute is None and command.mode == "throttle":
        return DEFAULT_CALLS_PER_MINUTE
    return command.calls_per_minute


def _is_above(new: float | None, old: float | None) -> bool:
    return old is not None and (new is None or new > old)


def _is_roomier(new: Budget | None, old: Budget | None) -> bool:
    if old is None:
        return False
    new = new or Budget()
    fan_out = dict(new.fan_out)
    return (
        _is_above(new.tokens, old.tokens)
        or _is_above(new.steps, old.steps)
        or _is_above(new.cost_usd, old.cost_usd)
        or _is_above(new.wall_ms, old.wall_ms)
        or any(_is_above(fan_out.get(tool), calls) for tool, calls in old.fan_out)
    )


def _exceeds(budget: Budget, tool: str | None, now_ms: float, use: tuple[_Spent, int, float]) -> bool:
    """Whether one more call, expected to use so much, would pass a cap."""
    spent, tokens, cost_usd = use
    over_fan_out = any(
        name == tool and spent.calls.get(name, 0) + 1 > calls for name, calls in budget.fan_out
    )
    return (
        over_fan_out
        or _is_over(spent.tokens + max(1, tokens), budget.tokens)
        or _is_over(spent.steps + 1, budget.steps)
        or (budget.cost_usd is not None and (spent.cost_usd >= budget.cost_usd))
        or _is_over(spent.cost_usd + cost_usd, budget.cost_usd)
        or (budget.wall_ms is not None and now_ms - spent.since_ms >= budget.wall_ms)
    )


def _is_over(value: float, cap: float | None) -> bool:
    return cap is not None and value > cap
