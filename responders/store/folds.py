"""Incidents as they were last seen, so that one with a long log is not folded from its beginning each time.

A log only grows, so what was committed stays its beginning. What a transaction sees becomes known to others
when it commits; until then it may be taken back.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from responders.incident import Incident

MOST: Final = 512
"""Incidents that are kept, those used last."""
KEY: Final = "watchkeeper_folds"
"""Where a connection has those of its transaction."""


@dataclass(frozen=True, slots=True)
class Fold:
    """``last`` is the newest event as it is stored: another one there means another log."""

    incident: Incident
    last: str


class Folds:
    """Those that are committed. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Fold] = OrderedDict()

    def get(self, incident_id: str) -> Fold | None:
        with self._lock:
            return self._kept.get(incident_id)

    def keep(self, seen: dict[str, Fold]) -> None:
        with self._lock:
            for incident_id, fold in seen.items():
                self._kept[incident_id] = fold
                self._kept.move_to_end(incident_id)
            while len(self._kept) > MOST:
                self._kept.popitem(last=False)


class FoldsSeen:
    """Those of one transaction, over the committed ones."""

    def __init__(self, committed: Folds) -> None:
        self._committed = committed
        self.seen: dict[str, Fold] = {}

    def get(self, incident_id: str) -> Fold | None:
        return self.seen.get(incident_id) or self._committed.get(incident_id)

    def put(self, fold: Fold) -> None:
        self.seen[fold.incident.incident_id] = fold
