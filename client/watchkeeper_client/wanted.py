"""The wanted state of every target, as the control topic has told it, and what it means for the next call.

Pure: no I/O and no clock. Commands go in as raw bytes with the present time, acknowledgements come out; a
decision reads memory only. Times are epoch milliseconds.

Of one target the newest epoch wins; between a target and the wider ones it lies in (session, agent, all
agents of a tenant, all tenants) the strictest wins, part by part. A command that asks for less than the
present one of its target does, in strictness or in how long it lasts, must be signed by an operator.
"""

from __future__ import annotations

import json
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
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
from watchkeeper_client.spending import Call, Spent, overridden

ACK_SCHEMA: Final = "agent.control.ack/1"
EVERY: Final = "*"
DEFAULT_CALLS_PER_MINUTE: Final = 60
"""What ``throttle`` means when the command does not say."""
BURST_MS: Final = 10_000
"""A throttled agent may use this much of its rate at once."""
MAX_SESSIONS: Final = 10_000
"""Sessions whose spending is remembered; beyond it the longest unused is forgotten."""

Scope = tuple[str, str, str | None]
Denial = Literal["halt", "revoked_tool", "approval", "irreversible", "budget", "throttle", "unheard"]

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

_Denied = tuple[Denial, str, str | None, float | None]
"""Why a call is denied: the code, the reason for people, the command, and for how long if waiting helps."""


@dataclass(frozen=True, slots=True)
class Present:
    """The newest command of a target, in force or expired, with what every decision asks of it worked out."""

    command: Command
    role: Role
    mode_rank: int
    ladder_rank: int
    calls_per_minute: int | None
    until_ms: float

    @classmethod
    def of(cls, command: Command, role: Role) -> Present:
        until_ms = math.inf if command.expires_at_ms is None else command.expires_at_ms
        ranks = _MODE_RANK[command.mode], _LADDER_RANK[command.ladder]
        return cls(command, role, *ranks, _rate(command), until_ms)


class _Bucket:
    """Tokens of one throttle: ``per_minute`` flow in, at most BURST_MS worth is kept, one call takes one."""

    __slots__ = ("at_ms", "capacity", "per_minute", "tokens")

    def __init__(self, per_minute: int, now_ms: float) -> None:
        self.per_minute = per_minute
        self.capacity = max(1.0, per_minute * BURST_MS / _MINUTE_MS)
        self.tokens = self.capacity
        self.at_ms = now_ms

    def wait_ms(self, now_ms: float) -> float:
        """How long until there is a token: 0 when there is one now."""
        if now_ms > self.at_ms:
            flown_in = (now_ms - self.at_ms) * self.per_minute / _MINUTE_MS
            self.tokens = min(self.capacity, self.tokens + flown_in)
        # Also after a clock set back: from there on time counts again.
        self.at_ms = now_ms
        if self.tokens >= 1.0:
            return 0.0
        return (1.0 - self.tokens) * _MINUTE_MS / self.per_minute


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
        self._spent: OrderedDict[Scope, Spent] = OrderedDict()
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
        call: Call,
        now_ms: float,
        *,
        budget: Budget | None = None,
    ) -> Decision:
        """Whether this call may be made now; from memory only.

        An allowed call is booked for the session with what it is expected to use (:meth:`settle` corrects it
        afterwards) and takes a token of every throttle it falls under. An approval lets a call through
        ``require_approval``; an irreversible call needs one whatever the wanted state. ``budget`` caps a
        session that brought no caps of its own (:meth:`cap`).
        """
        who: Scope = (tenant, agent, session)
        with self._lock:
            ruling = self._ruling(who, now_ms) if self._present else None
            spent = self._spent_by(who, now_ms)
            own = _own_denial(call, spent, budget if spent.caps is None else spent.caps, now_ms)
            if ruling:
                decision = self._judge(ruling, who, call, spent, own, now_ms)
            elif own is not None:
                decision = Decision(False, denied=own[0], reason=own[1])
            else:
                decision = ALLOWED
            if decision.allowed:
                spent.book(call)
            return decision

    def cap(
        self,
        tenant: str,
        agent: str,
        session: str,
        budget: Budget,
        now_ms: float,
        *,
        general: Budget | None = None,
    ) -> None:
        """Caps a session from now on; ``general`` holds where ``budget`` says nothing."""
        with self._lock:
            self._spent_by((tenant, agent, session), now_ms).caps = overridden(general, budget)

    def settle(
        self, tenant: str, agent: str, session: str | None, *, tokens: int = 0, cost_usd: float = 0.0
    ) -> None:
        """Corrects what a session has booked by the difference between real and expected use."""
        with self._lock:
            spent = self._spent.get((tenant, agent, session))
            if spent is not None:
                spent.settle(tokens, cost_usd)

    def report(
        self, tenant: str, agent: str, session: str, now_ms: float, *, tokens: int, cost_usd: float
    ) -> None:
        """Adds what a session says it has used; the greater of this and what is booked counts."""
        with self._lock:
            self._spent_by((tenant, agent, session), now_ms).report(tokens, cost_usd)

    def _store(self, verified: Verified, now_ms: float) -> Refused | None:
        command = verified.command
        with self._lock:
            present = self._present.get(command.scope)
            if present is not None:
                if command.epoch < present.command.epoch:
                    return Refused("older_epoch", f"epoch {present.command.epoch} is in force")
                if command.epoch == present.command.epoch:
                    if says_the_same(command, present.command):
                        return None
                    return Refused("conflicting_epoch", "another command holds this epoch")
                lifts = now_ms < present.until_ms and is_laxer(command, present.command)
                if lifts and verified.role != "operator":
                    return Refused("lifts_without_operator", "less strict than the command in force")
            self._present[command.scope] = Present.of(command, verified.role)
        return None

    def _ruling(self, who: Scope, now_ms: float) -> list[Present]:
        """The commands in force for a call, from the widest target to the narrowest."""
        tenant, agent, session = who
        scopes: tuple[Scope, ...] = ((EVERY, EVERY, None), (tenant, EVERY, None), (tenant, agent, None))
        if session is not None:
            scopes += ((tenant, EVERY, session), who)
        found = map(self._present.get, scopes)
        return [present for present in found if present is not None and now_ms < present.until_ms]

    def _spent_by(self, who: Scope, now_ms: float) -> Spent:
        spent = self._spent.get(who)
        if spent is None:
            spent = self._spent[who] = Spent(now_ms)
            if len(self._spent) > MAX_SESSIONS:
                self._spent.popitem(last=False)
        else:
            self._spent.move_to_end(who)
        return spent

    def _judge(
        self,
        ruling: list[Present],
        who: Scope,
        call: Call,
        spent: Spent,
        own: tuple[Denial, str] | None,
        now_ms: float,
    ) -> Decision:
        strictest, ladder_rank = ruling[0], 0
        for present in ruling:
            if present.mode_rank > strictest.mode_rank:
                strictest = present
            ladder_rank = max(ladder_rank, present.ladder_rank)
        mode, ladder = strictest.command.mode, LADDER[ladder_rank]
        denied = _forbidden(ruling, strictest, call)
        if denied is None and own is not None:
            denied = (*own, None, None)
        if denied is None:
            denied = _unaffordable(ruling, call, spent, now_ms) or self._take_tokens(ruling, who, now_ms)
        if denied is None:
            return Decision(True, mode, ladder, None, strictest.command.reason, strictest.command.command_id)
        return Decision(False, mode, ladder, *denied)

    def _take_tokens(self, ruling: list[Present], who: Scope, now_ms: float) -> _Denied | None:
        """Takes one token from every throttle, or from none and says who denies and for how long."""
        buckets: list[_Bucket] = []
        for present in ruling:
            per_minute = present.calls_per_minute
            if per_minute is None:
                continue
            if per_minute == 0:
                return _by(present, "throttle")
            # A throttle on all agents gives each its own rate; on an agent, its sessions share one.
            scope = present.command.scope
            sharer = who if scope[2] is not None else (who[0], who[1], None)
            bucket = self._buckets.get((scope, sharer))
            if bucket is None or bucket.per_minute != per_minute:
                bucket = self._buckets[scope, sharer] = _Bucket(per_minute, now_ms)
            wait_ms = bucket.wait_ms(now_ms)
            if wait_ms > 0:
                return _by(present, "throttle", wait_ms)
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


def says_the_same(new: Command, old: Command) -> bool:
    """Whether both are one command; after a rotation of keys it comes again, signed with another."""
    return new.canonical == old.canonical or _without_key(new) == _without_key(old)


def _without_key(command: Command) -> dict[str, object]:
    fields: dict[str, object] = json.loads(command.canonical)
    del fields["key_id"]
    return fields


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


def _own_denial(call: Call, spent: Spent, budget: Budget | None, now_ms: float) -> tuple[Denial, str] | None:
    """What the gate denies by itself, whatever the wanted state."""
    if call.irreversible and not call.approval:
        return "irreversible", "it cannot be taken back: ask a person and give the id of the approval"
    over = None if budget is None else spent.exceeded(budget, call, now_ms)
    if over is None:
        return None
    what, cap = over
    return "budget", f"the session's cap on {what} ({cap:,.12g}) leaves no room for this call"


def _forbidden(ruling: list[Present], strictest: Present, call: Call) -> _Denied | None:
    """Who denies the call itself, whatever it may cost."""
    mode = strictest.command.mode
    if mode == "halt":
        return _by(strictest, "halt")
    for present in ruling:
        if call.tool is not None and call.tool in present.command.revoked_tools:
            return _by(present, "revoked_tool")
    if mode == "require_approval" and not call.approval:
        return _by(strictest, "approval")
    return None


def _unaffordable(ruling: list[Present], call: Call, spent: Spent, now_ms: float) -> _Denied | None:
    for present in ruling:
        budget = present.command.budget
        if budget is not None and spent.exceeded(budget, call, now_ms) is not None:
            return _by(present, "budget")
    return None


def _by(present: Present, denied: Denial, wait_ms: float | None = None) -> _Denied:
    return denied, present.command.reason, present.command.command_id, wait_ms
