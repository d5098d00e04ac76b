"""A state machine drives two responders on one store, and after every step they are what the model says.

What happens is whatever can: detections, answers of gates, people, pages that fail, time, in any order.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from responders import actions, decide, effects, handle, keys, wanted
from responders.containment import RUN, scope_of
from responders.control import signed
from responders.decide import ActionRefused
from responders.decider import detections, people
from responders.effects import Delivered, Outcome, Permanent, Retryable
from responders.handle import DatabaseIds, Responder
from responders.incident import Incident, fold
from responders.incident_log import KafkaIncidentLog
from responders.lifecycle import CONTAINMENT, LIFECYCLE, IllegalTransition
from responders.pages.page import Message
from responders.policy import DEFAULT
from responders.sender import Outgoing, Sender
from responders.store import outbox, projections, tables
from responders.store.database import memory_engine
from responders.store.event_store import Store, current, events_of, projection_of
from responders.store.outbox import LEASE_MS
from responders.store.rebuild import rebuild
from responders.wanted import due
from schemas.base import epoch_ms, from_epoch_ms
from schemas.control import ControlState, Target
from schemas.detection import Detection
from schemas.incident import IncidentEvent, IncidentListed, PageRequested
from tests.reliability.counts import FULL, count
from tests.responders.lifecycle_model import WORSE, Case, Cases, Wish, automatic, both
from tests.responders.world import HALT, Clock, KeptBus, ack_of, detection

RAG = ControlState(mode="degrade", ladder="rag")
STATIC = ControlState(mode="degrade", ladder="static")
SLOW = ControlState(mode="throttle", calls_per_minute=30)
SLOWER = ControlState(mode="throttle", calls_per_minute=6)
SUGGESTIONS = (None, HALT, HALT, RAG, STATIC, SLOW, SLOWER)
DEEDS = ("ack", "ack", "resolve", "false alarm", "note", "silence", "approve", "approve", "deny")
SESSIONS = (None, "s-1", "s-2")
DETECTORS = ("tool_loop", "tool_loop", "budget", "error_rate", "disobeyed_control")
POLICY = DEFAULT.model_copy(
    update={"storm": DEFAULT.storm.model_copy(update={"pages_a_minute": 3})}
).with_channels("desk")
QUIET = timedelta(milliseconds=POLICY.containment.verify_quiet_ms)
STEPS_OF_CHAIN = len(POLICY.escalation.steps)

who = st.integers(0, 1)
agents = st.sampled_from(("billing", "billing", "support"))
targets = st.builds(
    lambda agent, session: Target(agent=agent, session=session), agents, st.sampled_from(SESSIONS)
)


class CrashError(BaseException):
    """The process is gone in the middle of a request."""


@dataclass
class Channel:
    """Takes pages as it is told, and knows those it has again when it is asked to look."""

    name: str
    ends: str = "taken"
    arrived: Counter[str] = field(default_factory=Counter)

    async def send(self, page: Outgoing) -> Outcome:
        if page.in_doubt and self.arrived[page.key]:
            return Delivered(self.name, page.key)
        if self.ends == "busy":
            return Retryable("busy", after_ms=1_000)
        if self.ends == "refused":
            return Permanent("no such channel")
        self.arrived[page.key] += 1
        if self.ends == "answer lost":
            return Retryable("reset", in_doubt=True)
        if self.ends == "crash":
            raise CrashError
        return Delivered(self.name, page.key)

    async def edit(self, conversation: str, message_id: str, message: Message) -> Outcome:
        return Delivered(conversation, message_id)


class Lifecycle(RuleBasedStateMachine):
    """The responder as it is, the model beside it, and everything that may happen to both."""

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.cases, self.bus = Clock(), Cases(), KeptBus()
        engine = memory_engine()
        tables.metadata.create_all(engine)
        # Two instances, each with what it remembers of incidents.
        self.responders = [Responder(Store(engine), POLICY, self.clock) for _ in range(2)]
        self.store = self.responders[0].store
        self.channels = {name: Channel(name) for name in ("desk", "terminal")}
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.signing = keys.load_or_create(Path(self.folder.name))
        self.commands: list[dict[str, Any]] = []
        self.senders = [Sender(each, self.channels, KafkaIncidentLog(self.bus)) for each in self.responders]
        # Ids that are the same whenever the same is done again.
        numbers = itertools.count(1)
        self.ids = patch.object(DatabaseIds, "command_id", lambda _: f"cmd-{next(numbers)}")
        self.ids.start()
        self.logs: dict[str, list[IncidentEvent]] = {}
        self.seen: list[Detection] = []
        self.acked: set[tuple[str, str, str]] = set()
        self.epochs: dict[str, dict[int, ControlState]] = {}
        self.let_run: dict[Target, datetime] = {}
        self.moments: list[tuple[datetime, dict[str, Incident]]] = []

    def teardown(self) -> None:
        self.ids.stop()
        self.check_every_moment()
        self.loop.close()
        self.store.close()
        self.folder.cleanup()

    # What happens

    @initialize(whose=targets, severity=st.sampled_from(("warning", "critical")), silenced=st.booleans())
    def it_begins(self, whose: Target, severity: str, silenced: bool) -> None:
        if silenced:
            self.a_silence(0, "*", 1)
        self.a_detection(0, whose, "tool_loop", severity, HALT, 0)

    @rule(
        who=who,
        whose=targets,
        detector=st.sampled_from(DETECTORS),
        severity=st.sampled_from(("info", "warning", "critical", "critical")),
        suggested=st.sampled_from(SUGGESTIONS),
        late_s=st.sampled_from((0, 0, 30)),
    )
    def a_detection(
        self,
        who: int,
        whose: Target,
        detector: str,
        severity: str,
        suggested: ControlState | None,
        late_s: int,
    ) -> None:
        seen = detection(
            f"d-{len(self.seen)}",
            detector=detector,
            agent=whose.agent,
            session=whose.session,
            severity=severity,
            suggested=suggested,
            time=self.clock.now - timedelta(seconds=late_s),
        )
        self.seen.append(seen)
        expected = self.cases.belongs(whose)
        ignored = self.cases.halting(whose) if detector == "disobeyed_control" else []
        if ignored and expected not in ignored:
            expected = ignored[0]
        incident = self.responders[who].detection(seen)
        if expected is None and severity == "info":
            assert incident is None
            return
        assert incident is not None
        if expected is None:
            assert incident.incident_id not in self.cases.by_id
            self.cases.by_id[incident.incident_id] = Case(severity, self.clock.now)
        else:
            assert incident.incident_id == expected
        self.cases.claim(incident.incident_id, whose)
        self.take_in(self.cases.by_id[incident.incident_id], seen, incident)
        for other in ignored:
            self.disobeyed(self.cases.by_id[other], whose)

    def take_in(self, case: Case, seen: Detection, incident: Incident) -> None:
        if WORSE.index(seen.severity) > WORSE.index(case.severity):
            case.severity = seen.severity
            case.worse(self.clock.now)
            case.critical_since = self.clock.now
        about = Target(agent=seen.agent, session=seen.session)
        if seen.detector == "disobeyed_control":
            self.disobeyed(case, about)
        elif seen.suggested is not None:
            self.suggest(case, case.wish(about), seen, incident)

    def disobeyed(self, case: Case, about: Target) -> None:
        for wish in case.wishes.values():
            if wish.holds and wish.phase != "disobeyed" and concerns(wish.target, about):
                wish.phase = "disobeyed"
                case.worse(self.clock.now)

    def suggest(self, case: Case, wish: Wish, seen: Detection, incident: Incident) -> None:
        assert seen.suggested is not None
        wanted = seen.suggested
        if wish.holds and wish.state is not None:
            wanted = both(wish.state, seen.suggested)
            if wanted == both(wish.state):
                return
        of_agent = wish.target.model_copy(update={"session": None})
        if any(seen.time <= self.let_run[each] for each in (wish.target, of_agent) if each in self.let_run):
            return
        if automatic(seen):
            case.worse(self.clock.now)
            wish.order(wanted, epoch_in(incident, wish.target), self.clock.now)
        elif wish.asked is None or both(wish.asked, wanted) != both(wish.asked):
            wish.asked, wish.denied = wanted, False

    @precondition(lambda self: self.seen)
    @rule(who=who, data=st.data())
    def a_detection_again(self, who: int, data: st.DataObject) -> None:
        again = data.draw(st.sampled_from(self.seen))
        self.changes_nothing(lambda: self.responders[who].detection(again))

    @precondition(lambda self: self.cases.by_id)
    @rule(
        who=who,
        data=st.data(),
        deed=st.sampled_from(
            ("ack", "ack", "resolve", "false alarm", "note", "silence", "approve", "approve", "deny")
        ),
    )
    def a_person(self, who: int, data: st.DataObject, deed: str) -> None:
        incident_id = data.draw(st.sampled_from(sorted(self.cases.by_id)))
        responder = self.responders[who]
        deeds: dict[str, tuple[Callable[[], Incident], Callable[[Incident], None]]] = {
            "ack": (lambda: actions.acknowledge(responder, incident_id, "alice"), self.acknowledged),
            "resolve": (lambda: actions.resolve(responder, incident_id, "alice"), self.closed),
            "false alarm": (lambda: actions.false_alarm(responder, incident_id, "bob"), self.closed),
            "note": (lambda: actions.note(responder, incident_id, "bob", "looking"), lambda _: None),
            "approve": (lambda: actions.approve(responder, incident_id, "alice"), self.approved),
            "deny": (lambda: actions.deny(responder, incident_id, "bob"), self.denied),
        }
        if deed == "silence":
            self.do(
                lambda: actions.silence(responder, incident_id, "bob", 20), self.possible(incident_id, deed)
            )
            return
        act, follows = deeds[deed]
        done = self.do(act, self.possible(incident_id, deed))
        if done is not None:
            follows(done)

    @precondition(lambda self: self.cases.by_id)
    @rule(who=who)
    def somebody_is_on_everything(self, who: int) -> None:
        for incident_id, case in self.cases.by_id.items():
            if case.open:
                self.acknowledged(actions.acknowledge(self.responders[who], incident_id, "carol"))

    def possible(self, incident_id: str, deed: str) -> bool:
        case = self.cases.by_id[incident_id]
        if deed in ("approve", "deny") and not any(wish.waits for wish in case.wishes.values()):
            return False
        return case.open or deed == "note"

    def acknowledged(self, incident: Incident) -> None:
        case = self.cases.by_id[incident.incident_id]
        if not case.attended:
            case.take()

    def closed(self, incident: Incident) -> None:
        self.cases.close(incident.incident_id)

    def approved(self, incident: Incident) -> None:
        case = self.cases.by_id[incident.incident_id]
        for wish in case.wishes.values():
            if wish.waits and wish.asked is not None:
                wanted = both(wish.state, wish.asked) if wish.holds and wish.state is not None else wish.asked
                self.ordered_by_hand(case, wish, wanted, incident)

    def ordered_by_hand(self, case: Case, wish: Wish, wanted: ControlState, incident: Incident) -> None:
        """Whoever was on it and orders more is on it still."""
        attended = case.attended
        case.worse(self.clock.now)
        if attended and not case.attended:
            case.take()
        wish.order(wanted, epoch_in(incident, wish.target), self.clock.now)

    def denied(self, incident: Incident) -> None:
        for wish in self.cases.by_id[incident.incident_id].wishes.values():
            wish.denied = wish.denied or wish.waits

    @rule(who=who, agent=st.sampled_from(("billing", "support", "*")), minutes=st.sampled_from((1, 20)))
    def a_silence(self, who: int, agent: str, minutes: int) -> None:
        actions.silence(self.responders[who], agent, "bob", minutes, "known")

    @rule(who=who, whose=targets, everyone=st.booleans(), state=st.sampled_from((HALT, RAG, SLOW)))
    def an_order(self, who: int, whose: Target, everyone: bool, state: ControlState) -> None:
        about = Target(agent="*") if everyone and whose.session is None else whose
        expected = self.cases.belongs(about)
        name = "/".join(filter(None, (about.tenant, about.agent, about.session)))
        incident = actions.contain(self.responders[who], name, state, "alice")
        if expected is None:
            assert incident.incident_id not in self.cases.by_id
            self.cases.by_id[incident.incident_id] = Case("warning", None, attended=True, taken=True)
        else:
            assert incident.incident_id == expected
        self.cases.claim(incident.incident_id, about)
        case = self.cases.by_id[incident.incident_id]
        wish = case.wish(about)
        wanted = both(wish.state, state) if wish.holds and wish.state is not None else state
        self.ordered_by_hand(case, wish, wanted, incident)

    @rule(who=who, whose=targets, everyone=st.booleans())
    def a_resume(self, who: int, whose: Target, everyone: bool) -> None:
        about = Target(agent="*") if everyone and whose.session is None else whose
        name = "/".join(filter(None, (about.tenant, about.agent, about.session)))
        actions.resume(self.responders[who], name, "alice")
        let_run = [about]
        for case in self.cases.by_id.values():
            for wish in case.wishes.values():
                same = (wish.target.tenant, wish.target.agent) == (about.tenant, about.agent)
                if wish.holds and same and about.session in (None, wish.target.session):
                    wish.phase = "released"
                    let_run.append(wish.target)
        # Whom somebody holds is told to run as far as it is held; whom nobody holds, as it was asked.
        self.let_run |= dict.fromkeys(let_run[1:] or let_run, self.clock.now)

    @rule(who=who, broker=st.sampled_from(("takes them", "takes them", "refuses them")))
    def commands_are_published(self, who: int, broker: str) -> None:
        responder = self.responders[who]
        with responder.store.reading() as connection:
            waiting = due(connection, epoch_ms(self.clock.now))
        for command in waiting:
            if broker == "refuses them":
                responder.undeliverable(command, "not authorized")
                continue
            self.commands.append(orjson.loads(signed(command, self.signing)))
            responder.published(command, 1_000)

    @precondition(lambda self: self.commands)
    @rule(
        who=who,
        data=st.data(),
        result=st.sampled_from(("applied", "applied", "applied", "refused")),
        point=st.sampled_from(("gate-1", "gate-2")),
    )
    def a_gate_answers(self, who: int, data: st.DataObject, result: str, point: str) -> None:
        """Any command ever published, so old epochs too."""
        self.answered(who, data.draw(st.sampled_from(self.commands)), result, point)

    def answered(self, who: int, command: dict[str, Any], result: str, point: str) -> None:
        ack = ack_of(command, self.clock.now, result=result, enforcement_point=point)
        if (ack.command_id, point, result) in self.acked:
            self.changes_nothing(lambda: self.responders[who].ack(ack))
            return
        self.acked.add((ack.command_id, point, result))
        assert self.responders[who].ack(ack)
        target = Target.model_validate(command["target"])
        for case in self.cases.by_id.values():
            wish = case.wishes.get(target.model_dump_json())
            if (
                wish is not None
                and wish.phase == "requested"
                and ack.epoch >= wish.epoch
                and result == "applied"
            ):
                wish.phase, wish.applied_at = "applied", self.clock.now

    @rule(who=who)
    def all_is_obeyed(self, who: int) -> None:
        """The way of most orders: published, confirmed, and quiet since."""
        self.commands_are_published(who, "takes them")
        newest = {str(each["target"]): each for each in self.commands}
        for command in newest.values():
            self.answered(who, command, "applied", "gate-1")
        self.time_passes(who, 11)
        self.timers_fire(who)

    @rule(
        who=who,
        ends=st.sampled_from(("taken", "taken", "taken", "busy", "refused", "answer lost", "crash")),
        how_many=st.integers(1, 6),
    )
    def pages_go_out(self, who: int, ends: str, how_many: int) -> None:
        for channel in self.channels.values():
            channel.ends = ends
        for _ in range(how_many):
            try:
                self.loop.run_until_complete(self.senders[who].run_once(limit=1))
            except CrashError:
                self.senders[who] = Sender(self.responders[who], self.channels, KafkaIncidentLog(self.bus))
                self.clock.pass_seconds(LEASE_MS / 1000 + 1)

    @rule(who=who, seconds=st.sampled_from((1, 5, 11, 21, 46, 61, 601, 1_201)))
    def time_passes(self, who: int, seconds: int) -> None:
        self.moments.append((self.clock.now, self.folded()))
        self.clock.pass_seconds(seconds)

    @rule(who=who)
    def timers_fire(self, who: int) -> None:
        while self.responders[who].fire_timers():
            pass
        for case in self.cases.by_id.values():
            case.quiet(self.clock.now, QUIET)

    @rule(who=who)
    def the_brink_of_a_timer(self, who: int) -> None:
        """A timer that is due in less than a millisecond is not due."""
        self.timers_fire(who)
        with self.store.reading() as connection:
            due_ms = connection.execute(
                select(tables.timers.c.due_ms).order_by(tables.timers.c.due_ms)
            ).scalar()
        if due_ms is None:
            return
        self.moments.append((self.clock.now, self.folded()))
        self.clock.now = from_epoch_ms(due_ms) - timedelta(microseconds=300)
        self.changes_nothing(self.responders[who].fire_timers)
        self.clock.now = from_epoch_ms(due_ms)
        self.timers_fire(who)

    @rule(who=who)
    def projections_are_rebuilt(self, who: int) -> None:
        assert not any(rebuild(self.responders[who].store).values())

    # What must hold

    @invariant()
    def all_holds(self) -> None:
        folded = self.folded()
        self.it_is_what_the_model_says(folded)
        self.the_log_says_what_is_shown(folded)
        self.targets_are_held_as_the_open_wishes_say()
        self.nothing_is_dropped_or_doubled(folded)

    def it_is_what_the_model_says(self, folded: dict[str, Incident]) -> None:
        for incident_id, incident in folded.items():
            case = self.cases.by_id.get(incident_id)
            if case is None:
                assert incident.listed or incident.part, "nobody asked for this incident"
                case = self.cases.by_id[incident_id] = Case(incident.severity, incident.opened_at)
            if incident.listed:
                case.severity = incident.severity
            if incident.part and incident.resolved_by == "watchkeeper":
                case.open = False
            assert (incident.state, incident.severity) == (case.state, case.severity)
            assert incident.attended == case.attended
            for wish in case.wishes.values():
                held = incident.containment_of(wish.target)
                assert (held.state if held else "none") == wish.phase
                if held is not None and wish.holds and wish.state is not None:
                    assert (both(held.wanted), held.epoch) == (both(wish.state), wish.epoch)
                if held is not None:
                    assert held.awaited == wish.waits

    def the_log_says_what_is_shown(self, folded: dict[str, Incident]) -> None:
        with self.store.reading() as connection:
            shown = {
                row["incident_id"]: dict(row)
                for row in connection.execute(select(tables.incidents)).mappings()
            }
        for incident_id, incident in folded.items():
            assert projection_of(incident) == shown.pop(incident_id)
            for responder in self.responders:
                with responder.store.reading() as connection:
                    assert current(connection, incident_id) == incident
        assert not shown

    def targets_are_held_as_the_open_wishes_say(self) -> None:
        with self.store.reading() as connection:
            issued = connection.execute(select(tables.commands)).all()
        for row in sorted(issued, key=lambda row: row.epoch):
            known = self.epochs.setdefault(row.scope, {})
            if row.epoch in known:
                continue
            state = ControlState.model_validate_json(row.state)
            assert row.epoch > max(known, default=0), "an epoch that is not the greatest yet"
            before = known[max(known)] if known else ControlState(mode="run")
            assert row.role == "operator" or both(before, state) == both(state), "an engine's key lifts"
            known[row.epoch] = state
        for case in self.cases.by_id.values():
            for wish in case.wishes.values():
                if wish.epoch:
                    known = self.epochs[scope_of(wish.target)]
                    assert both(known[max(known)]) == self.cases.wanted_of(wish.target)

    def nothing_is_dropped_or_doubled(self, folded: dict[str, Incident]) -> None:
        for channel in self.channels.values():
            assert not [key for key, times in channel.arrived.items() if times > 1]
        with self.store.reading() as connection:
            waiting = connection.execute(select(tables.timers.c.incident_id, tables.timers.c.kind)).all()
            rows = connection.execute(select(tables.outbox.c.effect_key, tables.outbox.c.status)).all()
        timers = {(row.incident_id, row.kind) for row in waiting}
        under_way = {row.effect_key for row in rows if row.status in ("pending", "claimed")}
        for incident_id, case in self.cases.by_id.items():
            if case.open and case.severity == "critical" and not case.attended:
                assert case.alone_since is not None
                since = max(filter(None, (case.alone_since, case.critical_since)))
                told = told_since(folded, incident_id, since, timers, under_way, self.logs)
                assert told, f"nobody is told of {incident_id}"

    def check_every_moment(self) -> None:
        """`incident ID --at TIME` shows what was true at that time."""
        for at, then in self.moments[-5:]:
            for incident_id, incident in then.items():
                view = projections.incident(self.store, incident_id, at)
                assert view.version == incident.version
                assert fold(view.log) == incident

    # How it is asked

    def folded(self) -> dict[str, Incident]:
        """Every incident, from the beginning of its log; apply() refuses a gap."""
        with self.store.reading() as connection:
            ids = connection.execute(select(tables.events.c.incident_id).distinct()).scalars().all()
            self.logs = {each: events_of(connection, each) for each in ids}
        found = {incident_id: fold(log) for incident_id, log in self.logs.items()}
        return {incident_id: incident for incident_id, incident in found.items() if incident is not None}

    def everything(self) -> dict[str, list[Any]]:
        with self.store.reading() as connection:
            return {
                table.name: sorted(connection.execute(select(table)).all(), key=repr)
                for table in tables.metadata.tables.values()
            }

    def changes_nothing(self, act: Callable[[], object]) -> None:
        before = self.everything()
        act()
        assert self.everything() == before

    def do(self, act: Callable[[], Any], possible: bool) -> Any:
        """What it returns; when it is not possible it is refused, and nothing has changed."""
        if possible:
            return act()

        def refused() -> None:
            with suppress(ActionRefused):
                act()
                raise AssertionError("it is not possible, and was not refused")

        self.changes_nothing(refused)
        return None


def concerns(held: Target, about: Target) -> bool:
    """Whether who is told to do this is who did not: the agent, its session, or one of its sessions."""
    if held.agent == "*":
        return True
    return held.agent == about.agent and (
        None in (held.session, about.session) or held.session == about.session
    )


def epoch_in(incident: Incident, target: Target) -> int:
    held = incident.containment_of(target)
    assert held is not None
    assert held.epoch is not None
    return held.epoch


def told_since(
    folded: dict[str, Incident],
    incident_id: str,
    since: datetime,
    timers: set[tuple[str, str]],
    under_way: set[str],
    logs: dict[str, list[IncidentEvent]],
) -> bool:
    """Somebody was told, is being told, or it stands in the log when that is looked at again."""
    incident = folded[incident_id]
    goes_on = (incident_id, "escalate") in timers or incident.escalation_step == STEPS_OF_CHAIN
    for page in incident.pages.values():
        sent = page.state != "requested" or f"page:{incident_id}:{page.page}:{page.channel}" in under_way
        if page.requested_at >= since and sent and goes_on:
            return True
    if (incident_id, "digest") in timers:
        return True
    for deferral in incident.deferrals.values():
        if deferral.at < since:
            continue
        if deferral.until is not None and (incident_id, "page") in timers:
            return True
        if deferral.reason == "storm" and in_a_digest(logs, incident_id, timers):
            return True
    return False


def in_a_digest(logs: dict[str, list[IncidentEvent]], incident_id: str, timers: set[tuple[str, str]]) -> bool:
    """It is listed, and that was told since or will be."""
    for digest, log in logs.items():
        listed = [
            event.version
            for event in log
            if isinstance(event.data, IncidentListed) and event.data.listed == incident_id
        ]
        told = [event.version for event in log if isinstance(event.data, PageRequested)]
        if listed and ((digest, "digest") in timers or max(told, default=0) > listed[-1]):
            return True
    return False


def ran(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        Lifecycle,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=not FULL,
            phases=(Phase.generate, Phase.shrink) if FULL else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_responder_does_what_the_model_says() -> None:
    ran(count(15, 2_000), count(40, 60))


def opens_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(people, "_must_be_open", lambda _: None)
    patch.setitem(LIFECYCLE["resolved"], "acknowledged", "acknowledged")


BROKEN: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "worse does not undo mitigated": lambda patch: patch.setitem(
        LIFECYCLE["mitigated"],
        "containment_requested",
        "mitigated",
    ),
    "a resolved incident opens again": opens_again,
    "disobedience is no news": lambda patch: patch.setitem(
        CONTAINMENT["requested"],
        "containment_disobeyed",
        "requested",
    ),
    "what waits is forgotten": lambda patch: patch.setattr(decide, "on_deferred_due", lambda _: None),
    "nobody is called back": lambda patch: patch.setattr(detections, "_call_back", lambda *_: None),
    "one wish wins": lambda patch: patch.setattr(wanted, "combine", lambda states: [*states, RUN][0]),
    "doubt is forgotten": lambda patch: patch.setattr(outbox, "_claimed", without_doubt),
    "timers fire early": lambda patch: patch.setattr(handle, "whole_ms", epoch_ms),
    "an engine's key lifts": lambda patch: patch.setattr(
        effects, "Release", partial(effects.Release, role="engine")
    ),
}
real_claimed = outbox._claimed


def without_doubt(row: Any) -> outbox.Claimed:
    return real_claimed({**row, "in_doubt": False})


SOON_FOUND = ("worse does not undo mitigated", "a resolved incident opens again", "timers fire early")


@pytest.mark.parametrize("what", BROKEN if FULL else SOON_FOUND)
def test_what_is_broken_is_found(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    BROKEN[what](monkeypatch)
    with pytest.raises((AssertionError, IllegalTransition)):
        ran(count(60, 1_000), 40)
