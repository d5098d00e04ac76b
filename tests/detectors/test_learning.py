"""What is learned of an agent: from healthy sessions only, the same in any order, and small."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.base import Source
from detectors.behaviour_pipeline import BehaviourPipeline
from detectors.learning import Learned, Learner, profile
from detectors.offline import Engine
from detectors.profile import AgentProfile, Profiles, Range, ToolProfile, decode
from detectors.session_pipeline import SessionPipeline
from detectors.summary import AgentUse, CallForm, Fact, Lesson, SessionSummary, shape_hash
from detectors.testing import START_MS, event
from detectors.windows import Mark
from detectors.windows import decode as decode_record
from schemas import profile as profile_contract
from schemas import window as window_contract
from schemas.event import AgentEvent
from schemas.profile import PROFILE
from schemas.topics import EVENTS, WINDOWS
from schemas.window import WINDOW_RECORD

few = settings(max_examples=40, deadline=None)
SEARCH = {
    "type": "tool.call",
    "tool": "search",
    "arguments_hash": "a",
    "argument_keys": ["q"],
    "result_shape": "{hits:[{id:number}],total:number}",
    "result_items": 3,
    "result_total": 3,
    "status": "ok",
}
LLM = {"type": "llm.call", "request_model": "m", "response_model": "m-1", "input_tokens": 900}
LLM |= {"output_tokens": 100, "status": "ok", "cost_usd": 0.01}
END = {"type": "session.end", "outcome": "completed"}
START = {"type": "session.start"}


def stream(*sessions: list[dict[str, Any]], first: int = 0) -> list[AgentEvent]:
    """One session after the other, each call with arguments and results of its own."""
    made: list[AgentEvent] = []
    for number, fields in enumerate(sessions, first):
        for each in fields:
            count = len(made)
            own = {"arguments_hash": f"a{number}/{count}", "result_hash": f"r{number}/{count}"}
            own = own if each["type"] == "tool.call" else {}
            unique = {"session": f"s{number}", "event_id": f"e{number}/{count}"}
            made.append(event(number * 20 + count, {**each, **own, **unique}))
    return made


def learned(*sessions: list[dict[str, Any]]) -> AgentProfile | None:
    engine = Engine((), ())
    list(engine.run(stream(*sessions)))
    return engine.profiles.of("default/agent")


HEALTHY = [START, LLM, SEARCH, {**SEARCH, "argument_keys": ["q", "page"], "effect": "web.read"}, END]


class TestWhatIsLearned:
    def test_there_is_no_profile_before_five_healthy_sessions(self) -> None:
        assert learned(*[HEALTHY] * 4) is None
        assert learned(*[HEALTHY] * 5) is not None

    def test_it_says_what_is_normal(self) -> None:
        start = {**START, "credential": "key-1"}
        made = learned(*[[start, *HEALTHY[1:]]] * 5)
        assert made is not None
        [credential] = made.credentials
        assert credential != "key-1"
        assert made == AgentProfile(
            tenant="default",
            agent="agent",
            sessions=5,
            updated_ms=made.updated_ms,
            tools={
                "search": ToolProfile(
                    sessions=5,
                    calls=10,
                    keyed_calls=10,
                    required=["q"],
                    keys=["page", "q"],
                    shapes={SEARCH["result_shape"]: 10},
                    effects=["web.read"],
                    counted_calls=10,
                )
            },
            credentials=[credential],
            models={"m": ["m-1"]},
            steps=Range(2, 2, 2),
            tokens=Range(1000, 1000, 1000),
            cost_usd=Range(0.01, 0.01, 0.01),
            duration_ms=made.duration_ms,
            input_tokens=Range(900, 900, 900),
        )

    @pytest.mark.parametrize(
        "session",
        [
            [START, SEARCH, {**END, "outcome": "failed"}],
            [START, SEARCH],
            [SEARCH, END],
            [START, {**SEARCH, "status": "error", "error_type": "x"}, END],
        ],
        ids=["failed", "not ended", "not started", "calls that failed"],
    )
    def test_nothing_is_learned_from(self, session: list[dict[str, Any]]) -> None:
        assert learned(*[session] * 8) is None

    def test_nothing_is_learned_from_a_session_under_alarm(self) -> None:
        start = {**START, "declared_tools": ["search"]}
        engine = Engine()
        list(engine.run(stream(*[[start, SEARCH, {**SEARCH, "tool": "summon"}, END]] * 8)))
        assert engine.profiles.of("default/agent") is None

    def test_a_default_cap_is_no_alarm_since_history_is_to_replace_it(self) -> None:
        long = [
            START,
            *[each for number in range(16) for each in (LLM, {**SEARCH, "tool": f"t{number}"})],
            END,
        ]
        engine = Engine()
        found = list(engine.run(stream(*[long] * 6)))
        assert {one.detector for one in found} <= {"budget"}
        made = engine.profiles.of("default/agent")
        assert made is not None
        assert made.steps.max == 16

    def test_a_forecast_that_was_wrong_is_no_reason_not_to_learn_what_was_used(self) -> None:
        def session(calls: int) -> list[dict[str, Any]]:
            return [START, *[LLM] * calls, END]

        engine = Engine()
        found = list(engine.run(stream(*[session(5)] * 6, *[session(10)] * 20)))
        assert [one.detector for one in found] == ["spend_forecast"] * 2
        made = engine.profiles.of("default/agent")
        assert made is not None
        assert made.tokens.max == 10_000

    def test_a_session_teaches_once(self) -> None:
        assert learned([*HEALTHY, *[LLM, END] * 8]) is None

    def test_a_deployed_tool_is_learned_anew(self) -> None:
        engine = Engine((), ())
        deployed = {"type": "deployment", "component": "tool", "name": "search", "to_version": "2"}
        list(engine.run(stream(*[HEALTHY] * 5, [deployed, *HEALTHY])))
        made = engine.profiles.of("default/agent")
        assert made is not None
        assert made.tools["search"].sessions == 1

    def test_an_unknown_cost_is_not_a_cost_of_nothing(self) -> None:
        made = learned(*[[START, {**LLM, "cost_usd": None}, SEARCH, END]] * 5)
        assert made is not None
        assert made.cost_usd == Range()

    def test_sessions_read_what_was_learned(self) -> None:
        seen: list[int | None] = []

        class Reader:
            name, version, wants = "reader", 1, ("session.end",)

            class State(msgspec.Struct):
                pass

            def update(self, state: Any, event: Any, context: Any) -> tuple[()]:
                seen.append(None if context.profile is None else context.profile.sessions)
                return ()

        list(Engine([Reader()], ()).run(stream(*[HEALTHY] * 7)))
        assert seen == [None] * 5 + [5, 5]


def summary(number: int, chance: random.Random, partition: int = 0) -> SessionSummary:
    tool = chance.choice(["search", "read"])
    form = CallForm(tool, keys=chance.choice([["q"], ["q", "page"]]), shape=chance.choice("ab"), calls=2)
    return SessionSummary(
        tenant="default",
        agent="agent",
        session=f"s{number}",
        start_ms=START_MS + number * 5_000 - 1_000,
        end_ms=START_MS + number * 5_000,
        steps=chance.randint(1, 9),
        use=AgentUse(calls=[form], credentials=[chance.choice("xy")], models={"m": [chance.choice("12")]}),
        source_topic=EVENTS,
        source_partition=partition,
        source_offset=number,
    )


@few
@given(st.randoms(use_true_random=False))
def test_the_order_of_sessions_changes_nothing(chance: random.Random) -> None:
    made = [summary(number, random.Random(number)) for number in range(30)]
    mixed = chance.sample(made, len(made))

    def after(summaries: list[SessionSummary]) -> bytes:
        state = Learned()
        for each in summaries:
            Learner().learn(state, each)
        return profile(state, "default", "agent").encode()

    assert after(mixed) == after(made)


@few
@given(st.randoms(use_true_random=False), st.data())
def test_replays_and_restarts_change_nothing(chance: random.Random, data: st.DataObject) -> None:
    queues = [
        [summary(100 * part + n, random.Random(100 * part + n), part) for n in range(12)] for part in (0, 1)
    ]
    records: list[Any] = []
    while any(queues):
        records.append(chance.choice([queue for queue in queues if queue]).pop(0))
    place = data.draw(st.integers(0, len(records)))
    again = max(0, place - data.draw(st.integers(0, 10)))
    replayed = [*records[:place], *records[again:]]

    def last(items: list[Any], restart_at: int) -> bytes | None:
        pipeline, kept = BehaviourPipeline(1, ()), None
        for offset, item in enumerate([*items, Mark(0, START_MS + 10**9)]):
            if offset == restart_at:
                changed, marker = list(pipeline.dirty()), pipeline.marker()
                pipeline = BehaviourPipeline(1, ())
                for key, value in changed:
                    pipeline.restore(key, value)
                pipeline.restore_marker(marker)
            for found in pipeline.process(item, Source(WINDOWS, 0, offset)):
                assert isinstance(found, AgentProfile)
                kept = found.encode()
        return kept

    expected = last(records, -1)
    assert expected is not None
    assert last(replayed, -1) == expected
    assert last(records, place) == expected


def test_a_profile_is_told_only_when_it_is_news_and_not_too_often() -> None:
    engine = BehaviourPipeline(1, ())
    told = []
    for number in range(200):
        each = summary(number, random.Random(number))
        told += [one.sessions for one in engine.process(each, Source(WINDOWS, 0, number))]
    assert told[0] == 5
    assert 3 <= len(told) <= 16


class TestSize:
    def test_a_lesson_is_small_whatever_a_session_does(self) -> None:
        lesson, chance = Lesson(), random.Random(1)
        for number in range(2_000):
            keys = [f"key{chance.randint(0, 99)}" for _ in range(chance.randint(0, 9))]
            shape = (
                "{" + ",".join(f"k{chance.randint(0, 99)}:number" for _ in range(chance.randint(1, 99))) + "}"
            )
            call = {
                **SEARCH,
                "tool": f"tool{chance.randint(0, 40)}",
                "argument_keys": keys,
                "result_shape": shape,
            }
            lesson.add_tool_call(event(number, {**call, "agent": f"agent{number % 20}"}))
            lesson.add_llm_call(event(number, {**LLM, "response_model": f"m{number}"}))
        assert len(msgspec.msgpack.encode(lesson)) <= 2_048
        assert lesson.crowded

    def test_what_was_left_out_is_said(self) -> None:
        lesson = Lesson()
        for number in range(60):
            lesson.add_tool_call(event(number, {**SEARCH, "argument_keys": [f"key{number}"]}))
        use = lesson.use_of("agent")
        assert use.open
        assert all(form.open for form in use.calls)

    def test_an_agent_costs_little_whatever_it_does(self) -> None:
        state, chance = Learned(), random.Random(2)
        for number in range(3_000):
            each = summary(number, chance)
            each.use.calls = [
                CallForm(
                    f"tool{chance.randint(0, 99)}", keys=[f"k{chance.randint(0, 500)}"], shape=f"s{number}"
                )
            ]
            each.use.credentials = [f"c{number}"]
            Learner().learn(state, each)
        assert len(msgspec.msgpack.encode(state)) < 32 * 1024
        assert len(profile(state, "default", "agent").encode()) < 32 * 1024
        assert state.open or any(tool.open for tool in state.tools.values())

    def test_an_ordinary_profile_is_under_4_kib(self) -> None:
        state = Learned()
        for number in range(500):
            Learner().learn(state, summary(number, random.Random(number)))
        assert len(profile(state, "default", "agent").encode()) < 4 * 1024

    def test_few_profiles_are_kept_decoded(self) -> None:
        profiles = Profiles(max_decoded=2)
        for name in "abc":
            profiles.take(name, AgentProfile(tenant="t", agent=name, sessions=5).encode())
        assert [profiles.of(name) for name in "abca"] == [
            AgentProfile(tenant="t", agent=name, sessions=5) for name in "abca"
        ]
        profiles.take("a", None)
        profiles.take("b", b"not a profile")
        assert (profiles.of("a"), profiles.of("b"), len(profiles)) == (None, None, 1)


def test_a_long_shape_is_known_by_its_hash_and_named_once_its_text_is_seen() -> None:
    state, learner = Learned(), Learner()
    for number, shape in enumerate([shape_hash("long"), "long", shape_hash("long")]):
        each = summary(number, random.Random(0))
        each.use.calls = [CallForm("t", shape=shape, calls=1)]
        learner.learn(state, each)
    assert state.tools["t"].shapes == {"long": 3}


@pytest.mark.parametrize(
    ("struct", "model"),
    [
        (AgentProfile, profile_contract.AgentProfile),
        (ToolProfile, profile_contract.ToolProfile),
        (Range, profile_contract.Range),
        (SessionSummary, window_contract.AgentSessionSummary),
        (AgentUse, window_contract.AgentUse),
        (CallForm, window_contract.CallForm),
        (Fact, window_contract.AgentFact),
    ],
)
def test_fields_are_those_of_the_contract(struct: Any, model: Any) -> None:
    assert {*struct.__struct_fields__, "schema_"} == {*model.model_fields, "schema_"}


def test_what_is_written_is_the_contract() -> None:
    pipeline = SessionPipeline(0, ())
    start = {**START, "credential": "k", "parent_session": "p"}
    records = stream([start, *HEALTHY[1:]])
    outputs = [out for n, each in enumerate(records) for out in pipeline.process(each, Source(EVENTS, 0, n))]
    told = [each for each in outputs if isinstance(each, Fact | SessionSummary)]
    assert [getattr(each, "kind", "summary") for each in told] == ["credential", "spawn", "summary"]
    for each in told:
        read = WINDOW_RECORD.validate_json(each.encode())
        assert decode_record(read.model_dump_json(exclude_none=True).encode()) == each
    made = learned(*[HEALTHY] * 5)
    assert made is not None
    assert decode(PROFILE.validate_json(made.encode()).model_dump_json().encode()) == made
