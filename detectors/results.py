"""What a session remembers of a tool's or an index's results: their form, and how many were empty."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from detectors.base import Beginning, name_hash
from detectors.bounded import add_sample, find_recent
from detectors.shapes import changes

MAX_SOURCES: Final = 4
MAX_SHAPE_CHARS: Final = 192
MAX_NAMED: Final = 8
SEVERAL: Final = -1


class Results(msgspec.Struct, array_like=True):
    """Of one source, whose name's hash is `key`.

    `shape` is the form of its results and `formed` how many had it, SEVERAL where they have more than one;
    `full` and `empty` are the results before the present run of empty ones, which is `run` results long, each
    for other arguments, and began at `since`; `hollow` are those in a row that said they had items.
    """

    key: bytes
    shape: str = ""
    formed: int = 0
    full: int = 0
    empty: int = 0
    run: int = 0
    hollow: int = 0
    arguments: bytes = b""
    since: Beginning | None = None

    def forms_before(self, shape: str) -> dict[str, int]:
        """Take a form in; the forms that results had before, with their numbers. Nothing where that does not
        help: there was none, there are several, or it is too long to keep.
        """
        if self.formed == SEVERAL:
            return {}
        if self.shape in {shape, ""} and len(shape) <= MAX_SHAPE_CHARS:
            self.shape = shape
            self.formed += 1
            return {shape: self.formed}
        before = {self.shape: self.formed} if self.shape else {}
        self.shape, self.formed = "", SEVERAL
        return before

    def take_full(self) -> None:
        """Take in a result that has items."""
        self.full += 1
        self.empty += self.run
        self.run = self.hollow = 0
        self.arguments = b""

    def take_empty(self, arguments: str, here: Beginning, *, hollow: bool) -> None:
        """Take in a result without items; one for the same arguments as the last adds nothing to the run."""
        self.hollow = self.hollow + 1 if hollow else 0
        digest = name_hash(arguments)
        if arguments and digest == self.arguments:
            return
        self.arguments = digest
        self.run += 1
        if self.run == 1:
            self.since = here


def results_of(sources: list[Results], name: str) -> Results:
    """Those of the tool or index of that name; of more than are kept, those of some."""
    key = name_hash(name)
    found = find_recent(sources, lambda one: one.key == key)
    return found or add_sample(sources, Results(key), MAX_SOURCES, lambda one: one.key)


def change_of(known: Iterable[str], shape: str) -> tuple[str, int, bool]:
    """What sets a form apart from the known ones, in words; how many keys; whether readers of the known ones
    break, which keys that are only more do not do.
    """
    change = changes(known, shape)
    named = zip(("added", "removed", "retyped"), change, strict=True)
    words = "; ".join(f"{what} {', '.join(paths[:MAX_NAMED])}" for what, paths in named if paths)
    return words, sum(map(len, change)), bool(change.removed or change.retyped)
