"""The buttons of an incident: what is shown can be done at once, and nothing else can be done by pressing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from responders import decide as d
from responders.fake_slack import problem_with
from responders.incident import Incident
from responders.pages.page import render
from responders.policy import DEFAULT, ContainmentPolicy, ContainmentRule, Owner
from responders.slack import buttons, stale
from responders.slack.buttons import Button, Pressed
from responders.slack.desk import action_of
from schemas.control import ControlAck, ControlState, Rung, Target
from tests.responders.world import HALT, START, Clock, CountingIds, detection

ASKS = ContainmentPolicy(rules=(ContainmentRule(agents=frozenset({"*"}), trust="approve"),))
BY_ITSELF = ContainmentPolicy(rules=(ContainmentRule(agents=frozenset({"*"}), trust="automatic"),))
DEEDS: tuple[Pressed, ...] = get_args(Pressed)


@dataclass
class World:
    """One incident, and all that can happen to it."""

    trust: ContainmentPolicy
    clock: Clock = field(default_factory=Clock)
    ids: CountingIds = field(default_factory=CountingIds)
    incident: Incident | None = None
    seen: int = 0

    def give(self, what: d.Input) -> None:
        self.clock.pass_seconds(1)
        policy = DEFAULT.with_channels("slack:#incidents").model_copy(update={"containment": self.trust})
        decision = d.decide(what, self.incident, policy, self.clock(), self.ids)
        self.incident = decision.incident or self.incident

    def detect(self, session: str | None, severity: str, state: ControlState | None) -> None:
        self.seen += 1
        # A resolved incident gets no more: the store opens another one.
        if self.incident is None or self.incident.open:
            changes = {"session": session, "severity": severity, "suggested": state, "time": self.clock()}
            self.give(d.DetectionSeen(detection(f"d-{self.seen}", **changes)))

    def ack(self, number: int, result: str) -> None:
        assert self.incident is not None
        held = [each for each in self.incident.containments.values() if each.epoch is not None]
        if held:
            about = held[number % len(held)]
            fields = {
                "command_id": about.command_id,
                "epoch": about.epoch,
                "agent": about.target.agent,
                "session": about.target.session,
                "enforcement_point": "gate-1",
                "result": result,
                "time": self.clock(),
            }
            self.give(d.AckSeen(ControlAck.model_validate(fields), about.target))

    def timer(self, number: int, kind: str) -> None:
        assert self.incident is not None
        held = list(self.incident.containments.values())
        if held:
            about = held[number % len(held)]
            self.clock.pass_seconds(3600)
            kinds = {"confirm": "confirm", "verify": "verify", "approval": "approval"}
            self.give(d.TimerFired(kinds[kind], about.target, about.epoch or 0))  # type: ignore[arg-type]

    def shown(self) -> list[Button]:
        return [] if self.incident is None else [each for row in buttons.shown(self.incident) for each in row]

    def press(self, deed: Pressed, value: str) -> bool:
        """As the desk does it; whether it counted. Raises ActionRefused only if the decider does."""
        assert self.incident is not None
        button = buttons.find(self.incident, deed, value)
        if button is None:
            return False
        self.give(d.PersonActs("ana", action_of(button)))
        return True


def states(rung: Rung | None) -> ControlState:
    return HALT if rung is None else ControlState(mode="degrade", ladder=rung)


STEP = st.one_of(
    st.tuples(
        st.just("detect"),
        st.sampled_from([None, "s-1", "s-2"]),
        st.sampled_from(["warning", "critical"]),
        st.sampled_from([None, "rag", "static", "halt"]),
    ),
    st.tuples(st.just("ack"), st.integers(0, 3), st.sampled_from(["applied", "refused"])),
    st.tuples(st.just("timer"), st.integers(0, 3), st.sampled_from(["confirm", "verify", "approval"])),
    st.tuples(st.just("press"), st.integers(0, 6)),
    st.tuples(st.just("halt"), st.sampled_from([None, "s-1", "s-9"])),
)


def run(trust: ContainmentPolicy, steps: list[tuple[Any, ...]]) -> tuple[World, list[Button]]:
    """The world after the steps, and every button that was shown on the way."""
    world, ever = World(trust), []
    world.detect("s-1", "critical", HALT)
    for name, *given_ in steps:
        match name, given_:
            case "detect", [session, severity, state]:
                suggested = None if state is None else states(None if state == "halt" else state)
                world.detect(session, str(severity), suggested)
            case "ack", [int(number), result]:
                world.ack(number, str(result))
            case "timer", [int(number), kind]:
                world.timer(number, str(kind))
            case "press", [int(number)] if world.shown():
                button = world.shown()[number % len(world.shown())]
                world.press(button.deed, button.value)
            case "halt", [session] if world.incident is not None and world.incident.open:
                target = Target(agent="billing", session=session)
                world.give(d.PersonActs("bob", d.Contain(target, HALT, "by hand")))
        ever += world.shown()
    return world, ever


@settings(max_examples=100, deadline=None)
@given(trust=st.sampled_from([ASKS, BY_ITSELF]), steps=st.lists(STEP, max_size=14))
def test_what_is_shown_is_accepted_at_once_and_done_once(
    trust: ContainmentPolicy, steps: list[tuple[Any, ...]]
) -> None:
    _, ever = run(trust, steps)
    shown_now = run(trust, steps)[0].shown()
    for button in shown_now:
        world, _ = run(trust, steps)
        assert world.press(button.deed, button.value)
        assert world.incident is not None
        version = world.incident.version
        assert version > 0
        assert not world.press(button.deed, button.value)
        assert world.incident.version == version
    current = {(each.deed, each.value) for each in shown_now}
    world, _ = run(trust, steps)
    assert world.incident is not None
    before = world.incident
    for deed in DEEDS:
        for value in {each.value for each in ever}:
            if (deed, value) not in current:
                assert not world.press(deed, value)
                read = buttons.read(value)
                assert read is not None
                assert stale.why(before, deed, read, world.clock()).endswith("nothing was done.")
    assert world.incident is before


@settings(max_examples=40, deadline=None)
@given(trust=st.sampled_from([ASKS, BY_ITSELF]), steps=st.lists(STEP, max_size=14))
def test_the_page_of_any_state_is_one_that_slack_takes(
    trust: ContainmentPolicy, steps: list[tuple[Any, ...]]
) -> None:
    world, _ = run(trust, steps)
    assert world.incident is not None
    message = render(world.incident, "opened")
    assert problem_with({"text": message.text, "blocks": message.blocks}) is None
    rows = [block for block in message.blocks if block["type"] == "actions"]
    assert all(len(row["elements"]) <= 5 for row in rows)
    assert bool(rows) == world.incident.open
    for element in (each for row in rows for each in row["elements"]):
        assert len(element["value"]) <= 200
        assert element["value"].startswith(world.incident.incident_id)
        assert ("confirm" in element) == element["action_id"].startswith(
            ("watchkeeper.halt", "watchkeeper.resume")
        )


def opened(trust: ContainmentPolicy = ASKS, **changes: Any) -> World:
    world = World(trust)
    world.give(d.DetectionSeen(detection(**changes)))
    return world


def labels(world: World) -> list[list[str]]:
    assert world.incident is not None
    return [[each.label for each in row] for row in buttons.shown(world.incident)]


def test_the_rows_are_in_the_order_of_three_in_the_morning() -> None:
    asked = opened()
    assert labels(asked) == [["Approve", "Deny", "Acknowledge", "Halt session"], ["Resolve", "False alarm"]]
    held = opened(BY_ITSELF)
    assert labels(held) == [["Acknowledge", "Halt billing"], ["Resume", "Resolve", "False alarm"]]
    held.give(d.PersonActs("bob", d.Contain(Target(agent="support"), HALT, "by hand")))
    assert labels(held)[1][:2] == ["Resume support", "Resume billing in session s-1"]
    assert held.press("resume", next(each.value for each in held.shown() if "s-1" in each.label))
    assert labels(held)[1] == ["Resume support", "Resolve", "False alarm"]
    alone = opened(suggested=None, session=None)
    assert labels(alone) == [["Acknowledge", "Halt billing"], ["Resolve", "False alarm"]]
    everyone = opened(suggested=None, session=None, agent="*")
    assert labels(everyone) == [["Acknowledge"], ["Resolve", "False alarm"]]


def test_a_halt_widens_only_when_somebody_reads_so() -> None:
    world = opened(suggested=None)
    (halt,) = [each for each in world.shown() if each.deed == "halt"]
    assert halt.target == Target(agent="billing", session="s-1")
    assert world.press("halt", halt.value)
    assert not world.press("halt", halt.value)
    (wider,) = [each for each in world.shown() if each.deed == "halt"]
    assert wider.target == Target(agent="billing")
    assert wider.question is not None
    assert "Halt billing?" in wider.question.title


def test_a_newer_proposal_is_not_approved_by_an_older_button() -> None:
    world = opened(suggested=ControlState(mode="degrade", ladder="rag"))
    (older,) = [each for each in world.shown() if each.deed == "approve"]
    world.detect("s-1", "critical", HALT)
    assert not world.press("approve", older.value)
    assert world.incident is not None
    read = buttons.read(older.value)
    assert read is not None
    said = stale.why(world.incident, "approve", read, world.clock())
    assert said == (
        "this proposal was replaced; what waits now is: halt billing in session s-1; nothing was done."
    )


def test_an_old_resume_does_not_lift_a_newer_order() -> None:
    world = opened(BY_ITSELF, suggested=ControlState(mode="degrade", ladder="rag"))
    (older,) = [each for each in world.shown() if each.deed == "resume"]
    world.detect("s-1", "critical", HALT)
    assert not world.press("resume", older.value)
    read = buttons.read(older.value)
    assert read is not None
    assert world.incident is not None
    assert "ordered anew" in stale.why(world.incident, "resume", read, world.clock())


def test_what_got_worse_is_read_again_before_it_is_closed() -> None:
    world = opened(severity="warning", suggested=None)
    (older,) = [each for each in world.shown() if each.deed == "resolve"]
    world.detect("s-1", "critical", None)
    assert not world.press("resolve", older.value)


@settings(max_examples=200, deadline=None)
@given(value=st.text(max_size=600), deed=st.sampled_from(DEEDS))
def test_a_made_up_value_is_no_button(value: str, deed: Pressed) -> None:
    incident = opened().incident
    assert incident is not None
    real = {each.value for row in buttons.shown(incident) for each in row}
    assert value in real or buttons.find(incident, deed, value) is None
    read = buttons.read(value)
    assert read is None or read.incident_id


@pytest.mark.parametrize(
    "name", ["<!channel>", "a\n*Resolved by ana*", "x" * 256, "`rm`", "\u202egnillib", "*"]
)
def test_names_from_outside_stay_names(name: str) -> None:
    world = opened(agent=name, session=name, summary=f"{name} loops", runbook=name)
    assert world.incident is not None
    owner = Owner(agents=frozenset({"*"}), owner=name, runbook=f"https://wiki.example/{name}")
    message = render(world.incident, "opened", owner=owner)
    assert problem_with({"text": message.text, "blocks": message.blocks}) is None
    blocks = [each for each in message.blocks if each["type"] not in ("actions", "header")]
    said = json.dumps(blocks, ensure_ascii=False) + message.text
    assert "<!" not in said
    assert "\u202e" not in said
    for block in blocks:
        texts = [block.get("text"), *block.get("fields", ()), *block.get("elements", ())]
        for text in (each["text"] for each in texts if each):
            assert "\n*Resolved by ana*" not in text


@pytest.mark.parametrize("name", ["🦊" * 256, "&" * 256, "<!channel>" * 25, "\u200b" * 256, "\n"])
def test_texts_fit_however_slack_counts_their_characters(name: str) -> None:
    """A fox may be one character or two: a page that Slack does not take reaches nobody."""
    world = opened(BY_ITSELF, agent=name, session=name, summary=(name * 256)[:1024], runbook=name)
    world.give(d.PersonActs(name, d.Contain(Target(agent=name, session=name), HALT, (name * 256)[:1024])))
    assert world.incident is not None
    message = render(world.incident, "opened")
    assert problem_with({"text": message.text, "blocks": message.blocks}) is None
    limits = {"header": 150, "section": 3_000, "button": 75, "title": 100, "text": 300, "field": 2_000}
    for kind, text in texts(message.blocks):
        assert len(text.encode("utf-16-le")) / 2 <= limits[kind], kind


def texts(blocks: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for block in blocks:
        if "text" in block:
            yield block["type"], block["text"]["text"]
        for each in block.get("fields", ()):
            yield "field", each["text"]
        for each in block.get("elements", ()):
            if each["type"] == "button":
                yield "button", each["text"]["text"]
                for part in ("title", "text") if "confirm" in each else ():
                    yield part, each["confirm"][part]["text"]


@pytest.mark.parametrize(
    ("runbook", "shown"),
    [
        ("https://wiki.example/pay?a=1&b=2", "<https://wiki.example/pay?a=1&amp;b=2>"),
        ("see the red folder", "see the red folder"),
        ("javascript:alert(1)", "javascript:alert(1)"),
        ("https://wiki.example/> <!channel", "https://wiki.example/&gt; &lt;!channel"),
    ],
)
def test_the_owners_runbook_is_a_link_when_it_is_an_address(runbook: str, shown: str) -> None:
    incident = opened().incident
    assert incident is not None
    owner = Owner(agents=frozenset({"billing"}), owner="payments", runbook=runbook)
    message = render(incident, "opened", owner=owner)
    (advice,) = [each for each in message.blocks if each.get("block_id") == "advice"]
    assert f"*What to do:* {shown}, or `watchkeeper runbook" in advice["text"]["text"]
    assert any("payments" in each["text"] for block in message.blocks for each in block.get("fields", ()))


def test_the_digest_changes_with_what_the_buttons_are_about() -> None:
    world = opened(BY_ITSELF, suggested=ControlState(mode="degrade", ladder="rag"))
    assert world.incident is not None
    before = render(world.incident, "opened").digest
    world.detect("s-1", "critical", HALT)
    assert render(world.incident, "opened").digest != before
    assert world.clock() > START
