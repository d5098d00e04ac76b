"""Nobody answers, nobody is to be woken, nobody is to hear: who is told when, across restarts."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select

from responders import actions, policy, silences
from responders.decide import ActionRefused, PageOutcome
from responders.effects import Delivered, Permanent
from responders.handle import Responder
from responders.incident import Incident, fold
from responders.store import tables
from responders.store.event_store import Store, events_of
from responders.wanted import due
from schemas.base import epoch_ms, from_epoch_ms
from tests.responders.world import HALT, START, Clock, detection

CHAIN = """
[[escalation.steps]]
after_minutes = 5
people = ["U2"]

[[escalation.steps]]
after_minutes = 20
channels = ["phone"]
"""


class Desk:
    """A responder whose pages arrive at once, and which is made anew before every look at the clock."""

    def __init__(self, store: Store, clock: Clock, rules: str = "") -> None:
        self.store, self.clock = store, clock
        self.policy = policy.parse(rules).with_channels("desk")

    @property
    def responder(self) -> Responder:
        return Responder(self.store, self.policy, self.clock)

    def see(self, **changes: object) -> str:
        incident = self.responder.detection(detection(**changes))
        assert incident is not None
        self.deliver()
        return incident.incident_id

    def wait(self, minutes: float) -> None:
        """From timer to timer, until so many minutes have passed."""
        end = self.clock.now + timedelta(minutes=minutes)
        while (due := self._next_due()) is not None and due <= end:
            self.clock.now = max(due, self.clock.now)
            self.responder.fire_timers()
            self.deliver()
        self.clock.now = end

    def _next_due(self) -> datetime | None:
        with self.store.reading() as connection:
            due_ms = connection.execute(select(func.min(tables.timers.c.due_ms))).scalar()
        return None if due_ms is None else from_epoch_ms(due_ms)

    def deliver(self) -> None:
        box = tables.outbox
        with self.store.reading() as connection:
            rows = connection.execute(select(box.c.effect).where(box.c.kind == "Page")).scalars()
            pages = [json.loads(row) for row in rows]
            commands = due(connection, epoch_ms(self.clock()))
        for command in commands:
            self.responder.published(command, 10**9)
        for each in pages:
            given = PageOutcome(each["page"], each["channel"], Delivered("C", "1"), 1, 10_000)
            self.store.transact(
                lambda connection, given=given, each=each: self.responder.decided(  # type: ignore[misc]
                    connection, given, each["incident_id"]
                )
            )

    def of(self, incident_id: str) -> Incident:
        with self.store.reading() as connection:
            folded = fold(events_of(connection, incident_id))
        assert folded is not None
        return folded

    def pages(self, incident_id: str) -> list[tuple[str, str]]:
        return list(self.of(incident_id).pages)

    def timers(self) -> set[str]:
        with self.store.reading() as connection:
            return set(connection.execute(select(tables.timers.c.kind)).scalars())


@pytest.fixture
def desk(store: Store, clock: Clock) -> Desk:
    return Desk(store, clock, CHAIN)


def test_who_does_not_answer_is_gone_past_step_by_step_also_after_restarts(desk: Desk) -> None:
    key = desk.see()
    desk.wait(4)
    assert desk.pages(key) == [("opened", "desk")]
    desk.wait(1)
    assert desk.pages(key)[1:] == [("escalated:1", "desk")]
    desk.wait(14)
    assert len(desk.pages(key)) == 2
    desk.wait(1)
    assert desk.pages(key)[2:] == [("escalated:2", "phone")]
    desk.wait(60)
    assert len(desk.pages(key)) == 3
    told = desk.of(key).pages["escalated:1", "desk"].headline
    assert told.startswith("Still nobody on it after 5 min: billing")


def test_the_people_of_a_step_are_called_by_name(desk: Desk) -> None:
    key = desk.see()
    desk.wait(5)
    with desk.store.reading() as connection:
        facts = [event.data for event in events_of(connection, key) if event.type == "page_requested"]
    assert [fact.people for fact in facts] == [[], ["U2"]]  # type: ignore[union-attr]


@pytest.mark.parametrize("how", ["acknowledge", "resolve", "false_alarm"])
def test_an_answer_cancels_the_chain_in_the_same_transaction(desk: Desk, how: str) -> None:
    key = desk.see(suggested=None)
    assert desk.timers() == {"escalate", "late"}
    getattr(actions, how)(desk.responder, key, "alice")
    assert desk.timers() == set()
    desk.wait(30)
    assert len(desk.pages(key)) == 1


def test_who_is_on_it_is_told_that_it_gets_worse_and_not_called_again(desk: Desk) -> None:
    key = desk.see(severity="warning", suggested=None)
    actions.acknowledge(desk.responder, key, "alice")
    desk.see(detection_id="d-2", severity="critical", suggested=None)
    assert desk.pages(key)[1:] == [("raised:critical", "desk")]
    desk.wait(30)
    assert len(desk.pages(key)) == 2


def test_warnings_are_not_escalated_unless_the_policy_says_so(store: Store, clock: Clock) -> None:
    desk = Desk(store, clock, CHAIN)
    key = desk.see(severity="warning", suggested=None)
    desk.wait(30)
    assert len(desk.pages(key)) == 1
    desk = Desk(store, clock, "[escalation]\nseverities = ['warning']\n" + CHAIN)
    key = desk.see(detection_id="d-2", agent="other", session="o", severity="warning", suggested=None)
    desk.wait(6)
    assert len(desk.pages(key)) == 2


NIGHT = "[[quiet_hours]]\nfrom = '22:00'\nto = '06:00'\n"  # it is 3 am


def test_at_night_warnings_wait_and_criticals_do_not(store: Store, clock: Clock) -> None:
    desk = Desk(store, clock, NIGHT)
    warning = desk.see(severity="warning", suggested=None)
    critical = desk.see(detection_id="d-2", agent="other", session="o")
    assert (desk.pages(warning), desk.pages(critical)) == ([], [("opened", "desk")])
    assert desk.of(warning).deferrals["opened"].until == START.replace(hour=6)
    desk.wait(3 * 60 - 1)
    assert desk.pages(warning) == []
    desk.wait(1)
    assert desk.pages(warning) == [("opened", "desk")]
    desk.wait(10)
    assert len(desk.pages(warning)) == 1


def test_a_warning_that_waits_pages_at_once_when_it_becomes_critical_and_not_again_by_day(
    store: Store, clock: Clock
) -> None:
    desk = Desk(store, clock, NIGHT + "[escalation]\nsteps = []")
    key = desk.see(severity="warning", suggested=None)
    desk.wait(10)
    desk.see(detection_id="d-2", suggested=None)
    assert desk.pages(key) == [("raised:critical", "desk")]
    desk.wait(4 * 60)
    assert len(desk.pages(key)) == 1


def test_who_takes_it_before_the_day_is_not_paged_by_day(store: Store, clock: Clock) -> None:
    desk = Desk(store, clock, NIGHT)
    key = desk.see(severity="warning", suggested=None)
    actions.acknowledge(desk.responder, key, "alice")
    desk.wait(4 * 60)
    assert desk.pages(key) == []


def test_a_silence_is_on_the_log_and_pages_when_it_is_over(desk: Desk) -> None:
    done = actions.silence(desk.responder, "default/bill*", "alice", 30, "deploying", "tool_loop")
    assert done.incidents == ()
    key = desk.see()
    other = desk.see(detection_id="d-2", agent="support", session="s-2")
    assert (desk.pages(key), desk.pages(other)) == ([], [("opened", "desk")])
    assert desk.of(key).silenced_until == done.until
    assert desk.of(key).containment == "requested"
    desk.wait(29)
    assert desk.pages(key) == []
    desk.wait(1)
    assert desk.pages(key) == [("opened", "desk")]
    desk.wait(5)
    assert desk.pages(key)[1:] == [("escalated:1", "desk")]


def test_an_open_incident_is_silenced_and_told_again_once(desk: Desk) -> None:
    critical, warning = (
        desk.see(),
        desk.see(detection_id="w", agent="billing-eu", session="e", severity="warning"),
    )
    done = actions.silence(desk.responder, "billing*", "alice", 30)
    assert done.incidents == (critical, warning)
    desk.wait(29)
    assert desk.pages(critical) == desk.pages(warning) == [("opened", "desk")]
    desk.wait(2)
    for key in (critical, warning):
        (again,) = desk.pages(key)[1:]
        assert again[0].startswith("unsilenced:")
    desk.wait(5)
    assert desk.pages(critical)[2:] == [("escalated:1", "desk")]


def test_a_silence_that_is_over_wakes_nobody_who_is_on_it(desk: Desk) -> None:
    key = desk.see()
    actions.silence(desk.responder, key, "alice", 30)
    actions.acknowledge(desk.responder, key, "alice")
    desk.wait(60)
    assert desk.pages(key) == [("opened", "desk")]


def test_a_silence_of_the_policy_ends_when_it_says(store: Store, clock: Clock) -> None:
    desk = Desk(store, clock, "[[silence]]\nagents = ['billing']\nuntil = 2026-03-01T03:10:00Z\n")
    key = desk.see()
    desk.wait(9)
    assert desk.pages(key) == []
    desk.wait(1)
    assert desk.pages(key) == [("opened", "desk")]


@pytest.mark.parametrize(
    ("what", "minutes", "says"),
    [("billing", 0, "minutes"), ("a/b/c", 5, "session"), ("INC-AAAAAAAAAA", 5, "no such incident")],
)
def test_a_silence_that_cannot_be_is_refused_in_one_line(
    desk: Desk, what: str, minutes: float, says: str
) -> None:
    with pytest.raises(ActionRefused, match=says):
        actions.silence(desk.responder, what, "alice", minutes)


def test_a_channel_that_does_not_take_a_page_in_time_is_gone_around(store: Store, clock: Clock) -> None:
    desk = Desk(store, clock, "[paging]\nfallback = 'phone'")
    incident = desk.responder.detection(detection(suggested=None))
    assert incident is not None
    key = incident.incident_id
    clock.pass_seconds(30)
    desk.responder.fire_timers()
    assert desk.pages(key) == [("opened", "desk")]
    clock.pass_seconds(11)
    desk.responder.fire_timers()
    assert desk.pages(key) == [("opened", "desk"), ("opened", "phone")]
    clock.pass_seconds(100)
    desk.responder.fire_timers()
    assert len(desk.pages(key)) == 2
    assert desk.of(key).pages["opened", "desk"].state == "requested"


def test_a_channel_that_fails_for_good_is_replaced_at_once(store: Store, clock: Clock) -> None:
    desk = Desk(store, clock, "[paging]\nfallback = 'phone'")
    incident = desk.responder.detection(detection())
    assert incident is not None
    failed = PageOutcome("opened", "desk", Permanent("invalid_auth"), 1)
    for _ in range(2):
        store.transact(lambda c: desk.responder.decided(c, failed, incident.incident_id))
    assert desk.pages(incident.incident_id) == [("opened", "desk"), ("opened", "phone")]


ASK = "[containment]\nrules = []\napproval_minutes = 10\n"


def test_an_approval_is_asked_for_on_the_page_and_done_once_after_any_restart(
    store: Store, clock: Clock
) -> None:
    desk = Desk(store, clock, ASK)
    key = desk.see()
    assert desk.of(key).containment == "none"
    desk.wait(5)
    actions.approve(desk.responder, key, "alice", "default/billing/s-1")
    (held,) = desk.of(key).containments.values()
    assert (held.state, held.wanted, held.awaited) == ("requested", HALT, False)
    with pytest.raises(ActionRefused, match="nothing that waits"):
        actions.approve(desk.responder, key, "bob")
    desk.wait(20)
    with store.reading() as connection:
        types = [event.type for event in events_of(connection, key)]
    assert types.count("containment_requested") == 1
    assert "containment_unanswered" not in types


def test_a_time_out_is_no_denial(store: Store, clock: Clock) -> None:
    desk = Desk(store, clock, ASK)
    key = desk.see()
    desk.wait(30)
    (asked,) = desk.of(key).containments.values()
    assert asked.unanswered_at == START + timedelta(minutes=10)
    assert asked.denied_at is None
    actions.approve(desk.responder, key, "alice")
    assert desk.of(key).containment == "requested"


def test_a_time_out_denies_when_the_policy_says_so(store: Store, clock: Clock) -> None:
    desk = Desk(store, clock, ASK + "unanswered = 'deny'")
    key = desk.see()
    desk.wait(10)
    (asked,) = desk.of(key).containments.values()
    assert (asked.unanswered_at, asked.denied_by) == (asked.denied_at, "watchkeeper")
    with pytest.raises(ActionRefused, match="watchkeeper has denied it"):
        actions.approve(desk.responder, key, "alice")


def test_a_denial_stands_until_more_is_asked(store: Store, clock: Clock) -> None:
    desk = Desk(store, clock, ASK)
    slower = {"mode": "throttle", "calls_per_minute": 5}
    key = desk.see(suggested=slower)
    actions.deny(desk.responder, key, "alice", "it is a test")
    with pytest.raises(ActionRefused, match="alice has denied it already"):
        actions.deny(desk.responder, key, "bob")
    desk.see(detection_id="d-2", detector="budget", suggested=slower)
    assert not next(iter(desk.of(key).containments.values())).awaited
    desk.wait(1)
    desk.see(detection_id="d-3", detector="fan_out")
    (asked,) = desk.of(key).containments.values()
    assert (asked.awaited, asked.proposal) == (True, HALT)
    assert [page for page, _ in desk.pages(key) if page.startswith("approval:")]


def test_less_done_by_itself_leaves_the_question_of_more(store: Store, clock: Clock) -> None:
    desk = Desk(store, clock, "[[containment.rules]]\ntrust = 'automatic'\nmodes = ['throttle']\n")
    key = desk.see()
    desk.see(detection_id="d-2", detector="budget", suggested={"mode": "throttle", "calls_per_minute": 5})
    (held,) = desk.of(key).containments.values()
    assert (held.state, held.awaited, held.proposal) == ("requested", True, HALT)
    actions.approve(desk.responder, key, "alice")
    (held,) = desk.of(key).containments.values()
    assert (held.wanted.mode, held.wanted.calls_per_minute) == ("halt", 5)


def test_times_are_folded_as_they_were(desk: Desk) -> None:
    key = desk.see()
    desk.wait(21)
    with desk.store.reading() as connection:
        log = events_of(connection, key, START + timedelta(minutes=6))
    then = fold(log)
    assert then is not None
    assert (then.escalations, desk.of(key).escalations) == (1, 2)
    assert isinstance(then.escalating_since, datetime)


def test_what_waits_is_told_although_its_time_is_no_whole_millisecond(
    sqlite_store: Store, clock: Clock
) -> None:
    """A timer that fires before its time finds nothing due, and is gone."""
    clock.now += timedelta(microseconds=400)
    desk = Desk(sqlite_store, clock)
    incident_id = desk.see()
    actions.silence(desk.responder, incident_id, "bob", 5)
    until = clock.now + timedelta(minutes=5)
    for clock.now in (until - timedelta(microseconds=300), until, until + timedelta(milliseconds=1)):
        desk.responder.fire_timers()
    with sqlite_store.reading() as connection:
        incident = fold(events_of(connection, incident_id))
    assert incident is not None
    assert any(page.startswith("unsilenced:") for page, _ in incident.pages)


def silent(desk: Desk) -> list[tuple[str, str]]:
    return [(each.kind, each.what) for each in silences.in_force(desk.responder)]


def test_a_silence_is_ended_early_and_what_it_kept_back_is_told_at_once(desk: Desk) -> None:
    actions.silence(desk.responder, "default/bill*", "alice", 30, "deploying", "tool_loop")
    key = desk.see()
    assert silent(desk) == [("target", "default/bill*")]
    desk.wait(3)
    done = actions.unsilence(desk.responder, "default/bill*", "bob")
    assert done.incidents == (key,)
    desk.deliver()
    assert (silent(desk), desk.pages(key)) == ([], [("opened", "desk")])
    assert desk.of(key).silenced_until is None
    desk.wait(5)
    assert desk.pages(key)[1:] == [("escalated:1", "desk")]
    desk.wait(60)
    assert len([page for page in desk.pages(key) if page[0] == "opened"]) == 1, "not again when it would end"


def test_the_silence_of_one_incident_is_ended_by_its_id(desk: Desk) -> None:
    key = desk.see()
    actions.silence(desk.responder, key, "alice", 30)
    assert silent(desk) == [("incident", key)]
    desk.wait(12)
    assert desk.pages(key) == [("opened", "desk")], "the chain waits too"
    assert actions.unsilence(desk.responder, key.lower(), "bob").incidents == (key,)
    desk.deliver()
    (again,) = desk.pages(key)[1:]
    assert again[0].startswith("unsilenced:")
    desk.wait(4)
    assert len(desk.pages(key)) == 2, "the step counts from the end of the silence"
    desk.wait(1)
    assert desk.pages(key)[2:] == [("escalated:1", "desk")]


def test_a_silence_that_ends_wakes_nobody_who_is_on_it_or_whom_another_keeps_quiet(desk: Desk) -> None:
    key = desk.see()
    first = actions.silence(desk.responder, "billing", "alice", 30)
    second = actions.silence(desk.responder, "billing*", "alice", 60)
    assert first.silence_id is not None
    actions.unsilence(desk.responder, first.silence_id, "bob")
    desk.wait(31)
    assert (silent(desk), desk.pages(key)) == ([("target", "default/billing*")], [("opened", "desk")])
    actions.acknowledge(desk.responder, key, "alice")
    assert second.silence_id is not None
    actions.unsilence(desk.responder, second.silence_id, "bob")
    desk.wait(60)
    assert desk.pages(key) == [("opened", "desk")]


def test_a_longer_silence_over_it_keeps_back_what_a_shorter_one_no_longer_does(desk: Desk) -> None:
    long = actions.silence(desk.responder, "billing*", "alice", 60)
    key = desk.see()
    short = actions.silence(desk.responder, key, "alice", 30)
    assert (long.silence_id is not None, short.silence_id) == (True, None)
    desk.wait(1)
    actions.unsilence(desk.responder, key, "bob")
    desk.deliver()
    assert desk.pages(key) == []
    actions.unsilence(desk.responder, "billing*", "bob")
    desk.deliver()
    assert len(desk.pages(key)) == 1


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("billing", "watchkeeper silences"),
        ("sil-000000000000", "watchkeeper silences"),
        ("INC-AAAAAAAAAA", "no such incident"),
    ],
)
def test_what_is_not_silent_cannot_be_ended(desk: Desk, what: str, says: str) -> None:
    with pytest.raises(ActionRefused, match=says):
        actions.unsilence(desk.responder, what, "alice")


def test_an_incident_under_a_silence_of_its_agent_says_which_to_end(desk: Desk) -> None:
    done = actions.silence(desk.responder, "billing", "alice", 30)
    key = desk.see()
    with pytest.raises(ActionRefused, match=f"watchkeeper unsilence {done.silence_id}"):
        actions.unsilence(desk.responder, key, "bob")
    with pytest.raises(ActionRefused, match="is not silent"):
        actions.unsilence(desk.responder, desk.see(detection_id="o", agent="other", session="o"), "bob")


def test_silences_of_the_policy_are_listed_and_ended_in_the_policy(store: Store, clock: Clock) -> None:
    desk = Desk(store, clock, "[[silence]]\nagents = ['bill*']\nuntil = 2026-03-01T03:10:00Z\n")
    assert silent(desk) == [("policy", "bill*")]
    key = desk.see()
    with pytest.raises(ActionRefused, match="policy"):
        actions.unsilence(desk.responder, key, "bob")
    clock.pass_seconds(700)
    assert silent(desk) == []
