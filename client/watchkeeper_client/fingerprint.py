"""Fingerprints of arguments and results: what is needed to compare two calls, and nothing of what they say.

Hashes are XXH3-64 (16 hex digits), or BLAKE2b-128 (32 hex digits) when a ``key`` of up to 64 bytes is given:
short secrets such as names can be guessed from an unkeyed hash, not from a keyed one. Values are hashed as
JSON with sorted keys; text holding a JSON object or array counts as that object or array, so that arguments
have one hash whether they were seen as a string or parsed. Integers and floats differ (1 is not 1.0).

Any Python value is taken: what JSON has no form for is reduced to its public fields, or else to its type. No
function here raises.

>>> arguments_hash({"path": "/", "depth": 2}) == arguments_hash('{"depth": 2, "path": "/"}')
True
>>> result_shape({"total": 2, "rows": [{"id": 1}, {"id": 2, "name": "b"}]})
'{rows:[{id:number,name:string}],total:number}'
>>> result_items({"total": 2, "rows": [{"id": 1}]}), result_total({"total": 2, "rows": [{"id": 1}]})
(1, 2)
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from itertools import islice
from pathlib import PurePath
from types import MappingProxyType
from typing import Final
from uuid import UUID

from xxhash import xxh3_64_hexdigest

MAX_SHAPE_CHARS: Final = 2_048
MAX_NODES: Final = 20_000
MAX_NAMES: Final = 512
MAX_NAME_CHARS: Final = 256
_MAX_COUNT = 2**53 - 1
_MAX_DEPTH = 32
_MAX_EMBEDDED_CHARS = 1_000_000
# A dict with more keys than this is a map from data to values, not a record: its keys are content.
_MAX_RECORD_KEYS = 64
_MAX_PATH_NAME_CHARS = 64
_ITEM_KEYS = (
    "items",
    "results",
    "result",
    "data",
    "documents",
    "docs",
    "hits",
    "records",
    "rows",
    "entries",
    "matches",
    "values",
    "content",
)
_TOTAL_KEYS = (
    "total",
    "total_hits",
    "total_count",
    "total_results",
    "total_items",
    "totalHits",
    "totalCount",
    "totalResults",
    "totalItems",
    "num_results",
    "num_found",
    "numFound",
    "count",
)
# What a value's own methods may raise while it is read. The value belongs to the agent; the agent goes on.
_VALUE_ERRORS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError, OSError)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a tool's result is told apart by; the fields of ``tool.call`` with the same names."""

    result_hash: str
    result_shape: str
    result_items: int | None
    result_total: int | None


def arguments_hash(value: object, key: bytes | None = None) -> str:
    """The hash of a call's arguments: equal for equal arguments, in any order of keys."""
    return _digest(_canonical(_parsed(value)), key)


def result_hash(value: object, key: bytes | None = None) -> str:
    """The hash of a result: equal for equal results, in any order of keys."""
    return _digest(_canonical(_parsed(value)), key)


def content_hash(text: str, key: bytes | None = None) -> str:
    """The hash of a text as it is, character for character."""
    return _digest(text.encode("utf-8", "surrogatepass"), key)


def argument_keys(value: object) -> list[str]:
    """The names of the arguments, sorted; empty when the arguments are not an object. At most 512 names."""
    parsed = _parsed(value)
    fields = _fields(parsed)
    if fields is None:
        return []
    names = {_key(name)[:MAX_NAME_CHARS] for name in fields}
    return sorted(name for name in names if name)[:MAX_NAMES]


def result_shape(value: object) -> str:
    """The key paths and types of ``value``, for example ``{rows:[{id:number}],total:number}``.

    Elements of an array are merged, so neither their order nor their number matters. More than 64 keys count
    as a map (``{*:number}``). Beyond 2,048 characters it is ``#`` and a hash of the shape; what lies beyond
    20,000 values, level by level, is not looked at.
    """
    return _shape_text(_parsed(value))


def result_items(value: object) -> int | None:
    """How many items the result holds: the length of its array, its own or under a usual name (rows, …)."""
    return _items(_parsed(value))


def result_total(value: object) -> int | None:
    """How many items the result says there are (total, total_hits, count, …); None when it does not say."""
    return _total(_parsed(value))


def fingerprint(value: object, key: bytes | None = None) -> Fingerprint:
    """Hash, shape, items and total of a result, reading it once."""
    parsed = _parsed(value)
    return Fingerprint(_digest(_canonical(parsed), key), _shape_text(parsed), _items(parsed), _total(parsed))


def plain(value: object) -> object:
    """``value`` in JSON types, at most 20,000 values and 32 levels of it; None when it cannot be read."""
    try:
        return _Flattener().plain(value, 0)
    except _VALUE_ERRORS:
        return None


def _digest(data: bytes, key: bytes | None) -> str:
    if key is None:
        return xxh3_64_hexdigest(data)
    # A longer key is hashed down to what BLAKE2b takes, as HMAC does.
    return blake2b(data, digest_size=16, key=key if len(key) <= 64 else blake2b(key).digest()).hexdigest()


def _parsed(value: object) -> object:
    """The object or array that ``value`` is the text of, else ``value``."""
    if isinstance(value, (bytes, bytearray)):
        try:
            text = bytes(value).decode("utf-8")
        except UnicodeDecodeError:
            return value
        parsed = _parsed(text)
        return value if parsed is text else parsed
    if not isinstance(value, str) or len(value) > _MAX_EMBEDDED_CHARS:
        return value
    start = value[:64].lstrip()[:1]
    if start not in {"{", "["}:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _canonical(value: object) -> bytes:
    try:
        text = _dumps(value)
    except _VALUE_ERRORS:
        # Cycles, keys of mixed types, extreme depth, huge integers.
        text = _dumps(_Flattener().plain(value, 0))
    return text.encode("utf-8", "surrogatepass")


def _dumps(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_towards_json)


def _towards_json(value: object) -> object:
    """For the JSON writer: one step from a value it does not know towards one it does."""
    scalar = _scalar(value)
    if scalar is not None:
        return scalar
    if isinstance(value, (set, frozenset)):
        return sorted(_dumps(item) for item in value)
    fields = _fields(value)
    if fields is not None:
        return fields
    elements = _elements(value)
    return _type_name(value) if elements is None else elements


class _Flattener:
    """Copies a value into JSON types, bounded in depth and in number of values, so that cycles end."""

    def __init__(self) -> None:
        self._left = MAX_NODES

    def plain(self, value: object, depth: int) -> object:
        self._left -= 1
        if value is None or isinstance(value, (bool, float, str)):
            return value
        if isinstance(value, int):
            return value if abs(value) <= _MAX_COUNT else hex(value)
        scalar = _scalar(value)
        if scalar is not None:
            return scalar
        return _type_name(value) if depth >= _MAX_DEPTH or self._left <= 0 else self._parts(value, depth + 1)

    def _parts(self, value: object, depth: int) -> object:
        if isinstance(value, (set, frozenset)):
            return sorted(json.dumps(self.plain(item, depth), sort_keys=True) for item in value)
        fields = _fields(value)
        if fields is not None:
            return {_key(name): self.plain(item, depth) for name, item in dict.items(fields)}
        elements = _elements(value)
        return _type_name(value) if elements is None else [self.plain(item, depth) for item in elements]


def _scalar(value: object) -> str | None:
    """The text of a value that is one value although JSON has no type for it."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, (Decimal, UUID, PurePath, timedelta, complex)):
        return str(value)
    if isinstance(value, Enum):
        return value.name
    return None


def _fields(value: object) -> dict[object, object] | None:
    """The named parts of a value; of an object its public attributes, which covers dataclasses and models."""
    if isinstance(value, dict):
        return value
    if isinstance(value, MappingProxyType):
        return dict(value)
    if isinstance(value, (type, str, int, float, list, tuple, set, frozenset)) or callable(value):
        return None
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict):
        return {name: item for name, item in attributes.items() if not str(name).startswith("_")} or None
    slots = getattr(type(value), "__slots__", None)
    if isinstance(slots, tuple) and slots:
        return {name: getattr(value, name, None) for name in slots if not str(name).startswith("_")} or None
    return None


def _elements(value: object) -> list[object] | None:
    if isinstance(value, list):
        return value
    return list(value) if isinstance(value, (tuple, deque, set, frozenset, range)) else None


def _key(name: object) -> str:
    return name if isinstance(name, str) else str(_Flattener().plain(name, _MAX_DEPTH))


def _type_name(value: object) -> str:
    return f"<{type(value).__qualname__}>"


class _Shape:
    """Every type seen at one path; arrays put all their elements into one shape."""

    __slots__ = ("element", "fields", "scalars")

    def __init__(self) -> None:
        self.scalars: set[str] = set()
        self.fields: dict[str, _Shape] | None = None
        self.element: _Shape | None = None

    def field(self, name: str) -> _Shape:
        if self.fields is None:
            self.fields = {}
        return self.fields.setdefault(name, _Shape())

    def text(self) -> str:
        parts = sorted(self.scalars)
        if self.fields is not None:
            inner = ",".join(f"{name}:{shape.text()}" for name, shape in sorted(self.fields.items()))
            parts.append(f"{{{inner}}}")
        if self.element is not None:
            parts.append(f"[{self.element.text()}]")
        return "|".join(parts)


def _shape_text(value: object) -> str:
    root = _Shape()
    # Breadth first: when the budget ends, what is left out lies deep, not late.
    queue: deque[tuple[_Shape, object, int]] = deque([(root, value, 0)])
    budget = MAX_NODES
    while queue and budget > 0:
        budget -= 1
        shape, item, depth = queue.popleft()
        _look_at(shape, item, depth, queue)
    text = root.text()
    return (
        text if len(text) <= MAX_SHAPE_CHARS else f"#{_digest(text.encode('utf-8', 'surrogatepass'), None)}"
    )


def _look_at(shape: _Shape, value: object, depth: int, queue: deque[tuple[_Shape, object, int]]) -> None:
    room = max(0, MAX_NODES - len(queue))
    if value is None:
        shape.scalars.add("null")
    elif isinstance(value, bool):
        shape.scalars.add("boolean")
    elif isinstance(value, (int, float, Decimal)):
        shape.scalars.add("number")
    elif isinstance(value, str) or _scalar_type(value):
        shape.scalars.add("string")
    elif depth >= _MAX_DEPTH:
        shape.scalars.add("deep")
    elif (fields := _fields(value)) is not None:
        is_map = len(fields) > _MAX_RECORD_KEYS
        shape.fields = {} if shape.fields is None else shape.fields
        for name, item in islice(dict.items(fields), room):
            queue.append((shape.field("*" if is_map else _path_name(name)), item, depth + 1))
    elif (elements := _elements(value)) is not None:
        shape.element = shape.element or _Shape()
        queue.extend((shape.element, item, depth + 1) for item in islice(elements, room))
    else:
        shape.scalars.add(_type_name(value)[:_MAX_PATH_NAME_CHARS])


def _scalar_type(value: object) -> bool:
    return isinstance(
        value, (bytes, bytearray, memoryview, date, time, timedelta, UUID, PurePath, complex, Enum)
    )


def _path_name(name: object) -> str:
    text = _key(name)
    if len(text) > _MAX_PATH_NAME_CHARS:
        return "*"
    # What could be mistaken for the shape's own punctuation is quoted.
    return text if text.replace("_", "").replace("-", "").isalnum() else json.dumps(text)


def _items(value: object) -> int | None:
    elements = None if isinstance(value, range) else _elements(value)
    if elements is not None:
        return len(elements)
    for container in _containers(value):
        for name in _ITEM_KEYS:
            inner = _elements(container.get(name))
            if inner is not None:
                return len(inner)
    return None


def _total(value: object) -> int | None:
    for container in _containers(value):
        for name in _TOTAL_KEYS:
            total = container.get(name)
            if isinstance(total, dict):  # Elasticsearch: {"hits": {"total": {"value": 3}}}
                total = total.get("value")
            if isinstance(total, int) and not isinstance(total, bool) and 0 <= total <= _MAX_COUNT:
                return total
    return None


def _containers(value: object) -> list[dict[object, object]]:
    """The object itself and the objects under its usual names for results: where counts are looked for."""
    if not isinstance(value, dict):
        return []
    return [value, *(inner for name in _ITEM_KEYS if isinstance(inner := value.get(name), dict))]
