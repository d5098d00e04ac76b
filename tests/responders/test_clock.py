"""A clock that is set back loses no page and holds none up: what came first is known without it."""

from __future__ import annotations

import pytest

from responders import actions, policy
from responders.handle import Responder
from responders.incident_log import KafkaIncidentLog
from responders.sender import Sender
from responders.store.event_store import Store
from tests.responders.test_correlation import everything, pages
from tests.responders.test_escalation import Desk
from tests.responders.test_sender import Stub, opened, pages_to
from tests.responders.world import HALT, Clock, KeptBus, detection

HOUR_S = 3_600.0
SILENT_BEFORE = """
[[silence]]
detectors = ["tool_loop"]
until = 2026-03-01T02:20:00Z
"""


def see(responder: Responder, name: str) -> None:
    responder.detection(detection(name, agent=name, session=name, suggested=None))


def test_what_was_kept_back_is_told_though_an_earlier_page_bears_a_later_time(
    store: Store, clock: Clock
) -> None:
    desk = Desk(store, clock, SILENT_BEFORE)
    key = desk.see(severity="warning")
    clock.pass_seconds(-HOUR_S)
    desk.see(detection_id="d-2", detector="tool_loop", severity="critical")
    assert [page for page, _ in desk.pages(key)] == ["opened"]
    desk.wait(21)
    assert [page for page, _ in desk.pages(key)] == ["opened", "raised:critical"]


def test_pages_of_a_minute_that_is_yet_to_come_make_no_storm(store: Store, clock: Clock) -> None:
    responder = Responder(store, policy.DEFAULT.with_channels("desk"), clock)
    for number in range(10):
        see(responder, f"a-{number}")
    clock.pass_seconds(-HOUR_S)
    see(responder, "later")
    assert not [each for each in everything(responder) if each.listed]
    assert len(pages(responder)) == 11


def test_a_digest_is_not_put_off_by_the_one_before(store: Store, clock: Clock) -> None:
    responder = Responder(store, policy.DEFAULT.with_channels("desk"), clock)
    for number in range(11):
        see(responder, f"a-{number}")
    assert pages(responder)[-1][1] == "digest:1"
    clock.pass_seconds(-HOUR_S)
    for number in range(11):
        see(responder, f"b-{number}")
    clock.pass_seconds(60)
    while responder.fire_timers():
        pass
    assert pages(responder)[-1][1] == "digest:2"


async def test_the_policys_pace_is_not_kept_by_pages_of_an_hour_that_comes_again(
    sqlite_store: Store, clock: Clock
) -> None:
    quick = Stub("quick")
    quick.open.set()
    rules = pages_to("quick").model_copy(update={"pacing": {"quick": 1}})
    responder = Responder(sqlite_store, rules, clock)
    sender = Sender(responder, {"quick": quick}, KafkaIncidentLog(KeptBus()))
    opened(responder, 1)
    await sender.run_once()
    clock.pass_seconds(-HOUR_S)
    opened(responder, 2)
    await sender.run_once()
    assert len(quick.got) == 2


@pytest.mark.parametrize("seconds", [0.0, -HOUR_S, HOUR_S])
def test_a_question_is_asked_on_a_page_of_its_own_whatever_the_clock_says(
    sqlite_store: Store, clock: Clock, seconds: float
) -> None:
    """The first page is out; that it now asks for something is seen by nobody who is not told."""
    desk = Desk(sqlite_store, clock)
    key = desk.see(suggested=None)
    clock.pass_seconds(seconds)
    desk.see(detection_id="d-2", session=None, suggested=HALT)
    assert [page.partition(":")[0] for page, _ in desk.pages(key)] == ["opened", "approval"]
    assert actions.approve(desk.responder, key, "alice").containment == "requested"
