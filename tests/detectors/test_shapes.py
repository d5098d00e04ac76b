"""Shapes read back are those the client writes, and what is no change to a reader is none here."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.shapes import changes, parse
from watchkeeper_client.fingerprint import result_shape

NAMES = st.sampled_from(["id", "name", "a b", 'q"uote', "rows", "x:y", "*", "#h", "|"])
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(0, 9), st.sampled_from(["", "text"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=12,
)
NOTHING = ((), (), ())


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_what_the_client_writes_can_be_read_and_is_no_change_to_itself(value: object) -> None:
    shape = result_shape(value)
    assert parse(shape) is not None
    assert changes([shape], shape) == NOTHING


@settings(max_examples=150, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=4))
def test_what_was_seen_before_is_no_change_whatever_else_was(values: list[object]) -> None:
    shapes = [result_shape(value) for value in values]
    assert all(changes(shapes, shape) == NOTHING for shape in shapes)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(NAMES.filter(lambda name: name != "*"), VALUES, min_size=2, max_size=4), st.data())
def test_a_key_that_is_dropped_or_new_is_named(record: dict[str, object], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(record)))
    less = {key: value for key, value in record.items() if key != name}
    removed = changes([result_shape(record)], result_shape(less))
    added = changes([result_shape(less)], result_shape(record))
    assert (removed.removed, removed.added, removed.retyped) == ((name,), (), ())
    assert (added.added, added.removed, added.retyped) == ((name,), (), ())


def test_what_is_missing_now_and_then_empty_or_null_is_no_change() -> None:
    known = ["{rows:[{id:number,note:string}],total:number}", "{rows:[{id:number}],total:number}"]
    for same in ("{rows:[],total:number}", "{rows:[{id:null}],total:null}", "{rows:null,total:number}", "{}"):
        assert changes(known, same) == NOTHING
    assert changes(known, "{rows:[{id:string}],total:number}").retyped == ("rows[].id",)
    assert changes(known, "string").retyped == ("result",)


def test_what_cannot_be_read_is_not_compared() -> None:
    for text in ("#0123456789abcdef", "{rows:[", "{a:number}}", '{"a:number}', "{" * 99):
        assert parse(text) is None
        assert changes([text], "{a:number}") == NOTHING
        assert changes(["{a:number}"], text) == NOTHING


def test_the_keys_of_a_map_are_not_compared() -> None:
    assert changes(["{*:number}"], "{a:number,b:number}") == NOTHING
