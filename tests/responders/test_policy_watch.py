"""The policy file is taken while running, whole or not at all; what is under way keeps its time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from config.settings import Settings, SlackSettings
from responders import actions, policy
from responders.channels import opening as channels
from responders.decide import ActionRefused
from responders.handle import Responder
from responders.metrics import POLICY_REFUSED
from responders.policy_watch import PolicyWatch
from responders.service import _follow_policy
from responders.store import projections
from responders.store.event_store import Store
from responders.watched import Watched
from tests.responders.world import Clock, detection


class World:
    def __init__(self, store: Store, folder: Path, text: str = "", **settings: object) -> None:
        self.file = folder / "policy.toml"
        self.writes = 0
        self.write(text)
        self.settings = Settings(policy=self.file, **settings)  # type: ignore[arg-type]
        self.clock = Clock()
        self.store = store
        self.responder = Responder(store, actions.installation_policy(self.settings), self.clock)
        self.watch = PolicyWatch(self.settings)
        self.watch.follow(self.responder)

    def write(self, text: str) -> None:
        """A second later, by the file's own clock."""
        self.writes += 1
        self.file.write_text(text)
        os.utime(self.file, (self.writes, self.writes))


@pytest.fixture
def world(sqlite_store: Store, tmp_path: Path) -> World:
    return World(sqlite_store, tmp_path, "[storm]\npages_a_minute = 7\n")


def pages_a_minute(world: World) -> int:
    return world.responder.policy.storm.pages_a_minute


def test_a_changed_file_counts_from_then_on(world: World) -> None:
    assert world.watch.look() is None
    world.write("[storm]\npages_a_minute = 3\n")
    assert world.watch.look() is not None
    assert pages_a_minute(world) == 3
    assert world.watch.look() is None, "once"
    assert world.responder.policy.paging.channels == ("terminal",), (
        "the installation's channels are filled in"
    )


def test_a_wrong_file_changes_nothing_and_is_said_once_with_line_and_key(world: World) -> None:
    world.write("\n[storm]\npages_a_minute = 0\n")
    with capture_logs() as logged:
        for _ in range(3):
            assert world.watch.look() is None
    (said,) = [entry["reason"] for entry in logged if entry["log_level"] == "error"]
    assert said.startswith(f"{world.file}:3: storm.pages_a_minute:")
    assert (pages_a_minute(world), world.watch.problem) == (7, said)
    assert POLICY_REFUSED._value.get() == 1
    world.write("[storm]\npages_a_minute = 4\n")
    world.watch.look()
    assert (pages_a_minute(world), world.watch.problem, POLICY_REFUSED._value.get()) == (4, "", 0)


def test_a_channel_that_nobody_has_set_up_refuses_the_file(world: World) -> None:
    world.write("[paging]\nchannels = ['pagerduty:night']\n")
    world.watch.look()
    assert world.responder.policy.paging.channels == ("terminal",)
    assert world.watch.problem.startswith(
        f"{world.file}:2: no channel pagerduty:night is set up: name one of"
    )


def test_a_name_that_no_detector_has_refuses_the_file(world: World) -> None:
    world.write("[storm]\npages_a_minute = 3\n\n[[severity]]\ndetectors = ['tool_lop']\nto = 'info'\n")
    with capture_logs() as logged:
        world.watch.look()
    assert pages_a_minute(world) == 7, "the last good policy stays"
    assert world.watch.problem == (
        f"{world.file}:5: severity.0.detectors: there is no detector 'tool_lop': did you mean 'tool_loop'?"
    )
    assert [entry["reason"] for entry in logged] == [world.watch.problem]
    with pytest.raises(policy.PolicyError, match="did you mean 'tool_loop'"):
        actions.installation_policy(world.settings)


def test_a_file_that_is_gone_or_half_written_changes_nothing(world: World) -> None:
    world.file.unlink()
    with capture_logs() as logged:
        assert [world.watch.look() for _ in range(3)] == [None] * 3
    assert [entry["log_level"] for entry in logged] == ["error"]
    assert "cannot be read" in world.watch.problem
    world.write("[storm]\npages_a_")
    assert world.watch.look() is None
    assert "not TOML" in world.watch.problem
    assert pages_a_minute(world) == 7
    world.write("[storm]\npages_a_minute = 7\n")
    assert world.watch.look() is not None
    assert world.watch.problem == ""


def test_a_touched_file_is_no_new_one_and_being_asked_takes_it_anyway(world: World) -> None:
    world.write("[storm]\npages_a_minute = 7\n")
    assert world.watch.look() is None
    assert world.watch.look(even_if_unchanged=True) is not None


def test_without_a_file_there_is_nothing_to_look_at(sqlite_store: Store) -> None:
    watch = PolicyWatch(Settings())
    assert watch.look() is None
    assert watch.look(even_if_unchanged=True) is None


async def test_slacks_channels_of_a_new_policy_are_opened(sqlite_store: Store, tmp_path: Path) -> None:
    slack = SlackSettings(bot_token=SecretStr("xoxb-1"), channel="#agents")
    world = World(sqlite_store, tmp_path, slack=slack)
    async with channels.open_channels(world.settings, world.responder.policy) as opened:
        world.watch.tell(opened.follow)
        before = opened["slack:#agents"]
        world.write("[[route]]\nchannels = ['slack:#night']\nseverities = ['critical']\n")
        world.watch.look()
        assert {"terminal", "slack:#agents", "slack:#night"} <= set(opened)
        assert opened["slack:#agents"] is before


def test_decisions_go_by_the_new_policy_and_deadlines_by_the_time_they_were_given(world: World) -> None:
    asking = "[containment]\notherwise = 'approve'\nrules = []\napproval_minutes = {}\n"
    world.write(asking.format(15))
    world.watch.look()
    first = world.responder.detection(detection())
    assert first is not None
    world.write(asking.format(60) + "[escalation]\nsteps = []\n")
    world.watch.look()
    world.clock.pass_seconds(15 * 60)
    world.responder.fire_timers()
    view = projections.incident(world.store, first.incident_id)
    (asked,) = view.containments
    assert asked.unanswered_at == first.opened_at + timedelta(minutes=15)
    second = world.responder.detection(detection("d-2", agent="other", session="o"))
    assert second is not None
    world.clock.pass_seconds(16 * 60)
    world.responder.fire_timers()
    (later,) = projections.incident(world.store, second.incident_id).containments
    assert later.unanswered_at is None
    assert view.escalations == 0, "a chain that is no more calls nobody"


def test_a_page_that_may_take_longer_by_the_new_policy_is_still_gone_around(world: World) -> None:
    waiting = "[paging]\nundelivered_after_seconds = {}\nfallback = 'terminal'\n"
    world.responder.policy = policy.parse(waiting.format(40)).with_channels("desk")
    incident = world.responder.detection(detection(suggested=None))
    assert incident is not None
    world.responder.policy = policy.parse(waiting.format(90)).with_channels("desk")

    def told() -> list[str]:
        return [page.channel for page in projections.incident(world.store, incident.incident_id).pages]

    for seconds, expected in ((40, ["desk"]), (49, ["desk"]), (1, ["desk", "terminal"])):
        world.clock.pass_seconds(seconds)
        world.responder.fire_timers()
        assert told() == expected


async def test_it_is_looked_at_by_itself_and_at_once_when_asked(world: World) -> None:
    stop, look = asyncio.Event(), asyncio.Event()
    task = asyncio.ensure_future(_follow_policy(stop, world.watch, look))
    await asyncio.sleep(0.1)
    world.write("[storm]\npages_a_minute = 5\n")
    look.set()
    await _until(lambda: pages_a_minute(world) == 5)
    stop.set()
    await asyncio.wait_for(task, 60)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a file's change has no event
            await asyncio.sleep(0.01)


def test_roles_of_the_new_policy_hold(world: World) -> None:
    with pytest.raises(ActionRefused):
        actions.acknowledge(world.responder, "INC-AAAAAAAAAA", "alice")
    before = world.responder.policy.roles
    world.write("[roles.oncall]\npeople = ['U1']\nmay = ['halt']\n")
    if world.watch.look() is None:
        pytest.fail(world.watch.problem)
    assert world.responder.policy.roles != before


def test_a_part_is_told_of_when_it_has_failed_for_long_and_when_it_works_again() -> None:
    now = [0.0]
    part = Watched(15, lambda: now[0])
    told = []
    for second, works in enumerate([False] * 10 + [True] * 5 + [False] * 20 + [True] * 3):
        now[0] = float(second)
        if (turn := part.see(works=works)) is not None:
            told.append((second, turn))
    assert told == [(10, "works"), (29, "fails"), (35, "works")]


def test_who_was_frozen_says_of_no_part_that_it_failed_meanwhile() -> None:
    now = [0.0]
    part = Watched(15, lambda: now[0])
    told = []
    for second in (*range(5), *range(65, 85)):
        now[0] = float(second)
        told.append(part.see(works=second < 5))
    assert told.index("fails") == 5 + 15
