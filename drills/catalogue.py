"""Every drill, by name."""

from __future__ import annotations

from drills.script import Drill
from drills.scripts import (
    bad_credentials_retry,
    cheapest_flight,
    clarification_loop,
    dropped_column,
    empty_success,
    file_listing,
    hundred_k_loop,
    ignored_stop,
    invented_tool,
    malformed_argument,
    mass_email,
    memory_pollution,
    needless_rewrite,
    nine_seconds,
    orphaned_session,
    poisoned_index,
    rate_limit_storm,
    redefined_goal,
    report_format,
    silent_refusals,
    stale_memory,
    state_blindness,
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
    hundred_k_loop.DRILL,
    nine_seconds.DRILL,
    malformed_argument.DRILL,
    report_format.DRILL,
    empty_success.DRILL,
    state_blindness.DRILL,
    needless_rewrite.DRILL,
    redefined_goal.DRILL,
    dropped_column.DRILL,
    mass_email.DRILL,
    memory_pollution.DRILL,
    stale_memory.DRILL,
)
BY_NAME: dict[str, Drill] = {drill.name: drill for drill in DRILLS}
