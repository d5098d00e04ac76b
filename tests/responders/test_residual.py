"""What an agent does after it was told to stop is named, on the incident and on its page."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from responders.decide import Lift
from responders.handle import Responder
from responders.incident import Incident
from responders.pages.page import render
from responders.policy import DEFAULT
from responders.store import projections
from responders.store.event_store import Store
from schemas.detection import Detection, Evidence
from tests.responders.world import Clock, detection


def going_on(number: int, **counts: int) -> Detection:
    return detection(
        f"on-{number}",
        detector="disobeyed_control",
        metric="begun_after_halt_ms",
        sample_size=sum(counts.values()),
        evidence=Evidence(counts=counts),
        summary="billing goes on.",
    )


def told(incident: Incident) -> str:
    """All that the newest page says."""
    page = list(incident.pages)[-1][0]
    return str(render(incident, page).blocks)


class World:
    def __init__(self, store: Store) -> None:
        self.clock, self.store = Clock(), store
        self.responder = Responder(store, DEFAULT.with_channels("desk"), self.clock)

    def see(self, seen: Detection) -> Incident:
        self.clock.pass_seconds(1)
        incident = self.responder.detection(seen)
        assert incident is not None
        return incident

    def view(self, incident: Incident) -> Any:
        return projections.incident(self.store, incident.incident_id)


def test_what_was_done_since_is_on_the_page_and_grows(sqlite_store: Store) -> None:
    world = World(sqlite_store)
    world.see(detection())
    incident = world.see(going_on(1, delete_mail=12))
    (page,) = [status for (name, _), status in incident.pages.items() if name.startswith("disobeyed:")]
    assert page.headline.endswith("12 more calls after the stop (12 delete_mail)")
    assert "goes on: 12 more calls after the stop (12 delete_mail)" in told(incident)
    incident = world.see(going_on(2, delete_mail=20, send_mail=4))
    assert "24 more calls after the stop (20 delete_mail, 4 send_mail)" in told(incident)
    (held,) = world.view(incident).containments
    assert (held.state, held.residual, held.residual_named) == (
        "disobeyed",
        24,
        {"delete_mail": 20, "send_mail": 4},
    )
    pages = {name for name, _ in incident.pages}
    assert len([name for name in pages if name.startswith("disobeyed:")]) == 1, "paged once"


def test_an_older_or_unnamed_count_changes_nothing(sqlite_store: Store) -> None:
    world = World(sqlite_store)
    world.see(detection())
    world.see(going_on(1, delete_mail=12))
    version = world.see(going_on(2, delete_mail=12)).version
    assert world.see(going_on(3, delete_mail=6)).version == version
    assert world.see(going_on(4)).version == version


def test_a_new_order_starts_anew(sqlite_store: Store) -> None:
    world = World(sqlite_store)
    first = world.see(detection())
    incident = world.see(going_on(1, delete_mail=12))
    (held,) = incident.containments.values()
    world.responder.lift("alice", Lift(held.target, "mended"))
    world.see(detection("d-2", time=world.clock.now + timedelta(seconds=1)))
    (again,) = world.view(first).containments
    assert (again.state, again.residual, again.residual_named) == ("requested", None, {})
