"""What was done in a drill, and when."""

from __future__ import annotations

from dataclasses import dataclass

from drills.script import Act


@dataclass(frozen=True, slots=True)
class Done:
    """An act that happened: its event and its times in milliseconds since 1970. Or one that was tried and
    `denied`, which may be how a failure begins.
    """

    act: Act
    event_id: str
    event_ms: float
    wall_ms: float
    denied: bool = False
