"""stale_memory: a session reads an older state than the one it has seen or written before.

Statistic: none; two of the session guarantees of Terry et al., "Session Guarantees for Weakly Consistent
Replicated Data" (PDIS 1994). Units: milliseconds, versions. Source: R 17 ("version 1.2" retrieved after the
user said 1.3).

Monotonic reads: of one index, `index_version` does not go back, nor does `as_of` for one owner's memory by
more than `skew_ms`. (What has no owner is documents: their dates are their own, and nothing follows from an
old one.) Versions are compared when both are dotted numbers or ISO dates; hashes have no order.

Read your writes: after a successful call with the effect ``<index>.write`` (or update, set, put, store,
upsert, save), what is read from that index after `lag_ms` is not of before the write.

Each index is reported once a session by each rule; four are kept, of more a sample that stays the same.

>>> from detectors.testing import events, run
>>> read = dict(type="retrieval", index="memory", documents=1)
>>> run(StaleMemory(), events(dict(read, index_version=version) for version in ("1.3", "1.10", "1.3", "1.2")))
[('warning', 'e2', 1.0)]
>>> write = dict(type="tool.call", tool="remember", arguments_hash="a", status="ok", effect="memory.write")
>>> stale = dict(read, owner="u1", as_of="2027-01-15T07:00:00Z")
>>> run(StaleMemory(), events([write, stale], gap_ms=120_000))
[('warning', 'e1', 3600000.0)]
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

import msgspec

from detectors.base import NOTHING, Beginning, SessionContext, name_hash
from detectors.bounded import add_sample, find_recent
from schemas.base import epoch_ms
from schemas.detection import Detection
from schemas.event import Retrieval, ToolCall

MAX_INDEXES: Final = 4
_ORDERED: Final = re.compile(r"v?(\d{1,9}(?:[.-]\d{1,9}){0,5})")
_WRITES: Final = frozenset({"write", "update", "set", "put", "store", "upsert", "save"})


class Index(msgspec.Struct, array_like=True):
    """What is known of an index: the greatest version, the newest memory of one owner, where the later of the
    two was read, and the last write.
    """

    key: bytes
    version: tuple[int, ...] = ()
    owner: bytes = b""
    as_of_ms: int = 0
    read: Beginning | None = None
    write: Beginning | None = None
    reported: str = ""


@dataclass(frozen=True, slots=True)
class StaleMemory:
    """`skew_ms`: how far two clocks may differ; `lag_ms`: how long an index may take to show a write."""

    skew_ms: int = 1_000
    lag_ms: int = 60_000

    name: ClassVar[str] = "stale_memory"
    version: ClassVar[int] = 1
    wants: ClassVar[tuple[str, ...]] = ("retrieval", "tool.call")

    class State(msgspec.Struct, omit_defaults=True):
        indexes: list[Index] = []

    def update(
        self, state: State, event: Retrieval | ToolCall, context: SessionContext
    ) -> Iterable[Detection]:
        if event.type == "tool.call":
            if event.effect is not None and event.status == "ok":
                name, _, verb = event.effect.rpartition(".")
                if name and verb in _WRITES:
                    _index(state, name).write = context.here()
            return NOTHING
        if event.index_version is None and event.as_of is None:
            return NOTHING
        index = _index(state, event.index)
        found = [*self._version(index, event, context), *self._as_of(index, event, context)]
        return found or NOTHING

    def _version(self, index: Index, event: Retrieval, context: SessionContext) -> Iterable[Detection]:
        ordered = _ORDERED.fullmatch(event.index_version or "")
        if ordered is None:
            return
        version = tuple(int(part) for part in re.split("[.-]", ordered[1]))
        if len(version) != len(index.version) or version >= index.version:
            index.version, index.read = version, context.here()
        else:
            what = f"version {event.index_version} after {'.'.join(map(str, index.version))}"
            yield from self._stale("version", 1.0, 0.0, what, index.read, index, event, context)

    def _as_of(self, index: Index, event: Retrieval, context: SessionContext) -> Iterable[Detection]:
        if event.as_of is None or event.owner is None or not event.documents:
            return
        as_of_ms, owner, write = epoch_ms(event.as_of), name_hash(event.owner), index.write
        if write is not None and context.time_ms >= write.time_ms + self.lag_ms:
            behind_ms = write.time_ms - as_of_ms
            if behind_ms > self.skew_ms:
                what = f"a state {behind_ms / 1000:g} s older than what the session had written"
                yield from self._stale("write", behind_ms, self.skew_ms, what, write, index, event, context)
        if owner != index.owner or as_of_ms >= index.as_of_ms:
            index.owner, index.as_of_ms, index.read = owner, as_of_ms, context.here()
        elif (behind_ms := index.as_of_ms - as_of_ms) > self.skew_ms:
            what = f"a state {behind_ms / 1000:g} s older than the one read before"
            yield from self._stale("as_of", behind_ms, self.skew_ms, what, index.read, index, event, context)

    def _stale(
        self,
        rule: str,
        observed: float,
        threshold: float,
        what: str,
        since: Beginning | None,
        index: Index,
        event: Retrieval,
        context: SessionContext,
    ) -> Iterable[Detection]:
        if rule in index.reported:
            return
        index.reported += f"{rule} "
        yield context.detection(
            self,
            trigger=f"{rule}/{event.index}",
            severity="warning",
            metric="versions_behind" if rule == "version" else "behind_ms",
            observed=observed,
            threshold=threshold,
            sample_size=event.documents,
            since=since,
            summary=f"{event.agent} read {event.index}: {what}.",
        )


def _index(state: StaleMemory.State, name: str) -> Index:
    key = name_hash(name)
    index = find_recent(state.indexes, lambda one: one.key == key)
    return index or add_sample(
        state.indexes, Index(key), MAX_INDEXES, lambda one: (one.read is None, one.key)
    )
