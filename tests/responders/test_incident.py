"""The tables decide what may follow; the fold follows them and nothing else."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from responders.incident import CONTAINMENT, LIFECYCLE, IllegalTransition, Incident, apply, diagram, fold
from schemas import incident as log
from schemas.control import Target
from schemas.incident import INCIDENT_EVENT, Fact, IncidentEvent
from tests.responders.world import HALT, START, detection

TARGET = Target(agent="billing", session="s-1")
COMMAND = {"target": TARGET, "epoch": 1}
SAMPLES: dict[str, Fact] = {
    fact.type: fact
    for fact in (
        log.Triggered(tenant="default", agent="billing", severity="warning", onset=START, summary="it loops"),
        log.DetectionJoined(detection=detection()),
        log.SeverityRaised(before="warning", after="critical", detection_id="d-1"),
        log.PageRequested(page="opened", channel="desk", headline="billing loops"),
        log.PageDelivered(page="opened", channel="desk", conversation="C1", message="1", attempts=1),
        log.PageFailed(page="opened", channel="desk", reason="no such channel", attempts=1),
        log.PageDeferred(page="opened", headline="billing loops", reason="storm"),
        log.PageLate(page="opened", channel="desk", waited_ms=1000),
        log.Escalated(step=1, waited_ms=1000),
        log.Silenced(until=START),
        log.SilenceEnded(),
        log.PartFailed(part="channel slack", cause="invalid_auth", reason="invalid_auth"),
        log.KinLinked(kin="INC-0"),
        log.IncidentAbsorbed(consequence="INC-2", agent="support", headline="support is slower"),
        log.IncidentListed(listed="INC-2", severity="warning", agent="support", headline="it is slower"),
        log.Merged(into="INC-3", reason="a consequence"),
        log.ContainmentDenied(target=TARGET, reason="no"),
        log.ContainmentUnanswered(target=TARGET, waited_ms=1000),
        log.ContainmentProposed(target=TARGET, state=HALT, trust="approve", reason="it loops"),
        log.ContainmentRequested(target=TARGET, state=HALT, reason="it loops"),
        log.ContainmentIssued(**COMMAND, command_id="cmd-1"),
        log.ContainmentDelivered(**COMMAND),
        log.ContainmentApplied(**COMMAND, enforcement_point="gate-1", time_applied=START),
        log.ContainmentRefused(**COMMAND, enforcement_point="gate-1", reason="bad_signature"),
        log.ContainmentUndeliverable(**COMMAND, reason="agent.control: TopicAuthorizationFailedError"),
        log.ContainmentUnconfirmed(**COMMAND, waited_ms=1000),
        log.ContainmentVerified(**COMMAND, quiet_ms=1000),
        log.ContainmentDisobeyed(**COMMAND, detection_id="d-2"),
        log.ContainmentResidual(**COMMAND, detection_id="d-3", actions=12, named={"delete_mail": 12}),
        log.ContainmentReleased(**COMMAND, command_id="cmd-2", reason="fixed"),
        log.Acknowledged(),
        log.Mitigated(),
        log.Resolved(),
        log.FalseAlarm(),
        log.Note(text="looking"),
    )
}


def event(version: int, fact: Fact) -> IncidentEvent:
    return IncidentEvent(incident_id="INC-1", version=version, time=START, data=fact)


def opened() -> Incident:
    return apply(None, event(1, SAMPLES["triggered"]))


def test_every_fact_of_the_contract_has_its_place_in_the_tables() -> None:
    union = get_args(get_args(Fact)[0])
    types = {member.model_fields["type"].default for member in union}
    in_tables = {fact for follow in LIFECYCLE.values() for fact in follow}
    of_containment = {fact for follow in CONTAINMENT.values() for fact in follow}
    assert types == set(SAMPLES) == in_tables
    assert of_containment == {fact for fact in types if fact.startswith("containment_")}


def test_every_state_in_the_tables_can_be_reached() -> None:
    for table, start in ((LIFECYCLE, None), (CONTAINMENT, "none")):
        reached, waiting = {start}, [start]
        while waiting:
            for after in table[waiting.pop()].values():
                if after not in reached:
                    reached.add(after)
                    waiting.append(after)
        assert reached == set(table)


@given(st.lists(st.sampled_from(sorted(SAMPLES)), max_size=14))
def test_a_fact_follows_by_the_tables_or_changes_nothing(types: list[str]) -> None:
    incident = opened()
    for fact_type in types:
        before, fact = incident, SAMPLES[fact_type]
        lifecycle = LIFECYCLE[incident.state].get(fact_type)
        held = incident.containment_of(TARGET)
        contained = CONTAINMENT["none" if held is None else held.state].get(fact_type)
        legal = lifecycle is not None and (contained is not None or not fact_type.startswith("containment_"))
        try:
            incident = apply(incident, event(incident.version + 1, fact))
        except IllegalTransition:
            assert incident is before
            page_state = incident.pages.get(("opened", "desk"))
            out_of_turn = fact_type in ("page_requested", "page_delivered", "page_failed") and (
                (page_state is None) != (fact_type == "page_requested")
                or (page_state is not None and page_state.state != "requested")
            )
            if fact_type in ("containment_denied", "containment_unanswered"):
                out_of_turn = held is None or not held.awaited
            assert not legal or out_of_turn
        else:
            assert legal
            assert incident.state == lifecycle
            assert incident.version == before.version + 1
            if contained is not None:
                after = incident.containment_of(TARGET)
                assert after is not None
                assert after.state == contained


@pytest.mark.parametrize("version", [0, 1, 3])
def test_a_version_that_does_not_follow_is_refused(version: int) -> None:
    wrong = event(1, SAMPLES["note"]).model_copy(update={"version": version})
    with pytest.raises(IllegalTransition):
        apply(opened(), wrong)


def test_an_event_of_another_incident_is_refused() -> None:
    with pytest.raises(IllegalTransition):
        apply(opened(), event(2, SAMPLES["note"]).model_copy(update={"incident_id": "INC-2"}))


@pytest.mark.parametrize("fact", SAMPLES.values(), ids=SAMPLES)
def test_an_event_reads_back_as_it_was_written(fact: Fact) -> None:
    written = event(1, fact)
    assert INCIDENT_EVENT.validate_json(written.model_dump_json(by_alias=True, exclude_none=True)) == written


def test_nothing_folds_to_nothing() -> None:
    assert fold([]) is None


def test_the_diagram_shows_every_move_between_states() -> None:
    drawn = diagram()
    assert "[*] --> triggered: triggered" in drawn
    assert "acknowledged --> mitigated: mitigated" in drawn
    assert "mitigated --> triggered: severity_raised, containment_requested, containment_disobeyed" in drawn
    assert "applied --> verified: containment_verified" in drawn
    assert "resolved --> resolved" not in drawn
