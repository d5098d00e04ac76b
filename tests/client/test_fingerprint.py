"""Fingerprints: equal for what is equal, different for what differs, and total over every Python value."""

from __future__ import annotations

import doctest
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from random import Random
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper_client import fingerprint as module
from watchkeeper_client.fingerprint import (
    MAX_SHAPE_CHARS,
    argument_keys,
    arguments_hash,
    content_hash,
    fingerprint,
    result_hash,
    result_items,
    result_shape,
    result_total,
)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=15,
)


@dataclass
class Order:
    number: int
    _secret: str = "hidden"


class Colour(Enum):
    RED = 1


class Broken:
    """Everything about it raises."""

    def __repr__(self) -> str:
        raise RuntimeError

    def __str__(self) -> str:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = object.__hash__


def cyclic() -> dict[str, object]:
    value: dict[str, object] = {}
    value["left"] = value["right"] = [value, value]
    return value


def deep() -> list[object]:
    value: list[object] = []
    for _ in range(50_000):
        value = [value]
    return value


ODD: list[object] = [
    cyclic(),
    deep(),
    "[" * 50_000,
    Broken(),
    Order(1),
    Colour.RED,
    object(),
    print,
    int,
    float("nan"),
    10**5_000,
    {1: "a", "b": 2, None: 3},
    {(1, 2): 3},
    {1, "a"},
    "\ud800",
    b"\xff\x00",
    range(3),
    iter([1]),
    MappingProxyType({"a": 1}),
    datetime(2026, 1, 1, tzinfo=UTC),
    Decimal("1.5"),
    [object()] * 50_000,
    {str(number): number for number in range(5_000)},
]


def test_the_example_in_the_docstring_holds() -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("value", ODD, ids=lambda value: type(value).__name__)
def test_any_value_has_the_same_fingerprint_twice(value: object) -> None:
    first, second = fingerprint(value), fingerprint(value)
    assert first == second
    assert len(first.result_shape) <= MAX_SHAPE_CHARS
    assert arguments_hash(value) == first.result_hash
    assert isinstance(argument_keys(value), list)


@given(json_values, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(value: object, random: Random) -> None:
    assert arguments_hash(shuffled(value, random)) == arguments_hash(value)
    assert result_shape(shuffled(value, random)) == result_shape(value)


@given(st.dictionaries(st.text(max_size=6), json_values, max_size=4))
def test_arguments_have_one_hash_as_text_and_parsed(arguments: dict[str, Any]) -> None:
    assert arguments_hash(json.dumps(arguments)) == arguments_hash(arguments)
    assert argument_keys(json.dumps(arguments)) == argument_keys(arguments)


@given(json_values, json_values)
def test_different_values_have_different_hashes(left: object, right: object) -> None:
    same = json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
    assert (result_hash([left]) == result_hash([right])) == same


@given(st.lists(json_values, max_size=6), st.randoms(use_true_random=False))
def test_neither_order_nor_number_of_elements_is_in_the_shape(items: list[object], random: Random) -> None:
    mixed = [*items, *items]
    random.shuffle(mixed)
    assert result_shape(mixed) == result_shape(items)


def test_a_shape_says_what_changed_and_nothing_of_the_values() -> None:
    before = result_shape([{"id": 1, "name": "Ada", "price": 2.5}])
    after = result_shape([{"id": "1", "name": None}, {"id": "2", "name": "Bob"}])
    assert before == "[{id:number,name:string,price:number}]"
    assert after == "[{id:string,name:null|string}]"


def test_a_map_from_data_does_not_put_its_keys_into_the_shape() -> None:
    assert result_shape({f"user{number}@mail": number for number in range(100)}) == "{*:number}"
    assert result_shape({"x" * 100: 1}) == "{*:number}"


def test_a_keyed_hash_needs_its_key() -> None:
    assert len({content_hash("ada"), content_hash("ada", b"k"), content_hash("ada", b"l")}) == 3
    assert content_hash("ada", b"k" * 200) == content_hash("ada", b"k" * 200)


@pytest.mark.parametrize(
    ("result", "items", "total"),
    [
        ([1, 2, 3], 3, None),
        ({"total_hits": 7, "documents": []}, 0, 7),
        ({"hits": {"total": {"value": 9}, "hits": [{}, {}]}}, 2, 9),
        ('{"rows": [1], "count": 4}', 1, 4),
        ({"total": True, "items": "none"}, None, None),
        ("plain text", None, None),
        ({}, None, None),
        (None, None, None),
    ],
)
def test_items_and_totals_are_found_under_their_usual_names(
    result: object, items: int | None, total: int | None
) -> None:
    assert (result_items(result), result_total(result)) == (items, total)


def test_private_attributes_stay_out() -> None:
    assert result_shape(Order(1)) == "{number:number}"
    assert arguments_hash(Order(1, "a")) == arguments_hash(Order(1, "b"))


def shuffled(value: object, random: Random) -> object:
    if isinstance(value, dict):
        names = list(value)
        random.shuffle(names)
        return {name: shuffled(value[name], random) for name in names}
    return [shuffled(item, random) for item in value] if isinstance(value, list) else value
