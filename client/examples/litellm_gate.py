"""A callback of the LiteLLM proxy that asks Watchkeeper before each model call, from memory.

Put this file beside LiteLLM's configuration and name it there: ``callbacks: litellm_gate.gate``. It needs
``WATCHKEEPER_BOOTSTRAP`` (host:port of the bus) and ``WATCHKEEPER_TRUSTED_KEYS`` (the trusted keys file);
``WATCHKEEPER_FAIL_MODE=closed`` denies every call while control is not heard.

The agent is the alias of the virtual key with which it calls, the session ``metadata.session_id`` of the
request.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Any

from litellm.integrations.custom_logger import CustomLogger

from watchkeeper_client import Decision, Gate, WantedState
from watchkeeper_client.gate import FailMode, monotonic_ms
from watchkeeper_client.outgoing import Sender, Spool, supervise
from watchkeeper_client.subscriber import ControlSubscriber
from watchkeeper_client.trusted import trusted_from_env


class CallDenied(Exception):  # noqa: N818 - what happened to the call
    """What the proxy answers the agent with: LiteLLM reads ``status_code`` and ``message``."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        self.status_code = 403 if decision.retry_after_ms is None else 429
        self.message = f"denied by Watchkeeper ({decision.denied}): {decision.reason}"
        super().__init__(self.message)


class WatchkeeperGate(CustomLogger):  # type: ignore[misc]  # litellm is not installed where this is checked
    """Follows ``agent.control`` in the proxy's own loop, from the first call on.

    Args:
        bootstrap: host:port of the bus; None when the state is kept up to date elsewhere, as in tests.
        state: the register of what is wanted of every agent.
        fail_mode: what to do while control is not heard.
        first_wait_s: how long the first calls may wait until control has been read to its end.
    """

    def __init__(
        self, bootstrap: str | None, state: WantedState, fail_mode: FailMode, first_wait_s: float = 5.0
    ) -> None:
        super().__init__()
        self._bootstrap = bootstrap
        self._state = state
        self._fail_mode: FailMode = fail_mode
        self._first_wait_s = first_wait_s
        self._gates: dict[str, Gate] = {}
        self._heard_at_ms: float | None = None
        self._heard_once = asyncio.Event()
        self._jobs: list[asyncio.Task[None]] = []

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Called by the proxy before each call of a model: lets ``data`` through, or raises CallDenied."""
        await self._follow()
        decision = self._gate(user_api_key_dict).allowed(session=_session(data))
        if not decision.allowed:
            raise CallDenied(decision)
        return data

    async def async_post_call_success_hook(
        self, data: dict[str, Any], user_api_key_dict: Any, response: Any
    ) -> Any:
        """Called after the call: what it used counts against the budget of its session."""
        tokens = getattr(getattr(response, "usage", None), "total_tokens", None)
        session = _session(data)
        if isinstance(tokens, int) and session is not None:
            self._gate(user_api_key_dict).report(session, tokens=tokens, cost_usd=0.0)
        return response

    def heard(self, age_ms: float) -> None:
        """Control had been read to its end ``age_ms`` ago: every gate hears."""
        self._heard_at_ms = monotonic_ms() - age_ms
        for gate in self._gates.values():
            gate.heard(age_ms)
        self._heard_once.set()

    def _gate(self, user_api_key_dict: Any) -> Gate:
        agent = getattr(user_api_key_dict, "key_alias", None) or "unknown"
        gate = self._gates.get(agent)
        if gate is None:
            gate = self._gates[agent] = Gate(self._state, agent=agent, fail_mode=self._fail_mode)
            if self._heard_at_ms is not None:
                gate.heard(monotonic_ms() - self._heard_at_ms)
        return gate

    async def _follow(self) -> None:
        if self._bootstrap is None:
            return
        if not self._jobs:
            acks, kafka = Spool(limit=1_000), {"bootstrap_servers": self._bootstrap}
            subscriber = ControlSubscriber(self._state, kafka, send=acks.put_urgent, on_heard=self.heard)
            jobs = (supervise("hearing control", subscriber.run), supervise("acks", Sender(acks, kafka).run))
            self._jobs = [asyncio.create_task(job) for job in jobs]
        if self._heard_at_ms is None:
            with contextlib.suppress(TimeoutError):  # then the fail mode decides
                await asyncio.wait_for(self._heard_once.wait(), self._first_wait_s)


def _session(data: Mapping[str, Any]) -> str | None:
    metadata = data.get("metadata")
    session = metadata.get("session_id") if isinstance(metadata, Mapping) else None
    return session if isinstance(session, str) and session else None


def gate_from_env() -> WatchkeeperGate:
    """The gate as the environment says. Raises UnusableKeyError, KeyError."""
    # `http:` names a point outside the agent: that it obeys does not say that the agent stands still.
    state = WantedState(trusted_from_env(), enforcement_point=f"http:litellm:{socket.gethostname()}"[:256])
    fail_mode: FailMode = "closed" if os.environ.get("WATCHKEEPER_FAIL_MODE") == "closed" else "open"
    return WatchkeeperGate(os.environ["WATCHKEEPER_BOOTSTRAP"], state, fail_mode)


gate = gate_from_env()
