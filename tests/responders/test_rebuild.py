"""What is kept for speed can be told from the log, and how often detectors are right."""

from __future__ import annotations

import doctest

from sqlalchemy import delete, select, update

from responders import actions, precision
from responders.handle import Responder
from responders.store import projections, tables
from responders.store.event_store import Store
from responders.store.rebuild import PROJECTIONS, rebuild
from tests.responders.test_correlation import hit, outage
from tests.responders.world import Clock, detection


def live_through_a_lot(responder: Responder, clock: Clock) -> None:
    """Every kind of row: pages, deferred ones, a merged incident, a storm, kin, what was closed."""
    first = responder.detection(detection())
    assert first is not None
    actions.resolve(responder, first.incident_id, "alice")
    responder.detection(detection("again", session="s-2"))
    for number in range(3):
        responder.detection(hit(number))
    responder.detection(outage())
    for number in range(15):
        responder.detection(detection(f"storm-{number}", agent=f"a-{number}", session=f"x-{number}"))
    for _ in range(20):
        clock.pass_seconds(120)
        responder.fire_timers()
    actions.halt_all(responder, "alice")


def kept(store: Store) -> dict[str, set[object]]:
    with store.reading() as connection:
        return {table.name: set(connection.execute(select(table)).all()) for table in PROJECTIONS}


def test_projections_told_from_the_log_are_those_that_were_kept(responder: Responder, clock: Clock) -> None:
    live_through_a_lot(responder, clock)
    before = kept(responder.store)
    assert all(before.values())
    assert rebuild(responder.store) == {"incidents": 0, "causes": 0, "paged": 0}
    assert kept(responder.store) == before


def test_what_was_lost_or_wrong_is_put_right_and_counted(responder: Responder, clock: Clock) -> None:
    live_through_a_lot(responder, clock)
    before = kept(responder.store)
    shown = projections.incidents(responder.store)

    def damage(connection: object) -> None:
        connection.execute(update(tables.incidents).values(state="resolved"))  # type: ignore[attr-defined]
        connection.execute(delete(tables.causes))  # type: ignore[attr-defined]
        connection.execute(update(tables.paged).values(page="other"))  # type: ignore[attr-defined]

    one = next(iter(before["paged"]))
    responder.store.transact(
        lambda connection: connection.execute(
            delete(tables.paged).where(tables.paged.c.incident_id != one[0])  # type: ignore[index]
        )
    )
    responder.store.transact(
        lambda connection: connection.execute(
            delete(tables.paged).where(tables.paged.c.page != one[1])  # type: ignore[index]
        )
    )
    responder.store.transact(damage)
    counted = rebuild(responder.store)
    assert all(counted.values())
    assert kept(responder.store) == before
    assert projections.incidents(responder.store) == shown
    assert not any(rebuild(responder.store).values())


def test_false_alarms_tell_how_precise_a_detector_is(responder: Responder) -> None:
    for number in range(4):
        incident = responder.detection(detection(f"d-{number}", session=f"s-{number}"))
        assert incident is not None
        close = actions.false_alarm if number == 0 else actions.resolve
        close(responder, incident.incident_id, "alice")
    responder.detection(detection("open", detector="budget", session="s-9"))
    loop, budget = precision.by_detector(responder.store)
    assert (loop.detector, loop.incidents, loop.false_alarms, loop.precision) == ("tool_loop", 4, 1, 0.75)
    assert loop.low is not None
    assert loop.high is not None
    assert 0 < loop.low < 0.75 < loop.high < 1
    assert (budget.open, budget.precision, budget.low) == (1, None, None)


def test_the_example_in_the_docstring_holds() -> None:
    result = doctest.testmod(precision)
    assert (result.failed, bool(result.attempted)) == (0, True)
