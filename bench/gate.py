"""What the client costs the agent: the gate's check, fingerprints and the refusal flag, in microseconds.

    .venv/bin/python -m bench.gate

The bar is 20 µs a check. Prints one JSON object; each figure is processor time, the
median of seven runs, so that what else runs on the machine counts little.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from watchkeeper_client import Gate, TrustedKeys, WantedState, Watchkeeper
from watchkeeper_client.control import parse_budget, public_key_base64, sign
from watchkeeper_client.fingerprint import arguments_hash, fingerprint
from watchkeeper_client.refusal import is_refusal

RUNS = 7
CALLS = 20_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
KEYS = TrustedKeys.from_mapping({"bench": {"public_key": public_key_base64(KEY), "role": "operator"}})
ARGUMENTS = {"query": "running shoes, size 42, under 100 euros", "limit": 10, "filters": ["new", "in stock"]}
RESULT = {
    "total": 20,
    "rows": [{"id": number, "name": f"shoe {number}", "price": 1.5 * number} for number in range(20)],
}
ANSWER = "Here are the shoes I found for you. " * 40


def microseconds(call: Callable[[], object], calls: int = CALLS) -> float:
    """The median over runs of the mean time of one call."""

    def run() -> float:
        started = time.thread_time()
        for _ in range(calls):
            call()
        return (time.thread_time() - started) / calls * 1e6

    return round(statistics.median(run() for _ in range(RUNS)), 2)


def command(agent: str, session: str | None, state: dict[str, object]) -> bytes:
    fields = {
        "command_id": f"bench-{agent}-{session}",
        "epoch": 1,
        "target": {"tenant": "default", "agent": agent, "session": session},
        "state": state,
        "reason": "bench",
        "issued_at": "2026-01-01T00:00:00Z",
        "issuer": "bench",
    }
    return json.dumps(sign(fields, KEY, "bench")).encode()


def gate(*commands: bytes) -> Gate:
    state = WantedState(KEYS, enforcement_point="bench")
    for raw in commands:
        state.apply(raw, time.time() * 1000)
    opened = Gate(state, agent="shop", fail_mode="closed", heard_within_ms=1e9)
    opened.heard()
    return opened


def main() -> None:
    budget = {"tokens": 10**12, "steps": 10**12, "cost_usd": 1e12, "fan_out": {"search": 10**12}}
    throttle = {"mode": "throttle", "calls_per_minute": 10**12, "revoked_tools": ["mail"], "budget": budget}
    free = gate()
    restricted = gate(
        *(command(agent, session, throttle) for agent in ("*", "shop") for session in (None, "s")),
    )
    halted = gate(command("shop", None, {"mode": "halt"}))
    capped = gate()
    capped.cap("s", parse_budget(budget))
    raw = command("shop", None, throttle)
    register = WantedState(KEYS, enforcement_point="bench")
    publisher = Watchkeeper(bootstrap="127.0.0.1:1", agent="shop", keys=KEYS)
    session = publisher.session("s")
    figures = {
        "check, no command": microseconds(lambda: free.check(tool="search", session="s")),
        "check, a budget of the session": microseconds(
            lambda: capped.check(tool="search", session="s", tokens=900, cost_usd=0.001)
        ),
        "check, four throttles with budgets": microseconds(
            lambda: restricted.check(tool="search", session="s")
        ),
        "allowed, halted": microseconds(lambda: halted.allowed(tool="search", session="s")),
        "apply and verify a command": microseconds(lambda: register.apply(raw, 0.0), 1_000),
        "arguments_hash": microseconds(lambda: arguments_hash(ARGUMENTS)),
        "fingerprint, 20 rows": microseconds(lambda: fingerprint(RESULT), 1_000),
        "is_refusal, 1,440 characters": microseconds(lambda: is_refusal(ANSWER), 2_000),
        "publish a tool.call, 20 rows": microseconds(
            lambda: session.tool_call("search", ARGUMENTS, result=RESULT), 1_000
        ),
    }
    print(json.dumps({"microseconds": figures}, indent=2))


if __name__ == "__main__":
    main()
