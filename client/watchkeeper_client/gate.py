"""The gate before each call: the stop that works outside the agent's reasoning.

``check`` answers from memory: no network, no waiting, the same in synchronous and asynchronous code.

A gate obeys what it has heard. That nothing new has come does not mean that control is silent: the subscriber
confirms, at every fetch that brings nothing more, that it stands at the end of ``agent.control``, and that is
*hearing*. When the last such confirmation is older than ``heard_within_ms``, or there has been none yet
because the topic has not been read to its end, the fail mode decides: ``closed`` denies every call; ``open``
goes on with what is known, so a halt already heard keeps holding.

Two things the gate denies by itself, without having heard anything: an irreversible call without a person's
approval, and a call for which the session's budget has no room. See :mod:`watchkeeper_client.spending` for
how a budget is kept and by how much it can be passed at worst.
"""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Literal, ParamSpec, TypedDict, TypeVar, Unpack, cast, overload

from watchkeeper_client.control import Budget
from watchkeeper_client.spending import Call
from watchkeeper_client.wanted import Decision, WantedState

FailMode = Literal["open", "closed"]
Irreversible = Literal["deny", "allow"]
Clock = Callable[[], float]
DeniedListener = Callable[[Decision, str | None, str | None], None]

DEFAULT_HEARD_WITHIN_MS: Final = 30_000.0

log = logging.getLogger("watchkeeper")

current_session: ContextVar[str | None] = ContextVar("watchkeeper_session", default=None)
"""The session whose code is running; the gate uses it when a call does not name one."""

current_approval: ContextVar[str | None] = ContextVar("watchkeeper_approval", default=None)
"""The approval under which code is running (see :func:`approved`); used by calls that do not name one."""

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Denied(Exception):  # noqa: N818 - what happened to the call, as the caller reads it
    """The call may not be made. ``decision`` says why, and when to try again if waiting helps."""

    def __init__(self, decision: Decision, tool: str | None) -> None:
        what = "the call" if tool is None else f"the call of {tool}"
        why = f": {decision.reason}" if decision.reason else ""
        super().__init__(f"{what} is denied ({decision.denied}){why}")
        self.decision = decision
        self.tool = tool


class Halted(Denied):
    """The agent, or this session of it, is to stop altogether."""


class CallFields(TypedDict, total=False):
    """What the gate is told of a call.

    ``tool``: to be called; absent for anything else, such as a model. ``effect``: what it does
    (``email.send``), ``targets``: to how many recipients, rows or files; a budget's ``fan_out`` caps the
    targets of a tool or an effect. ``irreversible``: it cannot be taken back; ``approval``: the id of a
    person's approval. ``tokens``, ``cost_usd``: what it is expected to use at most; booked when it is
    allowed, and corrected with :meth:`Gate.settle`.
    """

    tool: str | None
    effect: str | None
    targets: int
    approval: str | None
    irreversible: bool
    tokens: int
    cost_usd: float


@contextmanager
def approved(approval: str) -> Iterator[None]:
    """Calls made inside have a person's approval, by its id."""
    token = current_approval.set(approval)
    try:
        yield
    finally:
        current_approval.reset(token)


def wall_clock_ms() -> float:
    """Epoch milliseconds."""
    return time.time() * 1000


def monotonic_ms() -> float:
    """Milliseconds from an arbitrary start, not moved by changes of the wall clock."""
    return time.monotonic() * 1000


class Gate:
    """Decides each call of one agent. Safe to use from several threads.

    Args:
        state: the register the subscriber keeps.
        agent, tenant: who makes the calls.
        fail_mode: what to do while control is not heard.
        heard_within_ms: how old the last confirmation may be.
        clock: epoch milliseconds, for the expiry of commands.
        elapsed: milliseconds that only go forward, for hearing.
        on_denied: told of every denied call (decision, tool, session); must not block.
        budget: caps of every session, where its own budget says nothing; None: only sessions' own.
        irreversible: ``deny`` an irreversible call without an approval, or ``allow`` it.
    """

    def __init__(  # noqa: PLR0913 - settings, by keyword
        self,
        state: WantedState,
        *,
        agent: str,
        tenant: str = "default",
        fail_mode: FailMode = "open",
        heard_within_ms: float = DEFAULT_HEARD_WITHIN_MS,
        clock: Clock = wall_clock_ms,
        elapsed: Clock = monotonic_ms,
        on_denied: DeniedListener | None = None,
        budget: Budget | None = None,
        irreversible: Irreversible = "deny",
    ) -> None:
        self._state = state
        self._agent = agent
        self._tenant = tenant
        self._fail_mode = fail_mode
        self._heard_within_ms = heard_within_ms
        self._clock = clock
        self._elapsed = elapsed
        self._on_denied = on_denied
        self._budget = budget
        self._denies_irreversible = irreversible == "deny"
        self._heard_at_ms: float | None = None

    def heard(self, age_ms: float = 0.0) -> None:
        """Says that ``age_ms`` ago the control topic had been read to its end."""
        self._heard_at_ms = self._elapsed() - max(0.0, age_ms)

    @property
    def hearing(self) -> bool:
        """Whether control has been heard recently enough for its word to count as present."""
        heard_at_ms = self._heard_at_ms
        return heard_at_ms is not None and self._elapsed() - heard_at_ms <= self._heard_within_ms

    def allowed(self, *, session: str | None = None, **fields: Unpack[CallFields]) -> Decision:
        """The decision on a call, without raising.

        ``session``: default, the one that is running (see ``Session``); likewise the approval.
        """
        session = current_session.get() if session is None else session
        call = Call(**fields)
        if call.approval is None:
            approval = current_approval.get()
            call = call if approval is None else call._replace(approval=approval)
        if call.irreversible and not self._denies_irreversible:
            call = call._replace(irreversible=False)
        if self._fail_mode == "closed" and not self.hearing:
            decision = Decision(False, denied="unheard", reason="control has not been heard; failing closed")
        else:
            decision = self._state.decide(
                self._tenant, self._agent, session, call, self._clock(), budget=self._budget
            )
        if not decision.allowed and self._on_denied is not None:
            self._on_denied(decision, call.tool, session)
        return decision

    def check(self, *, session: str | None = None, **fields: Unpack[CallFields]) -> Decision:
        """Like :meth:`allowed`, but a denied call raises; the decision returned says mode and ladder.

        Raises:
            Halted: stop altogether.
            Denied: not this call, or not now (``decision.retry_after_ms``).
        """
        decision = self.allowed(session=session, **fields)
        if decision.allowed:
            return decision
        raise (Halted if decision.denied == "halt" else Denied)(decision, fields.get("tool"))

    def settle(self, *, session: str | None = None, tokens: int = 0, cost_usd: float = 0.0) -> None:
        """Corrects what the session has booked by the difference between real and expected use."""
        session = current_session.get() if session is None else session
        self._state.settle(self._tenant, self._agent, session, tokens=tokens, cost_usd=cost_usd)

    def cap(self, session: str, budget: Budget) -> None:
        """Caps a session; what ``budget`` leaves open keeps the gate's own cap."""
        self._state.cap(self._tenant, self._agent, session, budget, self._clock(), general=self._budget)

    def report(self, session: str, *, tokens: int, cost_usd: float) -> None:
        """Adds what the session says it has used; the greater of this and what is booked counts."""
        self._state.report(
            self._tenant, self._agent, session, self._clock(), tokens=tokens, cost_usd=cost_usd
        )

    @overload
    def guard(self, function: Callable[_P, _R], /) -> Callable[_P, _R]: ...
    @overload
    def guard(
        self, function: None = None, /, **fields: Unpack[CallFields]
    ) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]: ...
    def guard(
        self, function: Callable[_P, _R] | None = None, /, **fields: Unpack[CallFields]
    ) -> Callable[_P, _R] | Callable[[Callable[_P, _R]], Callable[_P, _R]]:
        """Wraps a tool function, plain or ``async``, so that every call is checked first.

        The tool's name is the function's unless given, session and approval are those that are running (see
        :func:`approved`), and what else is given holds for every call. A denied call raises Halted or Denied,
        and the function does not run. Signature and docstring stay readable, so frameworks that derive a
        tool's schema from its function still do.
        """
        if function is None:
            return functools.partial(self._guarded, fields=fields)
        return self._guarded(function, fields=fields)

    def _guarded(self, function: Callable[_P, _R], *, fields: CallFields) -> Callable[_P, _R]:
        name = fields.get("tool") or getattr(function, "__name__", type(function).__name__)
        call: CallFields = {**fields, "tool": name}
        if inspect.iscoroutinefunction(function):
            asynchronous = cast("Callable[_P, Awaitable[Any]]", function)

            @functools.wraps(function)
            async def checked_async(*args: _P.args, **kwargs: _P.kwargs) -> Any:
                self.check(**call)
                return await asynchronous(*args, **kwargs)

            return cast("Callable[_P, _R]", checked_async)

        @functools.wraps(function)
        def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            self.check(**call)
            return function(*args, **kwargs)

        return checked
