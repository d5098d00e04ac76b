"""One cause, one incident, one page a transition: for any order and any number of redeliveries."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from responders import decide as d
from responders.containment import combine, scope_of
from responders.decider.correlation import grouping_keys
from responders.effects import (
    Delivered,
    Effect,
    Hold,
    Page,
    Permanent,
    PublishIncidentEvents,
    Release,
    SetTimer,
    ShowPicture,
)
from responders.effects import UpdatePage as Update
from responders.incident import SEVERITIES, Incident
from responders.pages.about import about_of
from responders.policy import DEFAULT, ContainmentPolicy, ContainmentRule, Policy
from schemas.control import ControlAck, ControlState, Target
from schemas.detection import Detection
from tests.responders.world import HALT, START, Clock, CountingIds, detection

E = TypeVar("E", bound=Effect)
POLICY = DEFAULT.with_channels("desk")
TARGET = Target(agent="billing", session="s-1")


@dataclass
class Desk:
    """The decider with a memory: what the store does, in a dictionary."""

    policy: Policy = POLICY
    clock: Clock = field(default_factory=Clock)
    ids: CountingIds = field(default_factory=CountingIds)
    incidents: dict[str, Incident] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)

    def give(self, given: d.Input, incident_id: str | None) -> d.Decision:
        before = self.incidents.get(incident_id) if incident_id else None
        decision = d.decide(given, before, self.policy, self.clock(), self.ids)
        if decision.incident is not None:
            self.incidents[decision.incident.incident_id] = decision.incident
        self.effects += decision.effects
        return decision

    def see(self, seen: Detection) -> d.Decision:
        keys = grouping_keys(seen.tenant, seen.agent, seen.session)
        known = next((self.keys[key] for key in keys if key in self.keys), None)
        decision = self.give(d.DetectionSeen(seen), known)
        if decision.incident is not None:
            for key in keys:
                self.keys.setdefault(key, decision.incident.incident_id)
        return decision

    @property
    def only(self) -> Incident:
        (incident,) = self.incidents.values()
        return incident

    def of(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]


def ack(epoch: int, result: str = "applied", target: Target = TARGET) -> d.AckSeen:
    answer = ControlAck(
        command_id="cmd-1",
        epoch=epoch,
        agent=target.agent,
        session=target.session,
        enforcement_point="gate-1",
        result=result,
        reason="bad_signature" if result == "refused" else None,
        time=START,
    )
    return d.AckSeen(answer, target)


seen_detections = st.builds(
    lambda number, agent, session, severity, detector: detection(
        f"d-{number}-{agent}-{session}-{severity}-{detector}",
        agent=agent,
        session=session,
        severity=severity,
        detector=detector,
    ),
    number=st.integers(0, 30),
    agent=st.sampled_from(["a", "b", "c"]),
    session=st.sampled_from([None, "s-1", "s-2"]),
    severity=st.sampled_from(SEVERITIES),
    detector=st.sampled_from(["tool_loop", "ping_pong", "budget"]),
)


@given(st.lists(seen_detections, max_size=30))
@settings(max_examples=150, deadline=None)
def test_no_key_has_two_open_incidents_and_no_transition_two_pages(seen: list[Detection]) -> None:
    desk = Desk()
    for each in seen:
        desk.see(each)
    pages = Counter((page.incident_id, page.page, page.channel) for page in desk.of(Page))
    assert all(count == 1 for count in pages.values())
    for incident in desk.incidents.values():
        raises = Counter(name for (name, _) in incident.pages)
        assert raises["opened"] == 1
        assert sum(raises.values()) <= 1 + ("raised:critical" in raises)
    severe = {each.agent for each in seen if each.severity != "info"}
    assert severe <= {agent for incident in desk.incidents.values() for agent in incident.agents}


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=25).flatmap(st.permutations),
    st.sampled_from(["warning", "critical"]),
)
@settings(max_examples=100, deadline=None)
def test_any_order_and_duplicates_of_one_cause_give_one_page(order: list[int], severity: str) -> None:
    desk = Desk()
    for number in order:
        desk.see(detection(f"d-{number}", agent=f"agent-{number % 2}", severity=severity))
    assert len(desk.of(Page)) == 1
    assert desk.only.severity == severity


@given(st.lists(seen_detections, max_size=30))
@settings(max_examples=50, deadline=None)
def test_epochs_of_a_target_grow(seen: list[Detection]) -> None:
    desk = Desk()
    for each in seen:
        desk.see(each)
    last: dict[str, int] = {}
    for effect in desk.of(Hold):
        scope = scope_of(effect.target)
        assert effect.epoch > last.get(scope, 0)
        last[scope] = effect.epoch


@given(st.lists(seen_detections, min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_everything_decided_is_published_without_a_gap(seen: list[Detection]) -> None:
    desk = Desk()
    for each in seen:
        desk.see(each)
    covered: dict[str, int] = {}
    for effect in desk.of(PublishIncidentEvents):
        assert effect.first == covered.get(effect.incident_id, 0) + 1
        covered[effect.incident_id] = effect.last
    assert covered == {key: incident.version for key, incident in desk.incidents.items()}


def test_info_opens_nothing_and_pages_nobody() -> None:
    assert Desk().see(detection(severity="info")) == d.Decision(None)


def test_a_raised_severity_pages_once_more() -> None:
    desk = Desk()
    for number, severity in enumerate(["warning", "critical", "warning", "critical"]):
        desk.see(detection(f"d-{number}", severity=severity))
    assert [page.page for page in desk.of(Page)] == ["opened", "raised:critical"]


def test_a_session_critical_is_halted_at_once_with_a_deadline_for_the_answer() -> None:
    desk = Desk()
    desk.see(detection())
    (hold,) = desk.of(Hold)
    assert (hold.target, hold.state, hold.role, hold.epoch) == (TARGET, HALT, "engine", 1)
    (timer,) = [each for each in desk.of(SetTimer) if each.kind == "confirm"]
    assert timer.due > desk.clock()


def test_what_is_wanted_already_is_not_ordered_again() -> None:
    desk = Desk()
    desk.see(detection("d-1"))
    desk.see(detection("d-2", detector="budget"))
    desk.see(detection("d-3", detector="x", suggested=ControlState(mode="throttle", calls_per_minute=1)))
    assert [effect.state for effect in desk.of(Hold)] == [
        HALT,
        combine([HALT, ControlState(mode="throttle", calls_per_minute=1)]),
    ]


@pytest.mark.parametrize("trust", ["shadow", "approve"])
def test_without_trust_it_only_says_what_it_would_do(trust: str) -> None:
    rule = ContainmentRule(trust=trust)
    desk = Desk(policy=POLICY.model_copy(update={"containment": ContainmentPolicy(rules=(rule,))}))
    desk.see(detection())
    assert desk.of(Hold) == []
    assert desk.only.containments[scope_of(TARGET)].proposed == trust
    approving = d.PersonActs("alice", d.Approve())
    if trust == "shadow":
        with pytest.raises(d.ActionRefused):
            desk.give(approving, desk.only.incident_id)
    else:
        desk.give(approving, desk.only.incident_id)
        (hold,) = desk.of(Hold)
        assert hold.role == "operator"


def test_the_proof_goes_from_issued_to_verified_and_the_incident_is_mitigated() -> None:
    desk = Desk()
    key = desk.see(detection()).incident.incident_id
    for given_ in (d.CommandDelivered(TARGET, 1), ack(1), ack(1), d.TimerFired("verify", TARGET, 1)):
        desk.clock.pass_seconds(2)
        desk.give(given_, key)
    held = desk.only.containments[scope_of(TARGET)]
    times = [held.requested_at, held.issued_at, held.delivered_at, held.applied_at, held.verified_at]
    assert all(times)
    assert times == sorted(times)
    assert desk.only.state == "mitigated"
    assert len(desk.of(Page)) == 1


def test_what_was_applied_was_delivered_whoever_noted_it() -> None:
    desk = Desk()
    key = desk.see(detection()).incident.incident_id
    desk.give(ack(1), key)
    held = desk.only.containments[scope_of(TARGET)]
    assert held.delivered_at == held.applied_at == desk.clock()
    assert desk.give(d.CommandDelivered(TARGET, 1), key).events == ()


def test_silence_is_said_on_the_page_and_a_late_answer_still_counts() -> None:
    desk = Desk()
    key = desk.see(detection()).incident.incident_id
    desk.give(d.PageOutcome("opened", "desk", Delivered("C1", "1"), 1, desk.only.version), key)
    desk.give(d.TimerFired("confirm", TARGET, 1), key)
    assert desk.only.containments[scope_of(TARGET)].unconfirmed_at is not None
    assert isinstance(desk.of(Update)[-1], Update)
    desk.give(ack(1), key)
    assert desk.only.containment == "applied"


def test_a_refused_order_pages_and_an_ack_of_an_older_one_is_nothing() -> None:
    desk = Desk()
    key = desk.see(detection()).incident.incident_id
    assert desk.give(ack(0), key).events == ()
    desk.give(ack(1, "refused"), key)
    desk.give(ack(1, "refused"), key)
    assert [page.page for page in desk.of(Page)] == ["opened", "refused:cmd-1"]


def test_disobedience_pages_once_and_undoes_mitigation() -> None:
    desk = Desk()
    key = desk.see(detection()).incident.incident_id
    desk.give(ack(1), key)
    desk.give(d.TimerFired("verify", TARGET, 1), key)
    for number in (7, 8):
        desk.see(detection(f"d-{number}", detector="disobeyed_control", suggested=None))
    assert (desk.only.state, desk.only.containment) == ("triggered", "disobeyed")
    assert [page.page for page in desk.of(Page)] == ["opened", "disobeyed:cmd-1"]


def mitigated(desk: Desk) -> str:
    """An incident that alice is on, and all of whose orders are proved."""
    key = desk.see(detection()).incident.incident_id
    desk.give(d.PersonActs("alice", d.Acknowledge()), key)
    desk.give(ack(1), key)
    desk.give(d.TimerFired("verify", TARGET, 1), key)
    assert (desk.only.state, desk.only.attended) == ("mitigated", True)
    return key


def test_what_needs_a_person_again_is_told_again() -> None:
    """The same agent does it elsewhere, as badly as before: nothing was raised, and nobody was called."""
    desk = Desk()
    mitigated(desk)
    desk.clock.pass_seconds(60)
    desk.see(detection("d-2", session="s-2"))
    assert (desk.only.state, desk.only.attended) == ("triggered", False)
    assert [page.page.partition(":")[0] for page in desk.of(Page)] == ["opened", "again"]
    assert any(timer.kind == "escalate" and timer.due > desk.clock() for timer in desk.of(SetTimer))


def test_only_the_first_page_since_somebody_was_on_it_calls_again() -> None:
    desk = Desk()
    key = mitigated(desk)
    calls = {page: about_of(desk.only, page, None).calls_again for page, _ in desk.only.pages}
    assert calls == {"opened": False}
    desk.clock.pass_seconds(60)
    desk.see(detection("d-2", session="s-2"))
    desk.give(d.TimerFired("escalate", None, 1), key)
    calls = {
        page.partition(":")[0]: about_of(desk.only, page, None).calls_again for page, _ in desk.only.pages
    }
    assert calls == {"opened": False, "again": True, "escalated": False}


def test_what_is_raised_or_disobeyed_is_told_once() -> None:
    desk = Desk()
    mitigated(desk)
    desk.see(detection("d-2", detector="disobeyed_control", suggested=None))
    assert [page.page for page in desk.of(Page)] == ["opened", "disobeyed:cmd-1"]


@pytest.mark.parametrize("proposed", [True, False])
def test_whoever_orders_more_stays_on_it(proposed: bool) -> None:
    desk = Desk()
    key = mitigated(desk)
    if proposed:
        desk.see(detection("d-2", session=None))
    action = d.Approve() if proposed else d.Contain(Target(agent="billing"), HALT, "all of it")
    desk.give(d.PersonActs("bob", action), key)
    assert (desk.only.state, desk.only.attended, desk.only.acknowledged_by) == ("acknowledged", True, "bob")


def test_a_page_that_fails_for_good_goes_to_the_fallback_once() -> None:
    desk = Desk()
    key = desk.see(detection()).incident.incident_id
    failed = d.PageOutcome("opened", "desk", Permanent("invalid_auth"), 1)
    desk.give(failed, key)
    desk.give(failed, key)
    desk.give(d.PageOutcome("opened", "terminal", Permanent("gone"), 1), key)
    assert [page.channel for page in desk.of(Page)] == ["desk", "terminal"]


def test_a_page_that_was_rendered_before_the_latest_news_is_edited() -> None:
    desk = Desk()
    key = desk.see(detection()).incident.incident_id
    current = desk.only.version
    desk.give(d.PageOutcome("opened", "desk", Delivered("C1", "1"), 1, current), key)
    assert desk.of(Update) == []
    stale = Desk()
    key = stale.see(detection()).incident.incident_id
    stale.give(d.PageOutcome("opened", "desk", Delivered("C1", "1"), 1, current - 1), key)
    assert len(stale.of(Update)) == 1


def test_a_page_that_tells_of_a_detection_gets_its_picture_once_delivered() -> None:
    desk = Desk()
    key = desk.see(detection(severity="warning")).incident.incident_id
    desk.see(detection("d-2"))
    desk.see(detection("d-3", detector="disobeyed_control", suggested=None))
    pages = ["opened", "raised:critical", "disobeyed:cmd-1"]
    for page in pages:
        desk.give(d.PageOutcome(page, "desk", Delivered("C1", page), 1, desk.only.version), key)
    assert [(each.page, each.channel) for each in desk.of(ShowPicture)] == [(page, "desk") for page in pages]


def test_a_person_acts_and_acting_twice_is_acting_once() -> None:
    desk = Desk()
    key = desk.see(detection()).incident.incident_id
    desk.give(d.PersonActs("alice", d.Acknowledge()), key)
    assert desk.give(d.PersonActs("bob", d.Acknowledge()), key).events == ()
    assert desk.only.acknowledged_by == "alice"
    desk.give(d.PersonActs("alice", d.Lift(TARGET, "fixed")), key)
    (release,) = desk.of(Release)
    assert (release.role, release.epoch) == ("operator", 2)
    with pytest.raises(d.ActionRefused):
        desk.give(d.PersonActs("alice", d.Lift(TARGET, "fixed")), key)
    desk.give(d.PersonActs("alice", d.MarkFalseAlarm("a test")), key)
    assert desk.only.false_alarm
    with pytest.raises(d.ActionRefused, match="already marked a false alarm by alice"):
        desk.give(d.PersonActs("bob", d.Resolve()), key)


def test_what_was_seen_before_a_person_let_it_run_does_not_stop_it_again() -> None:
    desk = Desk()
    key = desk.see(detection("d-1")).incident.incident_id
    desk.clock.pass_seconds(10)
    desk.give(d.PersonActs("alice", d.Lift(TARGET, "fixed")), key)
    desk.see(detection("d-2", detector="budget"))
    assert len(desk.of(Hold)) == 1
    desk.clock.pass_seconds(10)
    desk.see(detection("d-3", detector="retry_storm", time=desk.clock()))
    assert len(desk.of(Hold)) == 2


def test_a_halt_by_hand_is_an_incident_of_its_own_that_is_acknowledged() -> None:
    desk = Desk()
    everyone = Target(agent="*")
    desk.give(d.PersonActs("alice", d.Contain(everyone, HALT, "stop it all")), None)
    assert desk.only.state == "acknowledged"
    assert [page.page for page in desk.of(Page)] == ["opened"]
    (hold,) = desk.of(Hold)
    assert (hold.target, hold.role) == (everyone, "operator")
    assert desk.only.summary == "alice ordered every agent to halt: stop it all"
