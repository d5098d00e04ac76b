"""What a person reads: the page in every state, on the terminal too; and the examples in the docstrings."""

from __future__ import annotations

import asyncio
import doctest
import importlib
import io
import threading
from typing import Any

import pytest
from rich.console import Console

from responders import actions
from responders.channels import terminal
from responders.channels.terminal import TerminalChannel
from responders.effects import Delivered, Permanent
from responders.fake_slack import problem_with
from responders.handle import Responder
from responders.incident import Incident, fold
from responders.pages.page import Message, render
from responders.pages.wording import HAPPENINGS
from responders.policy import DEFAULT
from responders.sender import Outgoing
from responders.store import projections
from responders.store.event_store import Store, events_of
from schemas.control import ControlState
from tests.responders.world import START, Clock, detection


@pytest.fixture
def desk(sqlite_store: Store, clock: Clock) -> Responder:
    return Responder(sqlite_store, DEFAULT.with_channels("desk"), clock)


def shown(message: Message) -> str:
    out = io.StringIO()
    Console(file=out, width=110).print(terminal.panel(message))
    return out.getvalue()


def test_a_page_says_who_what_since_when_what_was_done_and_what_to_type(desk: Responder) -> None:
    incident = desk.detection(detection())
    assert incident is not None
    text = shown(render(incident, "opened", 3))
    for words in (
        "🔴 billing repeats the same call",
        "billing made the same call 5 times in 90 s and learned nothing new.",
        "2026-03-01 02:58:30 UTC (90 s before this page)",
        "identical calls 5, normally 1, limit 5",
        "tool_loop",
        "3 detections",
        "Look at: tool calls and their arguments (tool_loop)",
        "Ordered: billing in session s-1 to halt",
        "docs/runbooks/tool_loop.md",
        f"watchkeeper ack {incident.incident_id}",
        "watchkeeper resume default/billing/s-1",
    ):
        assert words in text


def test_a_page_follows_the_incident_to_its_end(desk: Responder) -> None:
    incident = desk.detection(detection(agent="other agent", suggested=None))
    assert incident is not None
    text = shown(render(incident, "opened"))
    assert "Nothing was stopped." in text
    assert "watchkeeper halt 'default/other agent'" in text
    incident = actions.resolve(desk, incident.incident_id, "alice", "prompt rolled back")
    text = shown(render(incident, "opened"))
    assert "✅" in text
    assert "Resolved by alice" in text
    assert "watchkeeper ack" not in text


def test_what_waits_for_approval_says_how_to_do_it(desk: Responder) -> None:
    incident = desk.detection(detection(session=None))
    assert incident is not None
    text = shown(render(incident, "opened"))
    assert "Waiting for approval: halt billing" in text
    assert f"Allow it: watchkeeper approve {incident.incident_id}" in text
    assert f"Refuse it: watchkeeper deny {incident.incident_id}" in text
    text = shown(render(actions.halt(desk, "billing", "alice"), "opened"))
    assert "Ordered: billing to halt" in text


def test_what_was_asked_and_never_answered_waits_no_more_when_it_is_over(desk: Responder) -> None:
    incident = desk.detection(detection(session=None))
    assert incident is not None
    text = shown(render(actions.resolve(desk, incident.incident_id, "alice"), "opened"))
    assert "Not done: halt billing was asked for, and nobody answered." in text
    assert "Waiting for approval" not in text


def test_a_denied_order_says_who_said_no(desk: Responder) -> None:
    incident = desk.detection(detection(session=None))
    assert incident is not None
    text = shown(render(actions.deny(desk, incident.incident_id, "alice"), "opened"))
    assert "Denied: halt billing, by alice" in text
    assert "watchkeeper approve" not in text


def test_a_digest_lists_what_it_tells_and_a_cause_what_follows_from_it(desk: Responder) -> None:
    for number in range(40):
        desk.detection(detection(f"d-{number}", agent=f"a-{number}", session=f"s-{number}"))
    digest = next(row for row in projections.incidents(desk.store) if row.agent == "*")
    text = shown(render(read(desk, digest.incident_id), "digest:1"))
    assert "30 incidents told together" in text
    assert "16 before these: watchkeeper incidents" in text
    assert "a-39 repeats the same call" in text
    assert "watchkeeper halt" not in text
    fails = {"session": None, "suggested": None, "tenant": "other"}
    part = desk.detection(detection("hit", agent="b", detector="error_rate", **fails))
    cause = desk.detection(detection("cause", agent="*", detector="provider_outage", **fails))
    assert part is not None
    assert cause is not None
    assert f"{part.incident_id} b fails more than it used to" in shown(render(cause, "opened"))
    text = shown(render(read(desk, part.incident_id), "opened"))
    assert f"Part of {cause.incident_id}: go on there." in text


def read(desk: Responder, incident_id: str) -> Incident:
    with desk.store.reading() as connection:
        incident = fold(events_of(connection, incident_id))
    assert incident is not None
    return incident


@pytest.mark.parametrize("detector", sorted(HAPPENINGS))
def test_every_detector_has_a_headline_that_fits(desk: Responder, detector: str) -> None:
    incident = desk.detection(detection(f"d-{detector}", detector=detector))
    assert incident is not None
    message = render(incident, "opened")
    assert HAPPENINGS[detector] in message.text
    assert problem_with({"text": message.text, "blocks": message.blocks}) is None


@pytest.mark.parametrize(
    ("metric", "observed", "words"),
    [
        ("cost_usd", 12.5, "cost $12.50"),
        ("refusal_rate", 0.081, "refusal rate 8.1%"),
        ("steps", 1200.0, "steps 1,200"),
        ("begun_after_halt_ms", 20188.0, "begun after halt 20.2 s"),
    ],
)
def test_figures_are_in_their_units(desk: Responder, metric: str, observed: float, words: str) -> None:
    incident = desk.detection(detection(metric=metric, observed=observed, expected=None, threshold=None))
    assert incident is not None
    assert words in shown(render(incident, "opened"))


def test_a_degrade_says_how_far(desk: Responder) -> None:
    state = ControlState(mode="degrade", ladder="keyword", revoked_tools=["mail"])
    incident = desk.detection(detection(suggested=state))
    assert incident is not None
    assert "to degrade to keyword, without mail" in shown(render(incident, "opened"))


def test_a_name_cannot_steer_the_terminal(desk: Responder) -> None:
    incident = desk.detection(detection(summary="\x1b]0;owned\x07\x1b[2J done [red]x[/red]"))
    assert incident is not None
    text = shown(render(incident, "opened"))
    assert "\x1b" not in text
    assert "[red]x[/red]" in text


def _outgoing(message: Message) -> Outgoing:
    return Outgoing("page:INC-1:opened:terminal", message, START, 1, False, None)


async def test_the_terminal_takes_pages_and_edits(desk: Responder) -> None:
    incident = desk.detection(detection())
    assert incident is not None
    out = io.StringIO()
    channel = TerminalChannel(Console(file=out, width=110))
    message = render(incident, "opened")
    assert isinstance(await channel.send(_outgoing(message)), Delivered)
    assert isinstance(await channel.edit("terminal", "1", message), Delivered)
    assert out.getvalue().count("Ordered: billing") == 2


async def test_a_terminal_that_takes_nothing_is_given_up(
    desk: Responder, monkeypatch: pytest.MonkeyPatch
) -> None:
    incident = desk.detection(detection())
    assert incident is not None
    full = threading.Event()

    class FullPipe(io.StringIO):
        def write(self, _: str) -> int:
            full.wait(60)
            return 0

    monkeypatch.setattr(terminal, "WRITE_TIMEOUT_S", 0.05)
    channel = TerminalChannel(Console(file=FullPipe(), width=110))
    outgoing = _outgoing(render(incident, "opened"))
    assert isinstance(await channel.send(outgoing), Permanent)
    monkeypatch.setattr(terminal, "WRITE_TIMEOUT_S", 3600.0)
    assert isinstance(await asyncio.wait_for(channel.send(outgoing), 60), Permanent), "at once, unasked"
    full.set()


@pytest.mark.parametrize("name", ["containment", "store.outbox", "pages.wording"])
def test_the_examples_in_the_docstrings_hold(name: str) -> None:
    module: Any = importlib.import_module(f"responders.{name}")
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
