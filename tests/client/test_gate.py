"""The gate: denying, failing open or closed, and guarding functions of both kinds."""

from __future__ import annotations

import inspect

import pytest

from tests.client.commands import KEYS, NOW_MS, OPERATOR, fields, raw
from watchkeeper_client import Denied, Gate, Halted, WantedState
from watchkeeper_client.gate import FailMode, current_session
from watchkeeper_client.wanted import Decision


class Time:
    def __init__(self) -> None:
        self.now_ms = 0.0

    def __call__(self) -> float:
        return self.now_ms


class Bench:
    """A gate with its register and a clock in hand."""

    def __init__(self, fail_mode: FailMode = "open") -> None:
        self.elapsed = Time()
        self.denied: list[tuple[Decision, str | None, str | None]] = []
        self.state = WantedState(KEYS, enforcement_point="test")
        self.gate = Gate(
            self.state,
            agent="shop",
            fail_mode=fail_mode,
            heard_within_ms=1_000,
            clock=lambda: NOW_MS,
            elapsed=self.elapsed,
            on_denied=lambda *what: self.denied.append(what),
        )

    def obey(self, **command: object) -> None:
        signer = OPERATOR
        assert self.state.apply(raw(fields(**command), signer), NOW_MS)["result"] == "applied"  # type: ignore[arg-type]


def test_a_halt_raises_halted_and_other_denials_denied() -> None:
    bench = Bench()
    bench.obey(epoch=1, mode="throttle", revoked_tools=["mail"])
    assert bench.gate.check(tool="search").allowed
    with pytest.raises(Denied, match="mail is denied") as denied:
        bench.gate.check(tool="mail")
    assert not isinstance(denied.value, Halted)
    bench.obey(epoch=2)
    with pytest.raises(Halted, match="tool_loop on search"):
        bench.gate.check()
    assert bench.gate.allowed().denied == "halt"


def test_closed_denies_until_control_is_heard_and_when_it_falls_silent() -> None:
    bench = Bench("closed")
    assert bench.gate.allowed().denied == "unheard"
    bench.gate.heard(age_ms=400)
    assert bench.gate.allowed().allowed
    bench.elapsed.now_ms = 600
    assert bench.gate.allowed().allowed
    bench.elapsed.now_ms = 601
    assert bench.gate.allowed().denied == "unheard"
    bench.gate.heard()
    assert bench.gate.check().allowed


def test_open_goes_on_without_hearing_but_keeps_to_what_it_knows() -> None:
    bench = Bench("open")
    assert not bench.gate.hearing
    assert bench.gate.allowed().allowed
    bench.obey()
    bench.elapsed.now_ms = 1e9
    assert bench.gate.allowed().denied == "halt"


def test_a_call_belongs_to_the_running_session_unless_it_names_one() -> None:
    bench = Bench()
    bench.obey(session="bad")
    assert bench.gate.allowed().allowed
    assert not bench.gate.allowed(session="bad").allowed
    token = current_session.set("bad")
    try:
        assert not bench.gate.allowed(tool="t").allowed
        assert bench.gate.allowed(session="good").allowed
    finally:
        current_session.reset(token)
    assert [(tool, session) for _, tool, session in bench.denied] == [(None, "bad"), ("t", "bad")]


def test_settling_gives_back_what_was_reserved() -> None:
    bench = Bench()
    bench.obey(mode="throttle", budget={"tokens": 100})
    assert bench.gate.check(session="s", tokens=90).allowed
    assert not bench.gate.allowed(session="s", tokens=20).allowed
    bench.gate.settle(session="s", tokens=-30)
    assert bench.gate.allowed(session="s", tokens=20).allowed


def test_a_guarded_function_runs_only_when_allowed_and_keeps_its_signature() -> None:
    bench = Bench()
    calls: list[str] = []

    @bench.gate.guard
    def search(query: str, *, limit: int = 5) -> int:
        """Looks things up."""
        calls.append(query)
        return limit

    assert search("a", limit=2) == 2
    assert list(inspect.signature(search).parameters) == ["query", "limit"]
    assert (search.__name__, search.__doc__) == ("search", "Looks things up.")
    bench.obey(mode="throttle", revoked_tools=["search"])
    with pytest.raises(Denied):
        search("b")
    assert calls == ["a"]
    assert bench.denied[0][1] == "search"


async def test_a_guarded_coroutine_function_stays_one() -> None:
    bench = Bench()
    calls: list[str] = []

    @bench.gate.guard(tool="lookup")
    async def search(query: str) -> str:
        calls.append(query)
        return query

    assert inspect.iscoroutinefunction(search)
    assert await search("a") == "a"
    bench.obey(mode="throttle", revoked_tools=["lookup"])
    with pytest.raises(Denied):
        await search("b")
    assert calls == ["a"]
