"""Result shapes read back: what `watchkeeper_client.fingerprint.result_shape` writes, parsed and compared.

A shape is scalar types, an object and an array, any of them, joined by ``|``; an array's elements are one
shape: ``{rows:[{id:number,name:null|string}],total:number}``. ``*`` stands for the keys of a map.

>>> known = ["{rows:[{id:number,name:string}],total:number}", "{note:string,rows:[],total:number}"]
>>> changes(known, "{rows:[{id:string,label:string}]}")
Changes(added=('rows[].label',), removed=('rows[].name', 'total'), retyped=('rows[].id',))
>>> changes(known, known[1])
Changes(added=(), removed=(), retyped=())
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

MAX_DEPTH: Final = 32
_UNTOLD: Final = frozenset({"null", "deep"})
"""Types that say nothing of what is there otherwise."""
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_BARE: Final = re.compile(r'[^",:|{}\[\]]+')


class Shape(NamedTuple):
    """One place of a result: its scalar types, and its fields and elements if it is an object or array."""

    scalars: frozenset[str]
    fields: dict[str, Shape] | None
    element: Shape | None

    @property
    def kinds(self) -> frozenset[str]:
        """What can stand here. What is empty or null says nothing of that."""
        kinds = self.scalars - _UNTOLD
        kinds = kinds | {"object"} if self.fields else kinds
        return kinds | {"array"} if self.element is not None and self.element != _NOTHING else kinds


_NOTHING: Final = Shape(frozenset(), None, None)


class Changes(NamedTuple):
    """Key paths that are new, gone, or of another type; sorted."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    retyped: tuple[str, ...]


@lru_cache(maxsize=1_024)
def parse(text: str) -> Shape | None:
    """The shape a text stands for; None where it is a hash or no shape at all."""
    if text.startswith("#"):
        return None
    try:
        shape, end = _shape(text, 0, 0)
    except ValueError:
        return None
    return shape if end == len(text) else None


def changes(known: Iterable[str], new: str) -> Changes:
    """What sets a shape apart from all that are known. What is missing now and then is no change, nor is
    anything empty or null. Nothing, where one of them cannot be read.
    """
    read = [parse(text) for text in known]
    shapes = [shape for shape in read if shape is not None]
    shape = parse(new)
    added: set[str] = set()
    removed: set[str] = set()
    retyped: set[str] = set()
    if shape is not None and shapes and len(shapes) == len(read):
        _compare(shapes, shape, "", (added, removed, retyped))
    return Changes(*(tuple(sorted(paths)) for paths in (added, removed, retyped)))


def _compare(
    known: Sequence[Shape], new: Shape, path: str, found: tuple[set[str], set[str], set[str]]
) -> None:
    added, removed, retyped = found
    kinds = frozenset().union(*(shape.kinds for shape in known))
    if kinds and not new.kinds <= kinds:
        retyped.add(path or "result")
        return
    objects = [shape.fields for shape in known if shape.fields]
    if new.fields and objects and not any("*" in fields for fields in (*objects, new.fields)):
        prefix = f"{path}." if path else ""
        seen = {name for fields in objects for name in fields}
        added.update(prefix + name for name in new.fields if name not in seen)
        removed.update(
            prefix + name
            for name in seen
            if name not in new.fields and all(name in fields for fields in objects)
        )
        for name, field in new.fields.items():
            if name in seen:
                _compare([fields[name] for fields in objects if name in fields], field, prefix + name, found)
    elements = [shape.element for shape in known if shape.element is not None]
    if new.element is not None and elements:
        _compare(elements, new.element, f"{path}[]", found)


def _shape(text: str, at: int, depth: int) -> tuple[Shape, int]:
    """The shape that begins at a place of the text, and where it ends. Raises `ValueError`."""
    if depth > MAX_DEPTH:
        raise ValueError(text)
    scalars: set[str] = set()
    fields: dict[str, Shape] | None = None
    element: Shape | None = None
    while at < len(text):
        if text[at] == "{":
            fields, at = _fields(text, at + 1, depth)
        elif text[at] == "[":
            element, at = _shape(text, at + 1, depth + 1)
            at = _expect(text, at, "]")
        elif (bare := _BARE.match(text, at)) is not None:
            scalars.add(bare[0])
            at = bare.end()
        if at >= len(text) or text[at] != "|":
            break
        at += 1
    return Shape(frozenset(scalars), fields, element), at


def _fields(text: str, at: int, depth: int) -> tuple[dict[str, Shape], int]:
    fields: dict[str, Shape] = {}
    while text[at : at + 1] != "}":
        quoted = _QUOTED.match(text, at)
        name = quoted or _BARE.match(text, at)
        if name is None:
            raise ValueError(text)
        at = _expect(text, name.end(), ":")
        key = json.loads(name[0]) if quoted else name[0]
        fields[key], at = _shape(text, at, depth + 1)
        if text[at : at + 1] == ",":
            at += 1
        elif text[at : at + 1] != "}":
            raise ValueError(text)
    return fields, at + 1


def _expect(text: str, at: int, sign: str) -> int:
    if text[at : at + 1] != sign:
        raise ValueError(text)
    return at + 1
