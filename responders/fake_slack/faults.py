"""What goes wrong with calls of the fake Slack: the next call, every call for a while, or a seeded share of
all of them.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final


class Fault(Enum):
    """What can go wrong with a call. Those named ACCEPT_THEN do it all the same; the others do nothing.

    RESET cuts the connection, TIME_OUT never answers, TRICKLE answers a byte at a time (a slow loris).
    REFUSED answers ``ok: false`` with the workspace's `refusal`; `Refused` names an error of its own.
    """

    RATE_LIMITED = auto()
    SERVER_ERROR = auto()
    REFUSED = auto()
    RESET = auto()
    TIME_OUT = auto()
    ACCEPT_THEN_TIME_OUT = auto()
    ACCEPT_THEN_RESET = auto()
    ACCEPT_THEN_SERVER_ERROR = auto()
    ACCEPT_THEN_TRICKLE = auto()


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer ``ok: false`` with this error."""

    error: str


AnyFault = Fault | Refused

EVERY: Final = "*"
"""In place of a method: all of them."""

TRANSIENT: Final = tuple(each for each in Fault if each is not Fault.REFUSED)
"""Faults that pass: after them a client may hope."""


@dataclass(slots=True)
class _Mix:
    chance: random.Random
    share: float
    faults: tuple[AnyFault, ...]
    methods: frozenset[str]

    def drawn(self, method: str) -> AnyFault | None:
        if self.methods and method not in self.methods:
            return None
        return self.chance.choice(self.faults) if self.chance.random() < self.share else None


@dataclass(slots=True)
class Faults:
    """The faults to come. One asked for by `next` goes before one that stands, and that before the mix.

    >>> faults = Faults()
    >>> faults.next("chat.postMessage", Fault.RESET)
    >>> faults.keep(Refused("channel_is_archived"), "chat.update")
    >>> [faults.met_by(each) for each in ("chat.postMessage", "chat.postMessage", "chat.update")]
    [<Fault.RESET: 4>, None, Refused(error='channel_is_archived')]
    """

    met: Counter[AnyFault] = field(default_factory=Counter)
    """How often each was met."""
    _next: dict[str, deque[AnyFault]] = field(default_factory=dict)
    _standing: dict[str, AnyFault] = field(default_factory=dict)
    _mix: _Mix | None = None

    def next(self, method: str, *faults: AnyFault) -> None:
        """The next calls of ``method`` meet ``faults``, one each."""
        self._next.setdefault(method, deque()).extend(faults)

    def keep(self, fault: AnyFault, method: str = EVERY) -> None:
        """Every call of ``method`` meets ``fault`` until `clear`."""
        self._standing[method] = fault

    def mix(
        self,
        seed: int,
        share: float,
        faults: Iterable[AnyFault] = TRANSIENT,
        methods: Iterable[str] = (),
    ) -> None:
        """Until `clear`, a call (of ``methods``, where given) meets one of ``faults`` with probability
        ``share``. The draws depend on the seed and the order of calls alone.
        """
        self._mix = _Mix(random.Random(seed), share, tuple(faults), frozenset(methods))  # noqa: S311

    def clear(self) -> None:
        """No fault is left to come."""
        self._next.clear()
        self._standing.clear()
        self._mix = None

    def met_by(self, method: str) -> AnyFault | None:
        """What a call of ``method`` meets now."""
        waiting = self._next.get(method)
        if waiting:
            fault: AnyFault | None = waiting.popleft()
        else:
            fault = self._standing.get(method) or self._standing.get(EVERY)
            if fault is None and self._mix is not None:
                fault = self._mix.drawn(method)
        if fault is not None:
            self.met[fault] += 1
        return fault
