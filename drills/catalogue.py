"""Every drill, by name."""

from __future__ import annotations

from drills.script import Drill
from drills.scripts import (
    bad_credentials_retry,
    cheapest_flight,
    clarification_loop,
    file_listing,
    ignored_stop,
    invented_tool,
    orphaned_session,
    poisoned_index,
    rate_limit_storm,
    silent_refusals,
    weekend_run,
)

DRILLS: tuple[Drill, ...] = (
    silent_refusals.DRILL,
    clarification_loop.DRILL,
    file_listing.DRILL,
    invented_tool.DRILL,
    bad_credentials_retry.DRILL,
    cheapest_flight.DRILL,
    weekend_run.DRILL,
    orphaned_session.DRILL,
    rate_limit_storm.DRILL,
    ignored_stop.DRILL,
    poisoned_index.DRILL,
)
BY_NAME: dict[str, Drill] = {drill.name: drill for drill in DRILLS}
