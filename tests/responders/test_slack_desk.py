"""What is pressed and typed in Slack: done once, by those who may, and said to the person alone."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from responders import actions
from responders.handle import Responder
from responders.incident import Incident
from responders.policy import DEFAULT, Policy, parse
from responders.slack import buttons
from responders.slack.buttons import Pressed
from responders.slack.desk import Desk
from responders.slack.interactions import Answer, Origin, Person, Press, Typed, Workspace
from responders.store import projections, tables
from responders.store.database import StoreError
from responders.store.event_store import Store, current
from tests.responders.world import HALT, Clock, detection

ANA, BOB, OPS = Person("U0ANA", "ana"), Person("U0BOB0000", "bob"), Person("U0OPS", "ops")
HOME = Workspace(team="T1", app="A1")
ORIGIN = Origin(team="T1", user_team="T1", app="A1")
ROLES = """
[paging]
channels = ["slack:#incidents"]

[roles.responder]
people = ["U0BOB0000"]

[roles.operator]
people = ["ops"]
"""
_triggers = (f"trigger-{number}" for number in itertools.count())


@pytest.fixture
def at(sqlite_store: Store, clock: Clock) -> Responder:
    return Responder(sqlite_store, parse(ROLES), clock)


@pytest.fixture
def desk(at: Responder) -> Desk:
    return Desk(at)


def opened(at: Responder, **changes: Any) -> Incident:
    incident = at.detection(detection(**changes))
    assert incident is not None
    return incident


def now(at: Responder, incident: Incident) -> Incident:
    with at.store.reading() as connection:
        found = current(connection, incident.incident_id)
    assert found is not None
    return found


def values(incident: Incident) -> Mapping[str, str]:
    return {each.deed: each.value for row in buttons.shown(incident) for each in row}


def press(
    person: Person, deed: Pressed, value: str, trigger: str | None = None, origin: Origin = ORIGIN
) -> Press:
    return Press(person, origin, trigger or next(_triggers), "", deed, value, ("C1", "1.0"))


def typed(text: str, person: Person = ANA, origin: Origin = ORIGIN) -> Typed:
    return Typed(person, origin, next(_triggers), "", text)


def said(answer: Answer | None) -> str:
    assert answer is not None
    return answer.text


def commands(at: Responder) -> dict[str, str]:
    """What is wanted of each target."""
    rows = projections.agents(at.store)
    return {each.target.key: each.state.mode for row in rows for each in row.commands}


def test_every_button_does_what_it_says_and_the_log_names_the_person(at: Responder, desk: Desk) -> None:
    incident = opened(at, suggested=None)
    shown = values(incident)
    assert "it is yours" in said(desk.answer(press(ANA, "acknowledge", shown["acknowledge"]), HOME))
    assert "ordered to halt" in said(desk.answer(press(ANA, "halt", shown["halt"]), HOME))
    held = now(at, incident)
    assert held.acknowledged_by == "ana (slack:U0ANA)"
    assert commands(at) == {"default/billing/s-1": "halt"}
    resume = values(held)["resume"]
    assert "may run again" in said(desk.answer(press(OPS, "resume", resume), HOME))
    assert commands(at) == {"default/billing/s-1": "run"}
    assert "resolved" in said(desk.answer(press(ANA, "resolve", shown["resolve"]), HOME))
    over = now(at, incident)
    assert (over.state, over.resolved_by) == ("resolved", "ana (slack:U0ANA)")


def test_approve_and_deny(at: Responder, desk: Desk) -> None:
    asked = opened(at, session=None)
    assert "approved" in said(desk.answer(press(BOB, "approve", values(asked)["approve"]), HOME))
    assert commands(at) == {"default/billing": "halt"}
    other = opened(at, detection_id="d-2", agent="support", session=None)
    assert "denied" in said(desk.answer(press(BOB, "deny", values(other)["deny"]), HOME))
    assert "bob (slack:U0BOB0000) said no 0.0 s ago; nothing was done." in said(
        desk.answer(press(BOB, "approve", values(other)["approve"]), HOME)
    )
    assert "default/support" not in commands(at)


@pytest.mark.parametrize(
    ("deed", "anyone", "responder", "operator"),
    [
        ("acknowledge", True, True, True),
        ("halt", True, True, True),
        ("resolve", True, True, True),
        ("false_alarm", True, True, True),
        ("approve", False, True, True),
        ("deny", False, True, True),
        ("resume", False, False, True),
    ],
)
def test_who_may_press_what(
    at: Responder, desk: Desk, deed: Pressed, anyone: bool, responder: bool, operator: bool
) -> None:
    for number, (person, may) in enumerate(((ANA, anyone), (BOB, responder), (OPS, operator))):
        asks = deed in ("approve", "deny")
        session = None if asks or deed == "halt" else f"s-{number}"
        suggested = None if deed == "halt" else HALT
        about = {"agent": f"a-{number}", "session": session, "suggested": suggested}
        incident = opened(at, detection_id=f"d-{number}", **about)
        answer = said(desk.answer(press(person, deed, values(incident)[deed]), HOME))
        after = now(at, incident)
        assert (after.version > incident.version) == may
        assert answer.startswith("You may not") != may
        if not may:
            assert "operator (ops)" in answer
            assert ("responder (<@U0BOB0000>)" in answer) == responder


def test_a_policy_without_people_says_so(sqlite_store: Store, clock: Clock) -> None:
    at = Responder(sqlite_store, DEFAULT, clock)
    incident = opened(at)
    answer = said(Desk(at).answer(press(ANA, "resume", values(incident)["resume"]), HOME))
    assert answer == (
        "You may not let an agent run again. Who may: operator, but the policy's [roles] name no people for"
        " that: use the command line."
    )


def test_a_stale_press_says_so_and_the_message_is_brought_up_to_date(at: Responder, desk: Desk) -> None:
    incident = opened(at)
    shown = values(incident)
    actions.resolve(at, incident.incident_id, "ana <here>")
    at.clock.pass_seconds(600)  # type: ignore[attr-defined]
    with at.store.reading() as connection:
        before = connection.execute(select(tables.outbox.c.effect_key)).scalars().all()
    place(at, incident)
    for _ in range(2):
        for deed in ("acknowledge", "halt", "resolve", "false_alarm"):
            answer = said(desk.answer(press(ANA, deed, shown[deed]), HOME))
            assert answer == (
                f"{incident.incident_id}: it was resolved by ana &lt;here&gt; 10 min ago; nothing was done."
            )
    with at.store.reading() as connection:
        rows = connection.execute(select(tables.outbox.c.effect_key, tables.outbox.c.kind)).all()
        digest = connection.execute(select(tables.messages.c.digest)).scalar_one()
    edits = [row.effect_key for row in rows if row.kind == "UpdatePage" and row.effect_key not in before]
    assert len(edits) == 1
    assert digest == ""


def place(at: Responder, incident: Incident) -> None:
    """The incident's page stands in the channel."""
    values_ = {
        "incident_id": incident.incident_id,
        "page": "opened",
        "channel": "slack:#incidents",
        "conversation": "C1",
        "message": "1.0",
        "digest": "as it was",
    }
    at.store.transact(lambda connection: connection.execute(tables.messages.insert().values(**values_)))


def test_an_edit_that_was_made_is_made_once_more(at: Responder, desk: Desk) -> None:
    incident = opened(at)
    actions.resolve(at, incident.incident_id, "ana")
    place(at, incident)
    desk.answer(press(ANA, "halt", values(incident)["halt"]), HOME)
    box = tables.outbox

    def done(connection: Any) -> None:
        connection.execute(box.update().where(box.c.kind == "UpdatePage").values(status="done"))

    at.store.transact(done)
    desk.answer(press(ANA, "halt", values(incident)["halt"]), HOME)
    with at.store.reading() as connection:
        rows = connection.execute(select(box.c.status).where(box.c.kind == "UpdatePage")).scalars().all()
    assert list(rows) == ["pending"]


def test_twice_is_once(at: Responder, desk: Desk) -> None:
    incident = opened(at, suggested=None)
    once = press(ANA, "halt", values(incident)["halt"], trigger="t-1")
    assert "ordered to halt" in said(desk.answer(once, HOME))
    version = now(at, incident).version
    assert desk.answer(once, HOME) is None  # Slack brought it twice
    again = said(desk.answer(replace(once, trigger="t-2"), HOME))  # a second press, before the edit came
    assert "was ordered to halt 0.0 s ago already; nothing was done." in again
    elsewhere = said(Desk(at).answer(once, HOME))  # another process, which has not seen it
    assert "nothing was done" in elsewhere
    assert now(at, incident).version == version


@pytest.mark.parametrize(
    "origin",
    [
        replace(ORIGIN, team="T2"),
        replace(ORIGIN, user_team="T2"),
        replace(ORIGIN, app="A2"),
        replace(ORIGIN, team="T2", enterprise="E2"),
    ],
)
def test_another_workspace_or_app_is_refused(at: Responder, desk: Desk, origin: Origin) -> None:
    incident = opened(at)
    answer = desk.answer(press(OPS, "resume", values(incident)["resume"], origin=origin), HOME)
    assert "nothing was done" in said(answer)
    assert "nothing was done" in said(desk.answer(typed("halt --all", origin=origin), HOME))
    assert now(at, incident).version == incident.version


def test_a_whole_organisation_is_one_workspace_and_what_is_not_known_is_not_compared() -> None:
    grid = Workspace(team="T1", enterprise="E1")
    assert not grid.is_foreign(Origin(team="T9", user_team="T8", enterprise="E1"))
    assert grid.is_foreign(Origin(team="T9", enterprise="E2"))
    assert not Workspace().is_foreign(Origin(team="T9", app="A9"))
    assert not HOME.is_foreign(Origin())


@pytest.mark.parametrize(
    "value",
    ["", ":", "::", "INC-AAAAAAAAAA::", "x:y:z", "INC-A\n::", "'; drop table incidents; --::", "\u0000::"],
)
def test_a_value_that_was_made_up_does_nothing(at: Responder, desk: Desk, value: str) -> None:
    incident = opened(at)
    for deed in ("halt", "resume", "approve", "resolve"):
        answer = said(desk.answer(press(OPS, deed, value), HOME))
        assert "nothing was done" in answer or "there is no incident" in answer
        assert "<" not in answer
    assert now(at, incident).version == incident.version


def test_a_store_that_does_not_answer_is_said_and_may_be_tried_again(
    at: Responder, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    incident = opened(at, suggested=None)
    once = press(ANA, "halt", values(incident)["halt"], trigger="t-1")

    def gone(*_: object) -> None:
        raise StoreError("no answer from db.example")

    with monkeypatch.context() as patched:
        patched.setattr(at, "choose", gone)
        assert "Not done: the incident store does not answer" in said(desk.answer(once, HOME))
    assert "ordered to halt" in said(desk.answer(once, HOME))


@pytest.mark.parametrize(
    ("text", "mode", "of"),
    [
        ("halt billing it's looping", "halt", "default/billing"),
        ("halt acme/billing/s-1", "halt", "acme/billing/s-1"),
        ("halt --all the building burns", "halt", "default/*"),
        ("halt —all --tenant acme", "halt", "acme/*"),
        ('halt "my agent" it\'s looping', "halt", "default/my agent"),
        ("halt “my agent” it’s looping", "halt", "default/my agent"),
        ("halt 'my agent' don't ask", "halt", "default/my agent"),
        ("halt ana's-agent it's the one", "halt", "default/ana's-agent"),
        ("halt billing it's \"broken", "halt", "default/billing"),
        ("halt default/all", "halt", "default/all"),
    ],
)
def test_anyone_may_stop_with_one_command(at: Responder, desk: Desk, text: str, mode: str, of: str) -> None:
    assert "ordered to halt" in said(desk.answer(typed(text), HOME))
    (row,) = projections.incidents(at.store)
    view = projections.incident(at.store, row.incident_id)
    assert [(each.target.key, each.wanted.mode) for each in view.containments] == [(of, mode)]
    assert view.opened_by.name == "ana (slack:U0ANA)"


def test_what_is_typed_about_an_incident(at: Responder, desk: Desk) -> None:
    incident = opened(at, session=None)
    name = incident.incident_id.lower()
    assert "is yours" in said(desk.answer(typed(f"ack {name}"), HOME))
    assert "You may not approve" in said(desk.answer(typed(f"approve {name}"), HOME))
    assert "is approved" in said(desk.answer(typed(f"approve {name}", BOB), HOME))
    assert "has nothing that waits" in said(desk.answer(typed(f"deny {name} no", BOB), HOME))
    assert "You may not step" in said(desk.answer(typed("degrade billing rag"), HOME))
    assert "is not a level" in said(desk.answer(typed("degrade billing down", BOB), HOME))
    assert "to step down to rag" in said(desk.answer(typed("degrade billing rag slow", BOB), HOME))
    assert "You may not let" in said(desk.answer(typed("resume billing", BOB), HOME))
    assert "default/billing may run again" in said(desk.answer(typed("resume billing", OPS), HOME))
    assert "pages nobody until" in said(desk.answer(typed(f"silence {name} 30 noisy"), HOME))
    assert "`/watchkeeper unsilence support`" in said(desk.answer(typed("silence support 30"), HOME))
    assert "support pages again" in said(desk.answer(typed("unsilence support"), HOME))
    assert "no silence of support is in force" in said(desk.answer(typed("unsilence support"), HOME))
    assert f"{name} pages again" in said(desk.answer(typed(f"unsilence {name}"), HOME))
    assert "is a false alarm" in said(desk.answer(typed(f"false-alarm {name} a test"), HOME))
    over = now(at, incident)
    assert (over.false_alarm, over.resolution) == (True, "a test")
    assert "already marked a false alarm" in said(desk.answer(typed(f"resolve {name}"), HOME))


def test_what_is_closed_says_what_it_holds_still(at: Responder, desk: Desk) -> None:
    assert "is ordered to halt" in said(desk.answer(typed("halt acme/shop — it loops"), HOME))
    (row,) = projections.incidents(at.store)
    assert row.headline.endswith("ordered shop to halt: it loops")
    without_prefix = row.incident_id.removeprefix("INC-")
    closed = said(desk.answer(typed(f"resolve {without_prefix}"), HOME))
    assert closed.endswith(
        "is resolved. shop stays held until somebody types `/watchkeeper resume acme/shop`."
    )


def test_resume_says_what_it_did_not_do(at: Responder, desk: Desk) -> None:
    assert "nothing held default/shpo;" in said(desk.answer(typed("resume default/shpo", OPS), HOME))
    actions.halt_all(at, "ana")
    actions.halt(at, "shop", "ana")
    assert said(desk.answer(typed("resume shop", OPS), HOME)) == (
        "default/shop is let go, but default/* is still held, and it with that: watchkeeper resume"
        " 'default/*'."
    )


def test_status_lists_what_is_open(at: Responder, desk: Desk) -> None:
    assert said(desk.answer(typed("status"), HOME)) == "✅ No incident is open."
    for number in range(14):
        opened(at, detection_id=f"d-{number}", agent=f"<a-{number}>", session=f"s-{number}")
    answer = desk.answer(typed("status"), HOME)
    assert answer is not None
    assert "&lt;a-13&gt; repeats the same call" in answer.text
    assert "and more" in answer.text
    assert len(answer.blocks) == 13
    assert "<a" not in json.dumps(answer.payload())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "`/watchkeeper halt TARGET [reason]` or `/watchkeeper halt --all"),
        ("help", "`/watchkeeper status`"),
        ("frobnicate", "there is no command 'frobnicate' here.\n`/watchkeeper halt"),
        ("hlat billing", "there is no command 'hlat' here. Write `/watchkeeper halt TARGET"),
        ("unsilence", "what is silent is missing. Write `/watchkeeper unsilence TARGET|ID`"),
        ("halt", "the target is missing. Write `/watchkeeper halt TARGET"),
        ("halt billing --all", "it is either 'billing' or --all"),
        ("halt --all --tenant a/b", "--tenant takes a tenant's name"),
        ("degrade billing", "the level is missing"),
        ("silence billing soon", "'soon' is no number of minutes"),
        ("ack", "the incident's id is missing"),
        ("ack INC-1 INC-2", "is one word too many"),
        ("halt a --frobnicate", "unrecognized arguments"),
        ("halt */s/", "Not done:"),
        ('halt "my agent now', "the quotation mark before my is not closed"),
        ("halt — all", "'—' is no target"),
        ("halt all", "every agent is written *, and halt --all stops them"),
        ("halt Everyone it burns", "every agent is written *, and halt --all stops them"),
        ("halt billing-*", "billing-* is a pattern"),
        ("ack <!channel>", "Not done: there is no such incident"),
    ],
)
def test_what_cannot_be_read_is_told_how_it_is_written(
    at: Responder, desk: Desk, text: str, told: str
) -> None:
    answer = said(desk.answer(typed(text), HOME))
    assert told in answer
    assert "<" not in answer
    assert projections.incidents(at.store) == []


def test_who_may_by_name_and_by_id() -> None:
    policy: Policy = parse(ROLES)
    assert policy.roles.may("resume", *OPS.names)
    assert not policy.roles.may("resume", *ANA.names)
    assert policy.roles.who_may("resume") == {"operator": frozenset({"ops"})}
    assert "anyone" in policy.roles.who_may("halt")
    assert Person("U1").signed == "slack:U1"
