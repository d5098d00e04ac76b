"""Memory that does not grow: what detectors keep of many things, the oldest or least likely going first."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol, TypeVar

from xxhash import xxh64_intdigest

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

DIGEST_BYTES = 4
"""Of a name, where many are kept (`detectors.base.name_hash`)."""


def find_recent(items: list[T], match: Callable[[T], bool]) -> T | None:
    """The item that matches, moved to the end: the items are kept least recent first."""
    for place, item in enumerate(items):
        if match(item):
            items.append(items.pop(place))
            return item
    return None


def add_recent(items: list[T], item: T, limit: int) -> T:
    """Append an item and let the least recent one go where there are more than `limit`."""
    items.append(item)
    if len(items) > limit:
        del items[0]
    return item


def add_sample(items: list[T], item: T, limit: int, order: Callable[[T], Any]) -> T:
    """Append an item; of more than `limit` the last in `order` goes, but for this one. By an order that has
    nothing to do with when they come all but one are a sample that stays the same: were it those that came
    last, of many in turns none would be kept until it comes again.
    """
    if len(items) >= limit:
        items.remove(max(items, key=order))
    items.append(item)
    return item


def remember(known: bytes, digest: bytes, limit: int) -> bytes:
    """`known`, joined digests of one length, with one more; at most the last `limit` of them."""
    return (known + digest)[-len(digest) * limit :]


def tell(told: bytes, digest: bytes, limit: int, urgent: bytes = b"") -> bytes | None:
    """`told`, joined digests, with one more; None where that is not to be told: it has been, or so much has
    that it says nothing new. The first that is `urgent`, a digest of whom it is about, is told all the same.
    """
    first = bool(urgent) and urgent not in told
    if digest in told or (len(told) >= DIGEST_BYTES * limit and not first):
        return None
    told = remember(told, digest, limit)
    return remember(told, urgent, limit) if first else told


def put(mapping: dict[K, V], key: K, value: V, limit: int) -> None:
    """Set a key; where there are more than `limit`, the one that was set first goes."""
    mapping[key] = value
    if len(mapping) > limit:
        del mapping[next(iter(mapping))]


class Mergeable(Protocol):
    """A count of something that another count of it can be added to."""

    def merge(self, other: Any) -> None:
        """Add `other`, which is left as it was."""


Counted = TypeVar("Counted", bound=Mergeable)


def count_under(
    kept: dict[str, Counted], label: str, make: Callable[[], Counted], *, most: int, rest: str | None
) -> Counted | None:
    """What is counted under `label`, made if need be. Only the `most` labels with the smallest hashes keep a
    place of their own; the counts of the others are joined under `rest`, or dropped where that is None.

    A label that is among the smallest of all is among the smallest of any part, so it never loses a count:
    merging parts gives the same whatever the parts were, and in whatever order.

    Returns None for a label that is dropped.
    """
    found = kept.get(label)
    if found is not None:
        return found
    if len(kept) - (rest in kept) >= most and label != rest:
        largest = max((name for name in kept if name != rest), key=rank)
        if rank(label) > rank(largest):
            return None if rest is None else count_under(kept, rest, make, most=most, rest=rest)
        evicted = kept.pop(largest)
        if rest is not None:
            joined = count_under(kept, rest, make, most=most, rest=rest)
            assert joined is not None
            joined.merge(evicted)
    made = kept[label] = make()
    return made


def merge_under(
    kept: dict[str, Counted],
    others: dict[str, Counted],
    make: Callable[[], Counted],
    *,
    most: int,
    rest: str | None,
) -> None:
    """Add every count of `others` to that of its label; `others` is left as it was."""
    for label, other in others.items():
        mine = count_under(kept, label, make, most=most, rest=rest)
        if mine is not None:
            mine.merge(other)


@lru_cache(maxsize=65_536)
def rank(label: str) -> tuple[int, str]:
    """The order in which labels keep their places where there is not room for all: the smallest first."""
    return xxh64_intdigest(label.encode()), label
