"""The session pipeline for frameworks that keep each session's state themselves, one key at a time."""

from __future__ import annotations

from bench.reference import LATENESS_MS, WINDOW_MS
from detectors.pipeline import SessionPipeline
from detectors.records import SESSION_PREFIX, SessionRecord


class KeyedPipeline(SessionPipeline):
    """Detectors, timers and windows of a partition: `put` a session in, `process`, take its `value` out."""

    def __init__(self, partition: int) -> None:
        super().__init__(partition, window_ms=WINDOW_MS, lateness_ms=LATENESS_MS, checkpointed=False)

    def put(self, key: bytes, stored: bytes | None) -> None:
        """Have the next event of the session at `key` see this state, as the framework's store has it."""
        name = key[len(SESSION_PREFIX) :].decode()
        known = self._sessions.get(name)
        if stored is None or known is None:
            return
        record = SessionRecord.decode(stored, self._types)
        record.due_ms = known.due_ms
        record.restored = None
        self._sessions[name] = record
