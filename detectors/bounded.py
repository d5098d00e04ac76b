"""Memory that does not grow: what detectors keep of many things, the oldest going first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

DIGEST_BYTES = 8


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


def remember(known: bytes, digest: bytes, limit: int) -> bytes:
    """`known`, joined eight-byte digests, with one more; at most the last `limit` of them."""
    return (known + digest)[-DIGEST_BYTES * limit :]


def put(mapping: dict[K, V], key: K, value: V, limit: int) -> None:
    """Set a key; where there are more than `limit`, the one that was set first goes."""
    mapping[key] = value
    if len(mapping) > limit:
        del mapping[next(iter(mapping))]
