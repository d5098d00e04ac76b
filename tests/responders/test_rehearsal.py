"""What a policy would have done is what it does: the same decisions, without anyone being paged."""

from __future__ import annotations

from datetime import timedelta

from responders import policy
from responders.handle import Responder
from responders.policy import DEFAULT
from responders.policy.explain import explain, supposed
from responders.rehearsal import Outcome, differences, rehearse
from schemas.control import Target
from schemas.detection import Detection
from tests.responders.test_correlation import hit, outage, pages
from tests.responders.world import HALT, START, Clock, detection


def at(minutes: float, detection_id: str, **changes: object) -> Detection:
    moment = START + timedelta(minutes=minutes)
    return detection(detection_id, time=moment, onset=moment, **changes)


RECORDED = [
    at(0, "loop"),
    at(1, "slow", detector="latency", agent="support", session=None, severity="warning", suggested=None),
    at(1, "slow", detector="latency", agent="support", session=None, severity="warning", suggested=None),
    at(2, "told", detector="canary", agent="support", session=None, severity="info", suggested=None),
    at(30, "worse", detector="budget", agent="support", session="s-9"),
]


def test_two_like_policies_do_not_differ_and_one_does_the_same_twice() -> None:
    first, again = rehearse(DEFAULT, RECORDED), rehearse(DEFAULT, RECORDED)
    assert differences(first, again) == []
    assert first.totals() == again.totals() == {"incidents": 2, "pages": 3, "digests": 0, "containments": 2}
    assert first.by_detection["loop"].paging == ["opened to default"]
    assert first.by_detection["loop"].containment == ["halt"]
    assert first.by_detection["slow"].paging == ["later (consequence)", "opened to default"]
    assert first.by_detection["worse"].paging == ["raised to default"]
    assert first.by_detection["told"].paging == []


def test_what_another_policy_changes_is_said_of_each_detection() -> None:
    new = policy.parse(
        """
        [[severity]]
        detectors = ["latency"]
        to = "info"
        [[containment.rules]]
        trust = "shadow"
        agents = ["billing"]
        [[containment.rules]]
        trust = "automatic"
        """
    )
    found = differences(rehearse(DEFAULT, RECORDED), rehearse(new, RECORDED))
    assert [(each.detection.detection_id, each.new.paging, each.new.containment) for each in found] == [
        ("loop", ["opened to default"], ["shadow: halt"]),
        ("slow", [], []),
        ("worse", ["opened to default"], ["halt"]),
    ]


def test_nobody_answering_escalates_and_somebody_answering_ends_it() -> None:
    unanswered = rehearse(DEFAULT, RECORDED[:1], answered_after=None)
    assert unanswered.by_detection["loop"].paging == [
        "opened to default",
        "escalated to default",
        "escalated to default",
    ]
    assert rehearse(DEFAULT, RECORDED[:1]).pages == 1


def test_what_waits_for_the_morning_is_followed_there() -> None:
    nights = policy.parse("[[quiet_hours]]\nfrom = '22:00'\nto = '06:00'")
    rehearsed = rehearse(nights, RECORDED[1:2], None)
    assert rehearsed.by_detection["slow"].paging == ["later (quiet hours)", "opened to default"]


def test_it_is_what_happens_live(responder: Responder, clock: Clock) -> None:
    """The pages of an outage, live and rehearsed."""
    seen = [*(hit(number) for number in range(5)), outage(), *(hit(number) for number in range(5, 9))]
    for each in seen:
        responder.detection(each)
    rehearsed: Outcome = rehearse(DEFAULT, seen)
    assert rehearsed.pages == len(pages(responder)) == 1
    assert rehearsed.by_detection["hit-3"].paging == ["later (consequence)", "with its cause"]
    assert rehearsed.by_detection["hit-7"].paging == []


def test_a_policy_says_what_it_would_do_with_one_detection() -> None:
    rules = policy.parse(
        """
        [[quiet_hours]]
        to = "06:00"
        [[owner]]
        agents = ["support"]
        owner = "care"
        """
    )
    said = explain(rules, supposed("latency", Target(agent="support"), "warning", HALT, START), START)
    assert said["paged"] == "after the quiet hours, at 2026-03-01 06:00 UTC"
    assert (said["owner"], said["containment"]) == ("care", "halt when a person says so")
    assert said["follows from"] == "provider_outage"
    critical = explain(rules, supposed("tool_loop", Target(agent="x"), "critical", None, START), START)
    assert critical["paged"] == "at once"
