"""`GET /v1/allow`: may this call be made? For an enforcement point outside the agent, such as a proxy.

Two forms, each of which reads one thing only, so that an agent behind a proxy cannot add to what the proxy
says of it. `/v1/allow?agent=…&session=…` reads the query. `/v1/allow/`, with anything after it (Envoy appends
the agent's own path and query) and whatever the method, reads the headers `X-Watchkeeper-Agent`,
`X-Watchkeeper-Session` and so on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.errors import ApiError
from api.metrics import Metrics
from api.ports import Decider
from watchkeeper_client.gate import DEFAULT_HEARD_WITHIN_MS, FailMode
from watchkeeper_client.spending import Call
from watchkeeper_client.wanted import Decision, WantedState

_HEADER = "x-watchkeeper-"
_MAX_NAME_CHARS = 256
_MAX_DIGITS = 15


class WantedDecider:
    """Decides for every agent from the wanted state that a subscriber of `agent.control` keeps.

    Args:
        state: the register the subscriber applies commands to.
        fail_mode: what to answer while control is not heard: `closed` denies every call, `open` goes on with
            what is known.
        heard_within_ms: how old the last confirmation of being at the end of the topic may be.
        now_ms, elapsed_ms: the wall clock, and a clock that only goes forward.
    """

    def __init__(
        self,
        state: WantedState,
        fail_mode: FailMode = "open",
        heard_within_ms: float = DEFAULT_HEARD_WITHIN_MS,
        now_ms: Callable[[], float] = lambda: time.time() * 1000,
        elapsed_ms: Callable[[], float] = lambda: time.monotonic() * 1000,
    ) -> None:
        self._state = state
        self._fail_mode = fail_mode
        self._heard_within_ms = heard_within_ms
        self._now_ms = now_ms
        self._elapsed_ms = elapsed_ms
        self._heard_at_ms: float | None = None

    def heard(self, age_ms: float = 0.0) -> None:
        """Says that `age_ms` ago the control topic had been read to its end."""
        self._heard_at_ms = self._elapsed_ms() - max(0.0, age_ms)

    @property
    def hearing(self) -> bool:
        """Whether control was heard recently enough."""
        heard_at_ms = self._heard_at_ms
        return heard_at_ms is not None and self._elapsed_ms() - heard_at_ms <= self._heard_within_ms

    def decide(self, tenant: str, agent: str, session: str | None, call: Call) -> Decision:
        if self._fail_mode == "closed" and not self.hearing:
            return Decision(False, denied="unheard", reason="control has not been heard; failing closed")
        return self._state.decide(tenant, agent, session, call, self._now_ms())


class Allow:
    """The handler. Answers are never to be cached: a halt counts from the next call on."""

    def __init__(self, decider: Decider, metrics: Metrics) -> None:
        self._decider = decider
        self._metrics = metrics

    async def by_query(self, request: Request) -> Response:
        """200 or 403, with the reason as JSON, about the call that the query tells of."""
        given = dict(request.query_params)
        if len(given) != len(request.query_params.multi_items()):
            raise ApiError(400, "twice", "say each of agent, session, tool … once")
        return self._answer(given)

    async def by_headers(self, request: Request) -> Response:
        """The same about the call that the headers tell of."""
        given: dict[str, str] = {}
        for header, value in request.headers.items():
            if header.startswith(_HEADER):
                if header in given:
                    raise ApiError(400, "twice", f"send {header} once")
                given[header] = value
        return self._answer({header.removeprefix(_HEADER): value for header, value in given.items()})

    def _answer(self, given: Mapping[str, str]) -> Response:
        agent = _name(given, "agent")
        if agent is None:
            raise ApiError(
                400,
                "agent_missing",
                "say whose call it is: /v1/allow?agent=NAME&session=ID&tool=NAME, or /v1/allow/ with headers "
                "X-Watchkeeper-Agent, X-Watchkeeper-Session, X-Watchkeeper-Tool",
            )
        tenant, session = _name(given, "tenant"), _name(given, "session")
        decision = self._decider.decide(tenant or "default", agent, session, _call(given))
        self._metrics.allow.labels(decision.denied or "allowed").inc()
        answer = {
            "allowed": decision.allowed,
            "mode": decision.mode,
            "ladder": decision.ladder,
            "denied": decision.denied,
            "reason": decision.reason,
            "command_id": decision.command_id,
        }
        headers = {"Cache-Control": "no-store"}
        if decision.denied is not None:
            headers["X-Watchkeeper-Denied"] = decision.denied
        if decision.retry_after_ms is not None:
            headers["Retry-After"] = str(max(1, round(decision.retry_after_ms / 1000)))
        body = {name: value for name, value in answer.items() if value not in (None, "")}
        return JSONResponse(body, 200 if decision.allowed else 403, headers)


def _call(given: Mapping[str, str]) -> Call:
    """What the enforcement point knows of the call. `irreversible=true` makes it need an `approval`."""
    targets = given.get("targets") or "1"
    if not targets.isascii() or not targets.isdigit() or len(targets) > _MAX_DIGITS:
        raise ApiError(400, "not_a_number", "targets must say how many recipients or rows: &targets=20")
    irreversible = given.get("irreversible") or "false"
    if irreversible not in {"true", "false"}:
        raise ApiError(400, "not_a_truth", "irreversible must be true or false: &irreversible=true")
    return Call(
        _name(given, "tool"),
        effect=_name(given, "effect"),
        targets=int(targets),
        approval=_name(given, "approval"),
        irreversible=irreversible == "true",
    )


def _name(given: Mapping[str, str], parameter: str) -> str | None:
    value = given.get(parameter)
    if value is not None and len(value) > _MAX_NAME_CHARS:
        raise ApiError(400, "too_long", f"{parameter} is longer than {_MAX_NAME_CHARS} characters")
    return value or None
