"""The register: epochs, strictness between targets, and each part of a state."""

from __future__ import annotations

import itertools
import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.control import CONTROL_ACK
from tests.client.commands import (
    ENGINE,
    FUTURE,
    KEYS,
    LATER,
    NOW_MS,
    OPERATOR,
    STRANGER,
    Signer,
    fields,
    raw,
    signed,
    verified,
)
from watchkeeper_client.control import LADDER, MODES
from watchkeeper_client.spending import Call
from watchkeeper_client.wanted import Decision, WantedState, is_laxer

FUTURE_MS = 1_811_808_000_000.0


def register(*commands: bytes) -> WantedState:
    state = WantedState(KEYS, enforcement_point="test")
    for command in commands:
        assert state.apply(command, NOW_MS)["result"] == "applied"
    return state


def decide(
    state: WantedState,
    *,
    session: str | None = "s",
    tool: str | None = "search",
    now_ms: float = NOW_MS,
    approval: str | None = None,
) -> Decision:
    return state.decide("default", "shop", session, Call(tool, approval=approval), now_ms)


def refusal(state: WantedState, command: bytes, now_ms: float = NOW_MS) -> str:
    ack = state.apply(command, now_ms)
    CONTROL_ACK.validate_python(ack)
    return str(ack.get("reason", "applied")).split(":", 1)[0]


def test_without_a_command_every_call_is_allowed() -> None:
    assert decide(register()) == Decision(True)


def test_a_halt_denies_until_an_operator_lifts_it() -> None:
    state = register(raw(fields()))
    assert decide(state).denied == "halt"
    assert refusal(state, raw(fields(epoch=2, mode="run"))) == "not_operator"
    assert refusal(state, raw(fields(epoch=2, mode="throttle"))) == "lifts_without_operator"
    assert decide(state).denied == "halt"
    assert refusal(state, raw(fields(epoch=2, mode="run"), OPERATOR)) == "applied"
    assert decide(state).allowed


def test_the_newest_epoch_wins_in_any_order_and_repeats_change_nothing() -> None:
    commands = [raw(fields(epoch=epoch, mode=mode), OPERATOR) for epoch, mode in enumerate(MODES)]
    for order in itertools.permutations(commands):
        state = WantedState(KEYS, enforcement_point="test")
        for command in (*order, *order):
            state.apply(command, NOW_MS)
        assert decide(state).denied == "halt"
        assert refusal(state, commands[-1]) == "applied"
        assert refusal(state, commands[0]) == "older_epoch"


def test_another_command_cannot_take_an_epoch_that_is_held() -> None:
    state = register(raw(fields(epoch=3)))
    assert refusal(state, raw({**fields(epoch=3), "reason": "else"}, OPERATOR)) == "conflicting_epoch"
    assert refusal(state, raw(fields(epoch=3))) == "applied"


def test_an_expired_command_stops_applying_but_its_epoch_stays() -> None:
    state = register(raw(fields(epoch=5, expires_at=FUTURE)))
    assert not decide(state, now_ms=FUTURE_MS - 1).allowed
    assert decide(state, now_ms=FUTURE_MS).allowed
    assert refusal(state, raw(fields(epoch=4)), FUTURE_MS) == "older_epoch"
    assert refusal(state, raw(fields(epoch=5, expires_at=FUTURE)), FUTURE_MS) == "expired"
    assert refusal(state, raw(fields(epoch=6, mode="throttle")), FUTURE_MS) == "applied"


@pytest.mark.parametrize(
    ("command", "hit"),
    [
        (fields(tenant="*", agent="*"), True),
        (fields(agent="*"), True),
        (fields(), True),
        (fields(session="s"), True),
        (fields(agent="*", session="s"), True),
        (fields(session="other"), False),
        (fields(agent="other"), False),
        (fields(tenant="other"), False),
        (fields(tenant="other", agent="*"), False),
    ],
)
def test_a_command_reaches_its_target_and_no_other(command: dict[str, object], hit: bool) -> None:
    assert decide(register(raw(command))).allowed is not hit


def test_names_with_slashes_are_not_mixed_up() -> None:
    state = register(raw(fields(agent="shop/s")))
    assert decide(state).allowed


def test_between_targets_the_strictest_wins_part_by_part() -> None:
    state = register(
        raw(fields(agent="*", mode="degrade", ladder="rag")),
        raw(fields(mode="run", ladder="static", revoked_tools=["mail"]), OPERATOR),
    )
    decision = decide(state)
    assert (decision.allowed, decision.mode, decision.ladder) == (True, "degrade", "static")
    assert decide(state, tool="mail").denied == "revoked_tool"


@given(st.lists(st.tuples(st.sampled_from(MODES), st.sampled_from(LADDER)), min_size=4, max_size=4))
def test_a_wider_or_narrower_command_never_makes_a_decision_laxer(states: list[tuple[str, str]]) -> None:
    targets = [("*", "*", None), ("default", "*", None), ("default", "shop", None), ("default", "shop", "s")]
    state = WantedState(KEYS, enforcement_point="test")
    seen = (-1, -1)
    for (mode, ladder), (tenant, agent, session) in zip(states, targets, strict=True):
        command = fields(mode=mode, ladder=ladder, tenant=tenant, agent=agent, session=session)
        state.apply(raw(command, OPERATOR), NOW_MS)
        decision = decide(state, approval="a")
        now = (MODES.index(decision.mode), LADDER.index(decision.ladder))
        assert now[0] >= seen[0]
        assert now[1] >= seen[1]
        seen = now
        assert decision.allowed == (decision.mode != "halt")


def test_approval_is_asked_for_and_accepted() -> None:
    state = register(raw(fields(mode="require_approval")))
    assert decide(state).denied == "approval"
    assert decide(state, approval="ap-1").allowed


def test_a_throttle_lets_the_rate_through_and_says_when_to_try_again() -> None:
    state = register(raw(fields(mode="throttle", calls_per_minute=6)))
    assert decide(state).allowed
    denied = decide(state)
    assert (denied.denied, denied.retry_after_ms) == ("throttle", 10_000)
    assert not decide(state, now_ms=NOW_MS + 9_999).allowed
    assert decide(state, now_ms=NOW_MS + 10_000).allowed
    assert decide(register(raw(fields(mode="throttle", calls_per_minute=0)))).retry_after_ms is None


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=80), st.integers(1, 120))
def test_no_minute_sees_more_calls_than_the_rate_and_its_burst(gaps_ms: list[int], rate: int) -> None:
    state = register(raw(fields(mode="throttle", calls_per_minute=rate)))
    times = [NOW_MS + elapsed for elapsed in itertools.accumulate(gaps_ms)]
    allowed = [now_ms for now_ms in times if decide(state, now_ms=now_ms).allowed]
    for start in allowed:
        in_minute = sum(start <= now_ms < start + 60_000 for now_ms in allowed)
        assert in_minute <= rate + max(1, rate / 6) + 1e-6


def test_a_denied_call_takes_no_token_of_another_throttle() -> None:
    state = register(
        raw(fields(mode="throttle", calls_per_minute=60)),
        raw(fields(session="s", mode="throttle", calls_per_minute=0)),
    )
    for _ in range(20):
        assert not decide(state).allowed
    assert decide(state, session="t").allowed


@pytest.mark.parametrize(
    ("budget", "calls"),
    [({"steps": 3}, 3), ({"fan_out": {"search": 2}}, 2), ({"tokens": 0}, 0), ({"cost_usd": 0}, 0)],
)
def test_a_budget_denies_the_call_that_would_pass_it(budget: dict[str, object], calls: int) -> None:
    state = register(raw(fields(mode="throttle", calls_per_minute=6_000, budget=budget)))
    outcomes = [decide(state) for _ in range(5)]
    assert [decision.allowed for decision in outcomes] == [True] * calls + [False] * (5 - calls)
    assert outcomes[-1].denied == "budget"


def test_spending_counts_from_before_the_budget_and_is_reserved_then_settled() -> None:
    state = register()
    state.decide("default", "shop", "s", Call(tokens=600, cost_usd=0.5), NOW_MS)
    state.settle("default", "shop", "s", tokens=-100)
    state.apply(raw(fields(mode="throttle", budget={"tokens": 1_000, "wall_ms": 60_000})), NOW_MS)
    assert state.decide("default", "shop", "s", Call(tokens=501), NOW_MS).denied == "budget"
    assert state.decide("default", "shop", "s", Call(tokens=500), NOW_MS).allowed
    assert state.decide("default", "shop", "t", Call(tokens=501), NOW_MS).allowed
    assert state.decide("default", "shop", "s", Call(), NOW_MS + 60_000).denied == "budget"


@pytest.mark.parametrize(
    ("new", "old", "laxer"),
    [
        (fields(mode="throttle"), fields(mode="halt"), True),
        (fields(mode="halt"), fields(mode="degrade", ladder="static", revoked_tools=["a"]), False),
        (fields(mode="halt", expires_at=FUTURE), fields(mode="degrade"), False),
        (fields(mode="halt", expires_at=FUTURE), fields(mode="halt"), True),
        (fields(mode="halt", expires_at=FUTURE), fields(mode="halt", expires_at=LATER), True),
        (fields(mode="halt", expires_at=LATER), fields(mode="halt", expires_at=FUTURE), False),
        (fields(mode="throttle", expires_at=FUTURE), fields(mode="run"), False),
        (fields(mode="degrade", ladder="rag"), fields(mode="degrade", ladder="static"), True),
        (fields(mode="degrade"), fields(mode="throttle", revoked_tools=["a"]), True),
        (fields(mode="throttle", calls_per_minute=9), fields(mode="throttle", calls_per_minute=8), True),
        (fields(mode="throttle", calls_per_minute=8), fields(mode="throttle", calls_per_minute=8), False),
        (fields(mode="throttle", budget={"steps": 1}), fields(mode="throttle", budget={"tokens": 1}), True),
        (fields(mode="throttle", budget={"steps": 1}), fields(mode="throttle"), False),
    ],
)
def test_what_counts_as_lifting(new: dict[str, object], old: dict[str, object], laxer: bool) -> None:
    assert is_laxer(verified(new), verified(old)) is laxer


@pytest.mark.parametrize(
    "data", [None, b"", b"junk", b"{}", b'{"target": {"agent": "\\ud800"}, "epoch": 1e99}']
)
def test_what_cannot_be_read_is_refused_with_an_ack_that_fits_the_contract(data: bytes | None) -> None:
    ack = register().apply(data, NOW_MS)
    CONTROL_ACK.validate_json(json.dumps(ack))
    assert ack["result"] == "refused"


def test_an_ack_names_the_enforcing_agent_or_else_the_target() -> None:
    own = WantedState(KEYS, enforcement_point="client:1", agent="shop")
    everywhere = WantedState(KEYS, enforcement_point="proxy")
    command = raw(fields(agent="*"))
    assert CONTROL_ACK.validate_python(own.apply(command, NOW_MS)).agent == "shop"
    assert CONTROL_ACK.validate_python(everywhere.apply(command, NOW_MS)).agent == "*"


def test_a_decision_touches_nothing_but_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    state = register(raw(fields(mode="throttle", calls_per_minute=60, budget={"steps": 9})))

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a decision did I/O or read the clock")

    for name in ("builtins.open", "time.time", "time.monotonic", "time.sleep", "os.open", "os.read"):
        monkeypatch.setattr(name, forbidden)
    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(socket.socket, "send", forbidden)
    decision = decide(state)
    monkeypatch.undo()
    assert decision.allowed


# Reliability test 23 at a small count: every kind of change, on top of a state that must not move.
@given(
    kind=st.sampled_from(["key", "epoch", "expiry", "target", "state", "replay", "resigned", "bytes"]),
    data=st.data(),
)
def test_no_mutated_command_is_accepted_and_each_is_reported(kind: str, data: st.DataObject) -> None:
    old, present = raw(fields(epoch=6)), raw(fields(epoch=7, expires_at=LATER), OPERATOR)
    state = register(old, present)
    before = decide(state)
    mutated = mutate(kind, data, old)
    ack = CONTROL_ACK.validate_python(state.apply(mutated, NOW_MS))
    assert ack.result == "refused"
    assert ack.reason
    assert decide(state) == before
    found = state.present("default", "shop")
    assert found is not None
    assert found.command.epoch == 7


def mutate(kind: str, data: st.DataObject, old: bytes) -> bytes:
    # A run that an operator really signed, for another agent: the most tempting one to forge from.
    run = signed(fields(epoch=8, mode="run", agent="other", expires_at=FUTURE), OPERATOR)
    changes: dict[str, dict[str, object]] = {
        "key": {"key_id": data.draw(st.sampled_from(["engine-1", "stranger", "", "operator-2"]))},
        "epoch": {"epoch": data.draw(st.integers() | st.floats() | st.text(max_size=4))},
        "expiry": {"expires_at": data.draw(st.sampled_from([None, LATER, "never", 0]))},
        "target": {"target": {"tenant": "default", "agent": data.draw(st.sampled_from(["shop", "*"]))}},
        "state": {"state": {"mode": data.draw(st.sampled_from(MODES[:-1])), "ladder": "rag"}},
    }
    if kind in changes:
        changed = {**run, **changes[kind]}
        return json.dumps({**changed, "epoch": 9} if changed == run else changed).encode()
    if kind == "replay":
        return old
    if kind == "resigned":
        mode = data.draw(st.sampled_from(MODES[:-1]))
        signer = data.draw(
            st.sampled_from([ENGINE, STRANGER, Signer("operator-1", "operator", STRANGER.key)])
        )
        return raw(fields(epoch=8, mode=mode), signer)
    good = json.dumps(run).encode()
    at = good.index(b'"signature"') + 15 + data.draw(st.integers(0, 80))
    return good[:at] + bytes([good[at] ^ (1 << data.draw(st.integers(0, 7)))]) + good[at + 1 :]
