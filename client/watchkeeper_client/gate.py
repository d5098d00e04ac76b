"""The gate before each call: the stop that works outside the agent's reasoning.

``check`` answers from memory: no network, no waiting, the same in synchronous and asynchronous code.

A gate obeys what it has heard. That nothing new has come does not mean that control is silent: the subscriber
confirms, at every fetch that brings nothing more, that it stands at the end of ``agent.control``, and that is
*hearing*. When the last such confirmation is older than ``heard_within_ms``, or there has been none yet
because the topic has not been read to its end, the fail mode decides: ``closed`` denies every call; ``open``
goes on with what is known, so a halt already heard keeps holding.
"""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final, Literal, ParamSpec, TypeVar, cast, overload

from watchkeeper_client.wanted import Decision, WantedState

FailMode = Literal["open", "closed"]
Clock = Callable[[], float]
DeniedListener = Callable[[Decision, str | None, str | None], None]

DEFAULT_HEARD_WITHIN_MS: Final = 30_000.0

log = logging.getLogger("watchkeeper")

current_session: ContextVar[str | None] = ContextVar("watchkeeper_session", default=None)
"""The session whose code is running; the gate uses it when a call does not name one."""

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
    """

    def __init__(
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
    ) -> None:
        self._state = state
        self._agent = agent
        self._tenant = tenant
        self._fail_mode = fail_mode
        self._heard_within_ms = heard_within_ms
        self._clock = clock
        self._elapsed = elapsed
        self._on_denied = on_denied
        self._heard_at_ms: float | None = None

    def heard(self, age_ms: float = 0.0) -> None:
        """Says that ``age_ms`` ago the control topic had been read to its end."""
        self._heard_at_ms = self._elapsed() - max(0.0, age_ms)

    @property
    def hearing(self) -> bool:
        """Whether control has been heard recently enough for its word to count as present."""
        heard_at_ms = self._heard_at_ms
        return heard_at_ms is not None and self._elapsed() - heard_at_ms <= self._heard_within_ms

    def allowed(
        self,
        *,
        tool: str | None = None,
        session: str | None = None,
        approval: str | None = None,
        tokens: int = 0,
        cost_usd: float = 0.0,
    ) -> Decision:
        """The decision on a call, without raising.

        Args:
            tool: the tool to be called; None for anything else, such as a model.
            session: default, the session that is running (see ``Session``).
            approval: the id of a person's approval of this call.
            tokens, cost_usd: what the call is expected to use; reserved when it is allowed, and corrected
                with :meth:`settle`.
        """
        session = current_session.get() if session is None else session
        if self._fail_mode == "closed" and not self.hearing:
            decision = Decision(False, denied="unheard", reason="control has not been heard; failing closed")
        else:
            decision = self._state.decide(
                self._tenant,
                self._agent,
                session,
                tool,
                self._clock(),
                approval=approval,
                tokens=tokens,
                cost_usd=cost_usd,
            )
        if not decision.allowed and self._on_denied is not None:
            self._on_denied(decision, tool, session)
        return decision

    def check(
        self,
        *,
        tool: str | None = None,
        session: str | None = None,
        approval: str | None = None,
        tokens: int = 0,
        cost_usd: float = 0.0,
    ) -> Decision:
        """Like :meth:`allowed`, but a denied call raises; the decision returned says mode and ladder.

        Raises:
            Halted: stop altogether.
            Denied: not this call, or not now (``decision.retry_after_ms``).
        """
        decision = self.allowed(
            tool=tool, session=session, approval=approval, tokens=tokens, cost_usd=cost_usd
        )
        if decision.allowed:
            return decision
        raise (Halted if decision.denied == "halt" else Denied)(decision, tool)

    def settle(self, *, session: str | None = None, tokens: int = 0, cost_usd: float = 0.0) -> None:
        """Corrects what the session has spent by the difference between real and expected use."""
        session = current_session.get() if session is None else session
        self._state.settle(self._tenant, self._agent, session, tokens=tokens, cost_usd=cost_usd)

    @overload
    def guard(self, function: Callable[_P, _R], /) -> Callable[_P, _R]: ...
    @overload
    def guard(
        self, function: None = None, /, *, tool: str | None = None
    ) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]: ...
    def guard(
        self, function: Callable[_P, _R] | None = None, /, *, tool: str | None = None
    ) -> Callable[_P, _R] | Callable[[Callable[_P, _R]], Callable[_P, _R]]:
        """Wraps a tool function, plain or ``async``, so that every call is checked first.

        The tool's name is the function's unless given; the session is the one that is running. A denied call
        raises Halted or Denied, and the function does not run. Signature and docstring stay readable, so
        frameworks that derive a tool's schema from its function still do.
        """
        if function is None:
            return functools.partial(self._guarded, tool=tool)
        return self._guarded(function, tool=tool)

    def _guarded(self, function: Callable[_P, _R], *, tool: str | None) -> Callable[_P, _R]:
        name = tool or getattr(function, "__name__", type(function).__name__)
        if inspect.iscoroutinefunction(function):
            asynchronous = cast("Callable[_P, Awaitable[Any]]", function)

            @functools.wraps(function)
            async def checked_async(*args: _P.args, **kwargs: _P.kwargs) -> Any:
                self.check(tool=name)
                return await asynchronous(*args, **kwargs)

            return cast("Callable[_P, _R]", checked_async)

        @functools.wraps(function)
        def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            self.check(tool=name)
            return function(*args, **kwargs)

        return checked
