"""One cause, one incident, one page: however many agents it hits, in whatever order that is seen."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from responders import actions, causes, policy
from responders.decider.detections import MOST_JOINED
from responders.handle import Responder
from responders.incident import Incident, fold
from responders.store import projections, tables
from responders.store.event_store import Store, events_of
from schemas.detection import Detection
from tests.responders.world import START, Clock, detection


def make(store: Store, clock: Clock, rules: str = "") -> Responder:
    return Responder(store, policy.parse(rules).with_channels("desk"), clock)


@pytest.fixture
def desk(store: Store, clock: Clock) -> Responder:
    return make(store, clock)


@pytest.fixture
def quick(sqlite_store: Store, clock: Clock) -> Responder:
    return make(sqlite_store, clock)


def outage(**changes: object) -> Detection:
    fields: dict[str, object] = {
        "detector": "provider_outage",
        "agent": "*",
        "session": None,
        "metric": "acme-llm",
        "suggested": None,
        "summary": "acme-llm fails 87% of the calls of a, b, c.",
    }
    return detection(**({"detection_id": "outage"} | fields | changes))


def hit(number: int, **changes: object) -> Detection:
    """A consequence: one agent fails more than it used to."""
    fields: dict[str, object] = {
        "detector": "error_rate",
        "agent": f"agent-{number}",
        "session": None,
        "suggested": None,
    }
    return detection(f"hit-{number}", **(fields | changes))


def pages(responder: Responder) -> list[tuple[str, str]]:
    """Incident and page of what was paged, in order."""
    with responder.store.reading() as connection:
        rows = connection.execute(
            select(tables.outbox.c.effect)
            .where(tables.outbox.c.kind == "Page")
            .order_by(tables.outbox.c.row_id)
        ).scalars()
        effects = [json.loads(row) for row in rows]
    return [(each["incident_id"], each["page"]) for each in effects if each["channel"] == "desk"]


def of(responder: Responder, incident_id: str) -> Incident:
    with responder.store.reading() as connection:
        folded = fold(events_of(connection, incident_id))
    assert folded is not None
    return folded


def everything(responder: Responder) -> list[Incident]:
    return [of(responder, row.incident_id) for row in projections.incidents(responder.store, limit=1000)]


@given(
    order=st.permutations(range(9)),
    at=st.integers(0, 9),
    steps=st.lists(st.integers(0, 3), min_size=10, max_size=10),
)
@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_an_outage_pages_once_whoever_is_seen_first(
    quick: Responder, clock: Clock, order: list[int], at: int, steps: list[int]
) -> None:
    _forget(quick)
    clock.now = START
    seen: list[Detection] = [hit(number) for number in order]
    seen.insert(at, outage())
    for each, seconds in zip(seen, steps, strict=True):
        clock.pass_seconds(seconds / 4)
        quick.detection(each)
        quick.fire_timers()
    clock.pass_seconds(300)
    quick.fire_timers()
    open_ones = [each for each in everything(quick) if each.open]
    (cause,) = open_ones
    assert cause.detections[0].detector == "provider_outage" or at > 0
    assert pages(quick) == [(cause.incident_id, "opened")]
    named = {each.agent for each in cause.detections} | {each.agent for each in cause.absorbed}
    assert named == {"*", *(f"agent-{number}" for number in range(9))}


def _forget(responder: Responder) -> None:
    def work(connection: object) -> None:
        for table in tables.metadata.sorted_tables:
            connection.execute(delete(table))  # type: ignore[attr-defined]

    responder.store.transact(work)


def test_two_hundred_agents_hit_by_one_outage_page_once(quick: Responder, clock: Clock) -> None:
    for number in range(100):
        quick.detection(hit(number))
    quick.detection(outage())
    for number in range(100, 200):
        clock.pass_seconds(0.1)
        quick.detection(hit(number))
    clock.pass_seconds(60)
    quick.fire_timers()
    (cause,) = [each for each in everything(quick) if each.open]
    assert pages(quick) == [(cause.incident_id, "opened")]
    assert len(cause.absorbed) == 100
    assert len(cause.agents) == 201
    merged = [each for each in everything(quick) if each.merged_into == cause.incident_id]
    assert len(merged) == 100
    with pytest.raises(actions.ActionRefused, match=f"is part of {cause.incident_id}"):
        actions.acknowledge(quick, merged[0].incident_id, "alice")


def test_what_follows_an_outage_is_contained_all_the_same_but_does_not_page(desk: Responder) -> None:
    cause = desk.detection(outage(severity="warning"))
    assert cause is not None
    desk.detection(hit(1, detector="retry_storm", session="s-1", suggested={"mode": "throttle"}))
    after = of(desk, cause.incident_id)
    assert after.severity == "warning"
    assert after.containment == "requested"
    assert pages(desk) == [(cause.incident_id, "opened")]


@pytest.mark.parametrize(
    ("changes", "minutes"),
    [
        ({"detector": "tool_loop"}, 0),  # nothing an outage does
        ({"tenant": "other"}, 0),
        ({"agent": "spared"}, 0),  # not one of those it names
        ({}, 200),  # long after
    ],
)
def test_what_does_not_follow_pages_for_itself(
    desk: Responder, clock: Clock, changes: dict[str, object], minutes: int
) -> None:
    desk.detection(outage(agents=["agent-1", "agent-2"]))
    clock.pass_seconds(minutes * 60)
    own = desk.detection(hit(1, time=clock.now, onset=clock.now, **changes))
    assert own is not None
    clock.pass_seconds(60)
    desk.fire_timers()
    assert (own.incident_id, "opened") in pages(desk)


def test_an_outage_that_is_over_explains_nothing_more(desk: Responder, clock: Clock) -> None:
    cause = desk.detection(outage())
    desk.detection(outage(detection_id="over", severity="info", summary="acme-llm answers again."))
    assert cause is not None
    own = desk.detection(hit(1))
    assert own is not None
    assert own.incident_id != cause.incident_id


def test_an_incident_that_is_about_more_is_not_swallowed(desk: Responder) -> None:
    mixed = desk.detection(detection("loop", agent="agent-1"))
    desk.detection(hit(1))
    desk.detection(outage())
    assert mixed is not None
    assert of(desk, mixed.incident_id).open


def test_a_consequence_waits_for_its_cause_and_pages_when_none_comes(desk: Responder, clock: Clock) -> None:
    own = desk.detection(hit(1))
    assert own is not None
    assert pages(desk) == []
    assert own.deferrals["opened"].reason == "consequence"
    clock.pass_seconds(46)
    desk.fire_timers()
    desk.fire_timers()
    assert pages(desk) == [(own.incident_id, "opened")]


def test_a_cause_and_a_consequence_that_missed_each_other_meet_before_anyone_is_paged(
    desk: Responder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two responders decide at the same time, neither seeing what the other has not committed."""
    own = desk.detection(hit(1))
    with monkeypatch.context() as patched:
        patched.setattr(causes, "consequences_of", lambda *_: [])
        cause = desk.detection(outage())
    assert own is not None
    assert cause is not None
    assert of(desk, own.incident_id).open
    clock.pass_seconds(46)
    desk.fire_timers()
    assert of(desk, own.incident_id).merged_into == cause.incident_id
    assert [each.incident_id for each in of(desk, cause.incident_id).absorbed] == [own.incident_id]
    assert pages(desk) == [(cause.incident_id, "opened")]


def test_a_fleet_detection_of_several_agents_is_one_incident(desk: Responder) -> None:
    for agent in ("A", "B"):
        desk.detection(detection(f"storm-{agent}", detector="spawn_storm", agent=agent, session=None))
    (only,) = everything(desk)
    assert set(only.agents) == {"A", "B"}
    assert len(only.containments) == 2
    assert pages(desk) == [(only.incident_id, "opened")]


def test_flapping_joins_the_open_incident_until_it_has_been_quiet_for_the_window(
    store: Store, clock: Clock
) -> None:
    desk = make(store, clock, "[grouping]\nwindow_minutes = 60")
    for turn in range(5):
        desk.detection(detection(f"d-{turn}", severity=("warning", "critical")[turn % 2]))
        clock.pass_seconds(59 * 60)
    (only,) = everything(desk)
    assert [page for _, page in pages(desk)] == ["opened", "raised:critical"]
    clock.pass_seconds(2 * 60)
    again = desk.detection(detection("d-again"))
    assert again is not None
    assert again.incident_id != only.incident_id
    assert again.kin == (only.incident_id,)
    assert desk.detection(detection("d-more")) == of(desk, again.incident_id)


def test_a_cause_that_comes_again_is_linked_to_the_incident_it_had(desk: Responder, clock: Clock) -> None:
    first = desk.detection(detection("d-1"))
    assert first is not None
    actions.resolve(desk, first.incident_id, "alice")
    clock.pass_seconds(3 * 86_400)
    second = desk.detection(detection("d-2", session="s-2"))
    other = desk.detection(detection("d-3", agent="support", session="s-3"))
    assert second is not None
    assert other is not None
    assert second.kin == (first.incident_id,)
    assert other.kin == ()
    actions.false_alarm(desk, second.incident_id, "alice")
    clock.pass_seconds(30 * 86_400)
    third = desk.detection(detection("d-4", session="s-4"))
    assert third is not None
    assert third.kin == ()


def test_the_policy_says_what_belongs_together(store: Store, clock: Clock) -> None:
    desk = make(store, clock, "[grouping]\nrules = []\nby = ['agent_detector']")
    desk.detection(detection("d-1"))
    desk.detection(detection("d-2", session="s-2"))
    desk.detection(detection("d-3", detector="budget"))
    assert Counter(len(each.detections) for each in everything(desk)) == {2: 1, 1: 1}


def test_a_storm_is_told_in_a_digest_and_nothing_is_dropped(desk: Responder, clock: Clock) -> None:
    opened = [
        desk.detection(detection(f"d-{n}", agent=f"a-{n}", session=f"s-{n}", suggested=None))
        for n in range(25)
    ]
    ids = [each.incident_id for each in opened if each is not None]
    (digest,) = [each for each in everything(desk) if each.listed]
    assert [incident_id for incident_id, _ in pages(desk)] == [*ids[:10], digest.incident_id]
    assert [each.incident_id for each in digest.listed] == ids[10:]
    assert digest.severity == "critical"
    assert all(of(desk, each).deferrals["opened"].reason == "storm" for each in ids[10:])
    clock.pass_seconds(60)
    desk.fire_timers()
    assert pages(desk)[11:] == [(digest.incident_id, "digest:2")]
    clock.pass_seconds(60)
    desk.fire_timers()
    assert len(pages(desk)) == 12
    calm = desk.detection(detection("calm", agent="calm", session="calm"))
    assert calm is not None
    assert pages(desk)[-1] == (calm.incident_id, "opened")


def test_an_outage_that_many_have_joined_still_says_that_it_is_over(quick: Responder) -> None:
    cause = quick.detection(outage())
    assert cause is not None
    for number in range(MOST_JOINED + 5):
        quick.detection(hit(number))
    quick.detection(outage(detection_id="over", severity="info"))
    assert [each.severity for each in of(quick, cause.incident_id).detections][-1] == "info"


def test_who_closes_a_digest_is_told_first_what_it_lists_since_the_last_one(
    desk: Responder, clock: Clock
) -> None:
    for number in range(12):
        desk.detection(detection(f"d-{number}", agent=f"a-{number}", session=f"s-{number}"))
    (digest,) = [each for each in everything(desk) if each.listed]
    assert (len(digest.listed), digest.untold) == (2, 1)
    actions.resolve(desk, digest.incident_id, "alice")
    assert pages(desk)[11:] == [(digest.incident_id, "digest:2")]
    clock.pass_seconds(120)
    while desk.fire_timers():
        pass
    assert [page for incident_id, page in pages(desk) if incident_id == digest.incident_id][2:] == []


def test_who_has_taken_a_digest_has_not_taken_the_next_storm(desk: Responder, clock: Clock) -> None:
    """Of what a digest lists nobody is called but by the digest: one that somebody is on calls nobody."""
    for number in range(12):
        desk.detection(detection(f"d-{number}", agent=f"a-{number}", session=f"s-{number}"))
    (taken,) = [each for each in everything(desk) if each.listed]
    actions.acknowledge(desk, taken.incident_id, "alice")
    for number in range(12, 15):
        desk.detection(detection(f"d-{number}", agent=f"a-{number}", session=f"s-{number}"))
    first, second = sorted((each for each in everything(desk) if each.listed), key=lambda each: each.attended)
    assert (first.attended, len(first.listed), second.incident_id) == (False, 3, taken.incident_id)
    assert first.incident_id not in {incident_id for incident_id, _ in pages(desk)}, "one digest a minute"
    clock.pass_seconds(60)
    while desk.fire_timers():
        pass
    assert (first.incident_id, "digest:1") in pages(desk)
    clock.pass_seconds(600)
    while desk.fire_timers():
        pass
    assert (first.incident_id, "escalated:1") in pages(desk)


def test_the_cause_of_a_storm_is_paged_though_there_is_one(desk: Responder) -> None:
    """It is the page that explains the others; in a digest it would be one line among theirs."""
    for number in range(20):
        desk.detection(detection(f"other-{number}", agent=f"other-{number}", session=f"s-{number}"))
    cause = desk.detection(outage())
    assert cause is not None
    assert ("opened", "desk") in of(desk, cause.incident_id).pages


def test_one_tenant_s_storm_is_not_another_s(desk: Responder) -> None:
    for number in range(15):
        desk.detection(detection(f"d-{number}", agent=f"a-{number}", session=f"s-{number}"))
    other = desk.detection(detection("other", tenant="other"))
    assert other is not None
    assert pages(desk)[-1] == (other.incident_id, "opened")


def test_everything_that_opened_is_told_or_says_why_not(desk: Responder, clock: Clock) -> None:
    """Nothing is silently dropped: told itself, listed in a digest, or part of a cause that was told."""
    for number in range(40):
        desk.detection(detection(f"d-{number}", agent=f"a-{number % 17}", session=f"s-{number % 23}"))
        desk.detection(hit(number))
        clock.pass_seconds(2)
        desk.fire_timers()
    desk.detection(outage())
    for _ in range(5):
        clock.pass_seconds(60)
        desk.fire_timers()
    told = {incident_id for incident_id, _ in pages(desk)}
    listed = {each.incident_id for one in everything(desk) for each in one.listed}
    for each in everything(desk):
        assert each.incident_id in told | listed or each.merged_into in told | listed
