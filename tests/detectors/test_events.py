"""Events as structs: nothing is taken that the models refuse, nothing is changed, detectors cannot tell."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from detectors import events
from detectors.events import UnknownConstraintError, fast_event, from_model
from detectors.offline import Engine
from schemas.event import EVENT_TYPES, AgentEvent, EventBase
from streams.decode import Flaw, decode, read_events
from tests.detectors.streams import streams

DETECTORS = Path(events.__file__).parent
NAMES = {model.__name__ for model in EVENT_TYPES}
BASE = {
    "schema": "agent.event/1",
    "event_id": "e",
    "time": "2026-03-01T12:00:00Z",
    "agent": "a",
    "session": "s",
}
REQUIRED: dict[str, dict[str, Any]] = {
    "session.start": {
        "budget": {"tokens": 5, "fan_out": {"mail": 2}},
        "tool_schemas": {"t": {"required": ["q"]}},
    },
    "session.end": {"outcome": "failed"},
    "llm.call": {"request_model": "m", "input_tokens": 3, "output_tokens": 4, "status": "ok", "cost_usd": 0},
    "tool.call": {"tool": "t", "arguments_hash": "h", "status": "ok"},
    "effect": {"ref": "e", "confirmed": True},
    "retrieval": {"index": "i", "documents": 2, "as_of": "2026-02-01T00:00:00Z"},
    "message": {"to_agent": "b", "intent": "answer"},
    "escalation": {"to": "human"},
    "evaluation": {"name": "n", "score": 1},
    "canary": {"canary": "c", "passed": False},
    "deployment": {"component": "tool", "name": "n", "to_version": "2"},
    "feedback": {"kind": "thumb", "value": -1},
    "heartbeat": {},
}
FIELDS = sorted(
    {name for model in EVENT_TYPES for name in model.model_fields} | {"schema", "time_ms", "extra"}
)

numbers = (
    st.integers(-(2**63), 2**64 - 1) | st.integers(-1, 3) | st.floats(allow_nan=False, allow_infinity=False)
)
texts = st.sampled_from(
    ["", "ok", "a", "x" * 128, "é" * 129, "x" * 256, "𝄞" * 257, "agent.event/1"]
) | st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=9)
digits = st.text("0123456789", min_size=1, max_size=10)
times = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(
        ["2026-03-01", "2024-02-29", "2026-02-29", "0001-01-01", "9999-12-31", "20260301", "2026-3-1"]
    ),
    st.sampled_from(["T", "t", " ", "_"]),
    st.sampled_from(["12:00:00", "23:59:59", "24:00:00", "23:59:60", "12:00", "120000"]),
    st.just("") | digits.map(".{}".format) | digits.map(",{}".format),
    st.sampled_from(["Z", "z", "+00:00", "-00:00", "+0000", "+02:00", "-23:59", "+00", ""]),
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts | times,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["tokens", "required", "properties", "a", ""]) | texts, inner, max_size=3
        )
    ),
    max_leaves=6,
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """An event of any type with anything in some of its fields, and some fields left out. (What no store can
    hold, U+0000, is refused for all texts alike before they are looked at.)
    """
    kind = draw(st.sampled_from(sorted(REQUIRED)))
    fields: dict[str, Any] = {
        **BASE,
        **REQUIRED[kind],
        "type": kind,
        "time": draw(st.just(BASE["time"]) | times),
    }
    fields |= draw(st.dictionaries(st.sampled_from(FIELDS), values, max_size=2))
    for name in draw(st.sets(st.sampled_from(sorted(fields)), max_size=1)):
        del fields[name]
    return orjson.dumps(fields, option=orjson.OPT_NON_STR_KEYS)


def told(value: Any) -> Any:
    """What a model or a struct says, types included: 1, 1.0 and True differ."""
    if isinstance(value, BaseModel):
        return {name: told(getattr(value, name)) for name in (*type(value).model_fields, *_derived(value))}
    if isinstance(value, msgspec.Struct):
        return {
            name: told(getattr(value, name)) for name in (*value.__struct_fields__, *_class_fields(value))
        }
    if isinstance(value, dict):
        return {key: told(inner) for key, inner in value.items()}
    return (
        type(value).__name__,
        value,
        [told(inner) for inner in value] if isinstance(value, list) else None,
    )


def _derived(value: BaseModel) -> tuple[str, ...]:
    return ("time_ms",) if isinstance(value, EventBase) else ()


def _class_fields(value: msgspec.Struct) -> tuple[str, ...]:
    return ("type",) if hasattr(value, "type") else ()


def test_every_type_is_taken_the_fast_way() -> None:
    assert set(REQUIRED) == {model.model_fields["type"].default for model in EVENT_TYPES}
    for kind, fields in REQUIRED.items():
        assert fast_event({**BASE, **fields, "type": kind}) is not None


@settings(max_examples=600, deadline=None)
@given(messages())
def test_what_is_taken_the_fast_way_the_model_takes_with_equal_values(message: bytes) -> None:
    fast = fast_event(orjson.loads(message))
    if fast is not None:
        (model,) = read_events(message)
        assert not isinstance(model, Flaw)
        if fast.type == "llm.call" and fast.cost_usd is None:  # which is priced when it is read
            model = model.model_copy(update={"cost_usd": None})
        assert told(fast) == told(model)


PIECES = [
    b"",
    b' "agent" : "b",',
    b'"agent":"b",',
    b'"extra":{"a":1,"a":2},',
    b'"attributes":{"a":1,"a":2},',
    b'"attributes":{"a":":"},',
    b'"extra":"\\u003a",',
    b'"extra":' + b"[" * 31 + b"]" * 31 + b",",
    b'"extra":' + b"[" * 32 + b"]" * 32 + b",",
    b'"attributes":null,"extra":{"a":' + b"[" * 30 + b"{}" + b"]" * 30 + b"},",
    b'"extra":-1e999,',
]


@settings(max_examples=300, deadline=None)
@given(messages(), st.sampled_from(PIECES))
def test_a_record_reads_as_the_model_s_event_or_its_flaw(message: bytes, piece: bytes) -> None:
    message = message.replace(b"{", b"{" + piece, 1)
    (decoded,), (model,) = decode(message, "agent.events", 0, 0, None), read_events(message)
    if isinstance(model, Flaw):
        assert (decoded.reason, decoded.detail) == (model.reason, model.detail[:1024])  # type: ignore[union-attr]
    else:
        assert told(decoded) == told(model)


@settings(max_examples=30, deadline=None)
@given(streams())
def test_detectors_find_the_same_in_structs_as_in_models(stream: list[AgentEvent]) -> None:
    assert list(Engine().run(map(from_model, stream))) == list(Engine().run(stream))


@pytest.mark.parametrize("field", ["time_ms", "time", "agent"])
def test_a_message_cannot_set_what_is_worked_out(field: str) -> None:
    value = json.dumps({**BASE, "type": "heartbeat"}).encode()[:-1] + f', "{field}": 7}}'.encode()
    (decoded,) = decode(value, "agent.events", 0, 0, None)
    assert getattr(decoded, "time_ms", None) == (1_772_366_400_000 if field == "time_ms" else None)


def test_a_constraint_that_would_be_lost_is_refused() -> None:
    class Odd(BaseModel):
        even: Annotated[int, Field(multiple_of=2)]

    with pytest.raises(UnknownConstraintError, match="MultipleOf"):
        events._make(Odd, {}, [])


def test_detectors_tell_events_apart_by_type() -> None:
    """A struct is no instance of its model."""
    for path in DETECTORS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "isinstance"
            ):
                named = {part.id for part in ast.walk(node.args[1]) if isinstance(part, ast.Name)}
                assert not named & NAMES, f"{path.name}:{node.lineno}"
