"""Who calls a provider, how the last calls of each went, and whether that is the provider's fault.

>>> from detectors.activity import CallCounts
>>> callers: dict[str, Caller] = {}
>>> for agent, errors in {"a": 7, "b": 8, "c": 0}.items():
...     take(callers, agent, CallCounts(10, errors), now_ms=0)
>>> failing(callers, before=0.01, now_ms=1_000)
['a', 'b']
>>> answers(callers, now_ms=1_000)
False
>>> take(callers, "b", CallCounts(100, 1), now_ms=1_000)
>>> failing(callers, before=0.01, now_ms=1_000), answers(callers, now_ms=1_000)
([], True)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import Final

import msgspec

from detectors.activity import CallCounts
from detectors.bounded import rank
from detectors.objectives import log_evidence
from detectors.slices import OTHER

MAX_CALLERS: Final = 64
REMEMBERED_CALLS: Final = 16
LATELY_MS: Final = 10 * 60_000
DAY_MS: Final = 24 * 3_600_000
FEWEST_CALLS: Final = 2
LEAST_RATE: Final = 0.01
CHANCE: Final = log(100.0)
"""An agent fails where so much would come by chance once in a hundred times."""
EVERYTHING: Final = 0.8
ENOUGH_OF_ONE: Final = 8
ANSWERING: Final = 0.2
NAMED: Final = 8


class Caller(msgspec.Struct, array_like=True):
    """An agent's last calls, some sixteen, and those of them that failed."""

    calls: float = 0.0
    errors: float = 0.0
    last_ms: int = 0

    @property
    def share(self) -> float:
        return self.errors / self.calls


def take(callers: dict[str, Caller], agent: str, counts: CallCounts, now_ms: int) -> None:
    """Take an agent's calls in; of what came before, as much stays as there is room for.

    Of more agents than there is room for, those with the smallest hashes are followed: a sample of the fleet
    that stays the same. Were it those who called last, of many that call now and then each would be forgotten
    before it calls again.
    """
    if not counts.calls or agent == OTHER:
        return
    if agent not in callers and len(callers) >= MAX_CALLERS and not _make_place(callers, agent, now_ms):
        return
    caller = callers.setdefault(agent, Caller())
    known = min(counts.calls, REMEMBERED_CALLS)
    kept = min(caller.calls, REMEMBERED_CALLS - known)
    caller.errors = (caller.share * kept if kept else 0.0) + counts.errors * known / counts.calls
    caller.calls = kept + known
    caller.last_ms = now_ms


def _make_place(callers: dict[str, Caller], agent: str, now_ms: int) -> bool:
    """Forget who has not called for a day, or else the one with the largest hash, if that is not this one."""
    gone = [name for name, each in callers.items() if now_ms - each.last_ms > DAY_MS]
    for name in gone or [max(callers, key=rank)]:
        if not gone and rank(name) < rank(agent):
            return False
        del callers[name]
    return True


def failing(callers: Mapping[str, Caller], before: float, now_ms: int, *, agreed: bool = False) -> list[str]:
    """The agents concerned, by name, if that is the provider's fault, else none.

    Args:
        before: the share of failures before.
        agreed: it is known to be the provider's fault: whoever fails is concerned.
    """
    lately = {name: each for name, each in callers.items() if _lately(each, now_ms)}
    usual = max(before, LEAST_RATE)
    found = sorted(
        name
        for name, each in lately.items()
        if each.share > usual and log_evidence(each.calls, each.share, usual) >= CHANCE
    )
    if agreed or (len(found) >= 2 and 2 * len(found) >= len(lately)):
        return found
    users = [name for name, each in callers.items() if now_ms - each.last_ms < DAY_MS]
    if found and users == found:
        only = callers[found[0]]
        if only.calls >= ENOUGH_OF_ONE and only.share >= EVERYTHING:
            return found
    return []


def answers(callers: Mapping[str, Caller], now_ms: int) -> bool:
    """Whether the provider has been called lately, and has mostly answered."""
    lately = [each for each in callers.values() if _lately(each, now_ms)]
    return bool(lately) and sum(each.errors for each in lately) < ANSWERING * sum(
        each.calls for each in lately
    )


def _lately(caller: Caller, now_ms: int) -> bool:
    return caller.calls >= FEWEST_CALLS and now_ms - caller.last_ms <= LATELY_MS


def listed(names: Sequence[str]) -> str:
    """For a sentence, the first few by name."""
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
