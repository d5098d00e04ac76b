"""Plays a script without a bus: acts become agent events on a simulated clock, and no gate says no."""

from __future__ import annotations

import random
from collections.abc import Iterator

from drills.script import Act, Drill, Verdict
from schemas.base import from_epoch_ms


def event_of(act: Act, *, tenant: str, event_id: str, time_ms: float) -> dict[str, object]:
    """The act as an `agent.event/1`, ready for JSON."""
    return {
        "schema": "agent.event/1",
        "event_id": event_id,
        "type": act.type,
        "time": from_epoch_ms(time_ms).isoformat(timespec="milliseconds"),
        "tenant": tenant,
        "agent": act.agent,
        "session": act.session,
        **act.fields,
    }


def play(
    drill: Drill, *, seed: int, run: str, start_ms: float, tenant: str = "drill", most: int | None = None
) -> Iterator[tuple[Act, dict[str, object]]]:
    """Yields each act with its event, at most `most` of them; every act is allowed."""
    script = drill.make(random.Random(seed), run)
    clock = start_ms
    number = 0
    try:
        act = next(script)
        while most is None or number < most:
            clock += act.pause_ms
            event_id = f"{run}-{number}"
            yield act, event_of(act, tenant=tenant, event_id=event_id, time_ms=clock)
            number += 1
            act = script.send(Verdict(allowed=True, event_id=event_id))
    except StopIteration:
        return
    finally:
        script.close()
