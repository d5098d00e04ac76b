"""Session events: every type fits the contract, and no content leaves."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import AGENT_EVENT, EVENT_TYPES, AgentEvent, LlmCall, SessionEnd, SessionStart, ToolCall
from watchkeeper_client import Denied, Halted, Watchkeeper
from watchkeeper_client.control import TrustedKeys
from watchkeeper_client.events import Session
from watchkeeper_client.gate import current_session
from watchkeeper_client.outgoing import Spool
from watchkeeper_client.wanted import Decision

NOW_MS = 1_800_000_000_000.0
SECRET = "Ada Lovelace, ada@example.org"


def offline(**options: object) -> Watchkeeper:
    """A Watchkeeper that is never entered: it spools and sends nothing."""
    return Watchkeeper(
        bootstrap="127.0.0.1:1",
        agent="shop",
        keys=TrustedKeys({}),
        clock=lambda: NOW_MS,
        **options,  # type: ignore[arg-type]
    )


def spooled(watchkeeper: Watchkeeper) -> list[bytes]:
    spool: Spool = watchkeeper._spool
    values = []
    while (record := spool.take()) is not None:
        assert record.topic == "agent.events"
        assert record.key == json.loads(record.value)["session"].encode()
        values.append(record.value)
    return values


def sent(act: Callable[[Session], object], **options: object) -> list[AgentEvent]:
    watchkeeper = offline(**options)
    act(watchkeeper.session("s"))
    return [AGENT_EVENT.validate_json(value) for value in spooled(watchkeeper)]


def everything(session: Session) -> None:
    session.start(
        goal=SECRET,
        user=SECRET,
        declared_tools=["search"],
        tool_schemas={"search": {"required": ["q"], "properties": ["q", "limit"]}},
        allowed_effects=["email.send"],
        credential="shop-read",
        scopes=["read"],
        budget={"tokens": 9, "steps": 3, "cost_usd": 1.5, "wall_ms": 1e6, "fan_out": {"mail": 2}},
        parent_session="p",
        attributes={"language": "en", "beta": True, "score": 0.5},
        trace_id="t",
    )
    session.llm_call(
        "gpt",
        input_tokens=5,
        output_tokens=7,
        output=f"I'm sorry, {SECRET}, but I can't help.",
        cost_usd=0.1,
        embedding=[0.1, 0.2],
        finish_reasons=["stop"],
        confidence=0.5,
    )
    call = session.tool_call("search", {"q": SECRET}, result={"rows": [SECRET], "total": 1}, duration_ms=3.5)
    session.effect(call, confirmed=True)
    session.retrieval("docs", documents=3, owner=SECRET, as_of_ms=NOW_MS, top_score=12.5)
    session.message("verifier", "clarification", SECRET)
    session.escalation("human", "too hard")
    session.evaluation("groundedness", 1.2, label="good")
    session.canary("capital", passed=True)
    session.deployment("prompt", "system", to_version="2", from_version="1")
    session.feedback("thumb", 1.0)
    session.heartbeat()
    session.end("completed")


def test_every_event_type_is_published_and_fits_the_contract() -> None:
    events = sent(everything, agent_version="1.2")
    assert {type(event) for event in events} == set(EVENT_TYPES)
    assert [event.seq for event in events] == list(range(len(events)))
    assert len({event.event_id for event in events}) == len(events)
    assert {(event.agent, event.agent_version, event.process) for event in events} == {
        ("shop", "1.2", events[0].process)
    }


def test_no_field_is_lost_between_client_and_contract() -> None:
    watchkeeper = offline()
    everything(watchkeeper.session("s"))
    for value in spooled(watchkeeper):
        event = AGENT_EVENT.validate_json(value)
        assert set(json.loads(value)) <= set(event.model_dump(mode="json", by_alias=True))


def test_no_content_leaves() -> None:
    watchkeeper = offline()
    everything(watchkeeper.session("s"))
    for value in spooled(watchkeeper):
        assert b"Ada" not in value
        assert b"example.org" not in value


def test_content_becomes_hashes_lengths_shapes_and_flags() -> None:
    start, llm, tool = sent(everything)[:3]
    assert isinstance(start, SessionStart)
    assert isinstance(llm, LlmCall)
    assert isinstance(tool, ToolCall)
    assert (llm.refusal, llm.output_chars) == (True, len(f"I'm sorry, {SECRET}, but I can't help."))
    assert (tool.argument_keys, tool.result_shape, tool.result_items, tool.result_total) == (
        ["q"],
        "{rows:[string],total:number}",
        1,
        1,
    )
    keyed = sent(everything, hash_key=b"k")[0]
    assert isinstance(keyed, SessionStart)
    assert keyed.user != start.user


odd = st.one_of(
    st.text(max_size=400),
    st.just("x" * 9_000),
    st.just("\ud800"),
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.lists(st.text(max_size=3), max_size=3),
)


@given(
    name=st.text(max_size=600),
    tokens=st.integers(-(2**70), 2**70),
    number=st.floats(),
    value=odd,
    attributes=st.dictionaries(st.text(max_size=80), odd, max_size=40),
)
def test_odd_values_are_cut_or_left_out_but_never_make_a_dead_letter(
    name: str, tokens: int, number: float, value: object, attributes: dict[str, object]
) -> None:
    def act(session: Session) -> None:
        session.llm_call(
            name,
            input_tokens=tokens,
            output_tokens=tokens,
            cost_usd=number,
            duration_ms=number,
            confidence=number,
            embedding=[number] * 3,
            attributes=attributes,  # type: ignore[arg-type]
            error_type=name,
        )
        session.tool_call(name, value, result=value, targets=tokens, attributes=attributes)  # type: ignore[arg-type]
        session.retrieval(name, documents=tokens, top_score=number)
        session.message(name, "request", name)
        session.escalation("human", name * 4)

    assert len(sent(act)) == 5


def test_a_session_as_context_starts_ends_and_is_current() -> None:
    def act(session: Session) -> None:
        with session:
            assert current_session.get() == "s"
        assert current_session.get() is None

    start, end = sent(act)
    assert isinstance(start, SessionStart)
    assert isinstance(end, SessionEnd)
    assert end.outcome == "completed"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ValueError(), "failed"),
        (Halted(Decision(False, denied="halt"), "t"), "abandoned"),
        (Denied(Decision(False, denied="budget"), "t"), "abandoned"),
        (asyncio.CancelledError(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
    ],
)
def test_a_session_left_by_an_exception_says_how_it_ended(error: BaseException, outcome: str) -> None:
    def act(session: Session) -> None:
        with pytest.raises(type(error)), session:
            raise error

    end = sent(act)[-1]
    assert isinstance(end, SessionEnd)
    assert end.outcome == outcome


async def test_a_session_works_in_asynchronous_code() -> None:
    watchkeeper = offline()
    async with watchkeeper.session("s") as session:
        session.end("escalated")
    events = [AGENT_EVENT.validate_json(value) for value in spooled(watchkeeper)]
    assert [event.type for event in events] == ["session.start", "session.end"]


def test_a_full_spool_drops_the_oldest_counted_and_seq_shows_the_hole() -> None:
    watchkeeper = offline(spool_records=3)
    session = watchkeeper.session("s")
    for _ in range(10):
        session.heartbeat()
    assert watchkeeper.dropped == 7
    assert [json.loads(value)["seq"] for value in spooled(watchkeeper)] == [7, 8, 9]


def test_an_event_too_large_for_the_bus_is_dropped_and_counted() -> None:
    watchkeeper = offline()
    names = [f"{number}-{'n' * 240}" for number in range(512)]
    watchkeeper.session("s").start(declared_tools=names, allowed_effects=names, scopes=names)
    assert (watchkeeper.dropped, spooled(watchkeeper)) == (1, [])


def test_denied_calls_are_reported_once_a_second_as_heartbeats() -> None:
    watchkeeper = Watchkeeper(
        bootstrap="127.0.0.1:1", agent="shop", keys=TrustedKeys({}), fail_mode="closed", clock=lambda: NOW_MS
    )
    for _ in range(50):
        assert not watchkeeper.gate.allowed(tool="mail", session="s").allowed
    (event,) = [AGENT_EVENT.validate_json(value) for value in spooled(watchkeeper)]
    assert event.type == "heartbeat"
    assert event.attributes == {
        "watchkeeper.denied": "unheard",
        "watchkeeper.denied_calls": 1,
        "watchkeeper.tool": "mail",
    }


@pytest.mark.parametrize("names", [{"agent": "*"}, {"agent": ""}, {"agent": "a", "tenant": "*"}])
def test_one_connection_is_one_agent_s(names: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="name one agent"):
        Watchkeeper(bootstrap="127.0.0.1:1", keys=TrustedKeys({}), **names)  # type: ignore[arg-type]


def test_every_method_of_a_session_is_documented() -> None:
    methods = [method for name, method in inspect.getmembers(Session, inspect.isfunction) if name[0] != "_"]
    assert len(methods) >= len(EVENT_TYPES)
    assert all(method.__doc__ for method in methods)
