"""From something that happened to a committed decision: load, decide, save, in one transaction.

`Responder` is the whole of the responder without Kafka, Slack or a loop: services, the command line and the
HTTP API call it, and every method may be called again about the same thing without doing it again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from responders import causes, wanted
from responders.decide import (
    NOTHING_AROUND,
    Absorb,
    AckSeen,
    Action,
    ActionRefused,
    Around,
    CommandDelivered,
    CommandRefused,
    Consequence,
    Contain,
    DetectionSeen,
    Follow,
    Input,
    Lift,
    ListInDigest,
    MergeInto,
    OrderIgnored,
    PartFails,
    PartWorks,
    PersonActs,
    SilenceBegins,
    SilenceEnds,
    TimerFired,
    decide,
)
from responders.decider import correlation
from responders.decider.detections import DISOBEDIENCE
from responders.decider.paging import last_told
from responders.effects import Release
from responders.incident import Incident
from responders.policy import Policy, target_of
from responders.store import event_store, outbox, tables
from responders.store.event_store import Store
from schemas.base import epoch_ms, whole_ms
from schemas.control import ControlAck, Target
from schemas.detection import Detection
from watchkeeper_client.control import RefusalReason

OLDER: Final[RefusalReason] = "older_epoch"
"""What a gate's reason begins with that has a newer command of the target."""

Clock = Callable[[], datetime]
Choice = Callable[[Incident], Action]
"""What to do about an incident as it is now; raises ActionRefused when that is nothing."""


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Source:
    """The record that brought an input: its offset is committed with the decision."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class DatabaseIds:
    """Ids for one transaction: epochs come from the target's row, which it locks."""

    connection: Connection
    now_ms: int

    def incident_id(self, seed: str) -> str:
        return event_store.incident_id_for(seed)

    def command_id(self) -> str:
        return f"cmd-{uuid.uuid4().hex}"

    def epoch(self, target: Target) -> int:
        return wanted.next_epoch(self.connection, target, self.now_ms)


@dataclass(frozen=True, slots=True)
class Silenced:
    """A silence that was ordered, and the open incidents it concerns. Without an id it is one incident's."""

    silence_id: str | None
    until: datetime
    incidents: tuple[str, ...]


class Responder:
    """Decisions on one store under one policy. Synchronous; safe to use from several threads.

    Every method raises StoreError when the database does not answer; then nothing has changed.

    `looked_at_until` is when everything that agents had done has surely been looked at: an order is proved
    when nothing was found until then. None: nobody says (a rehearsal), and the clock decides.
    """

    def __init__(self, store: Store, policy: Policy, clock: Clock = utc_now) -> None:
        self.store = store
        self.policy = policy
        self.clock = clock
        self.looked_at_until: datetime | None = None

    def detection(self, detection: Detection, source: Source | None = None) -> Incident | None:
        """The incident it opened or joined; None for one seen before, or not worth an incident."""

        def work(connection: Connection) -> Incident | None:
            now = self.clock()
            _mark_offset(connection, source)
            key = event_store.detection_key(detection)
            if event_store.seen(connection, key):
                return None
            incident = self._place(connection, self.policy.graded(detection), now)
            event_store.mark_seen(connection, key, incident.incident_id if incident else None, now)
            return incident

        return self.store.transact(work)

    def _place(self, connection: Connection, detection: Detection, now: datetime) -> Incident | None:
        """Decide about a detection for the incident it belongs to: that of its cause, or of what it has in
        common with others.
        """
        given = DetectionSeen(detection)
        let_run_at = wanted.let_run_at(connection, target_of(detection))
        cause = causes.cause_of(connection, detection, self.policy)
        if cause is not None:
            around = Around(follows=True, let_run_at=let_run_at)
            return self._decide(connection, given, cause, now, around=around)
        group = self.policy.grouping.of(detection)
        keys = correlation.keys_of(group, detection)
        known = causes.open_incident(connection, keys, now, group.window_minutes)
        ignored = self._ignored_by(connection, detection, known)
        known = ignored[0] if ignored else known
        around = Around(
            silences=causes.silences_on(connection, detection, now),
            pages_lately=causes.pages_lately(connection, detection.tenant, now),
            kin=causes.kin_of(connection, detection, self.policy, now) if known is None else None,
            let_run_at=let_run_at,
        )
        incident = self._decide(connection, given, known, now, keys, around)
        if incident is None:
            return None
        for other in ignored[1:]:
            self._decide(connection, OrderIgnored(detection), other, now)
        if known is None:
            causes.remember_cause(connection, detection, incident)
        if correlation.is_source(detection, self.policy.inhibit):
            return self._gather(connection, incident, detection, now)
        return incident

    def _ignored_by(self, connection: Connection, detection: Detection, known: str | None) -> list[str]:
        """The open incidents whose order to stop the agent ignores: the one it belongs to in any case, if it
        is one of them, then the one whose order comes closest.
        """
        if detection.detector != DISOBEDIENCE:
            return []
        holding = wanted.halted_by(connection, target_of(detection))
        loaded = [event_store.load(connection, each) for each in holding]
        still_open = [each.incident_id for each in loaded if each is not None and each.open]
        return sorted(still_open, key=lambda each: each != known)

    def _gather(
        self, connection: Connection, cause: Incident, detection: Detection, now: datetime
    ) -> Incident:
        """Take in what turns out to be a consequence, though it came first."""
        causes.is_source(connection, detection, cause.incident_id)
        found = causes.consequences_of(connection, cause, detection, self.policy)
        return self._absorb(connection, cause, found, now) if found else cause

    def _absorb(
        self, connection: Connection, cause: Incident, found: Sequence[Incident], now: datetime
    ) -> Incident:
        for each in found:
            self._decide(connection, MergeInto(cause.incident_id, cause.headline), each, now)
        absorb = Absorb(tuple(Consequence(each.incident_id, each.agent, each.headline) for each in found))
        return self._decide(connection, absorb, cause, now) or cause

    def ack(self, ack: ControlAck, source: Source | None = None) -> bool:
        """Take in an enforcement point's answer. False for a command that was never issued here, or not with
        this epoch.
        """
        return self.acks([(ack, source)])[0]

    def acks(self, given: Sequence[tuple[ControlAck, Source | None]]) -> list[bool]:
        """Several at once, in order: a global stop is answered by everybody, and each transaction is a write
        to disk.
        """

        def work(connection: Connection) -> list[bool]:
            for source in _last_of_each(source for _, source in given):
                _mark_offset(connection, source)
            commands: dict[str, wanted.Issued | None] = {}
            obeyed: set[str] = set()
            known = []
            for ack, _ in given:
                if ack.command_id not in commands:
                    commands[ack.command_id] = wanted.issued(connection, ack.command_id)
                command = commands[ack.command_id]
                known.append(command is not None and command.epoch == ack.epoch)
                if command is None or not known[-1] or not self._is_news(connection, ack):
                    continue
                if ack.result == "refused":
                    obeyed.discard(ack.command_id)
                    self._refused(connection, ack, command)
                elif ack.command_id not in obeyed and self._applied(connection, ack, command):
                    # That one more obeys what is known to be obeyed is kept, and decides nothing.
                    obeyed.add(ack.command_id)
            return known

        return self.store.transact(work)

    def _is_news(self, connection: Connection, ack: ControlAck) -> bool:
        return event_store.insert_new(
            connection,
            tables.acks,
            command_id=ack.command_id,
            enforcement_point=ack.enforcement_point,
            result=ack.result,
            reason=ack.reason,
            time_ms=epoch_ms(ack.time),
        )

    def _applied(self, connection: Connection, ack: ControlAck, command: wanted.Issued) -> bool:
        """Whether everyone who has answered obeys."""
        refusing = wanted.refusing(connection, ack.command_id)
        if refusing is None:
            wanted.confirm(connection, ack.command_id)
        self._answered(connection, ack, command.target)
        if refusing is not None and command.is_newest:
            # Of several who refuse one is told; when it obeys, the next one stands for them.
            point, reason = refusing
            still = {"enforcement_point": point, "result": "refused", "reason": reason}
            self._answered(connection, ack.model_copy(update=still), command.target)
        return refusing is None

    def _refused(self, connection: Connection, ack: ControlAck, command: wanted.Issued) -> None:
        """Whoever refuses what is no longer wanted may well obey what is. One that is refused for its age has
        come after the newer one, and is the one that a compacted topic would keep.
        """
        overtaken = not command.is_newest and (ack.reason or "").startswith(OLDER)
        if command.is_newest or overtaken:
            again_after_ms = self.policy.containment.republish_first_ms
            wanted.doubt(connection, command.target, epoch_ms(self.clock()) + again_after_ms)
        if command.is_newest:
            self._answered(connection, ack, command.target)

    def _answered(self, connection: Connection, ack: ControlAck, target: Target) -> None:
        for incident_id in wanted.incidents_holding(connection, target):
            self._decide(connection, AckSeen(ack, target), incident_id, self.clock())

    def published(self, command: wanted.WantedCommand, again_after_ms: int) -> None:
        """The broker has the command; unless it is confirmed it is due again after ``again_after_ms``."""

        def work(connection: Connection) -> None:
            now = self.clock()
            wanted.published(connection, command, epoch_ms(now) + again_after_ms)
            given = CommandDelivered(command.target, command.epoch)
            for incident_id in wanted.incidents_holding(connection, command.target):
                self._decide(connection, given, incident_id, now)

        self.store.transact(work)

    def undeliverable(self, command: wanted.WantedCommand, reason: str) -> None:
        """The broker refuses the command, and trying again will not help by itself."""

        def work(connection: Connection) -> None:
            given = CommandRefused(command.target, command.epoch, reason)
            for incident_id in wanted.incidents_holding(connection, command.target):
                self._decide(connection, given, incident_id, self.clock())

        self.store.transact(work)

    def published_again(self, commands: Sequence[tuple[wanted.WantedCommand, int]]) -> None:
        """The broker has these again; each with the milliseconds after which it is due once more."""

        def work(connection: Connection) -> None:
            now_ms = epoch_ms(self.clock())
            for command, again_after_ms in commands:
                wanted.published(connection, command, now_ms + again_after_ms)

        self.store.transact(work)

    def fire_timers(self, limit: int = 100) -> int:
        """Decide about every timer that is due; how many there were."""
        timers = tables.timers
        now_ms = whole_ms(self.clock())
        looked_at_ms = now_ms if self.looked_at_until is None else whole_ms(self.looked_at_until)
        with self.store.reading() as connection:
            due = connection.execute(
                select(timers.c.timer_key)
                .where(timers.c.due_ms <= now_ms)
                .where(or_(timers.c.kind != "verify", timers.c.due_ms <= looked_at_ms))
                .order_by(timers.c.due_ms)
                .limit(limit)
            ).scalars()
            keys = list(due)
        for key in keys:
            self.store.transact(lambda connection, key=key: self._fire(connection, key))  # type: ignore[misc]
        return len(keys)

    def _fire(self, connection: Connection, key: str) -> None:
        is_it = tables.timers.c.timer_key == key
        row = connection.execute(select(tables.timers).where(is_it)).mappings().first()
        if row is None or connection.execute(delete(tables.timers).where(is_it)).rowcount != 1:
            return  # another responder has fired it
        target = wanted.target_of_scope(row["scope"]) if row["scope"] else None
        given = TimerFired(row["kind"], target, row["epoch"])
        now = self.clock()
        if row["kind"] == "page" and self._follows_after_all(connection, row["incident_id"], now):
            return
        incident, around = event_store.load(connection, row["incident_id"]), None
        if row["kind"] == "late":
            around = replace(
                self._around(connection, incident, now),
                troubles=outbox.troubles_of(connection, row["incident_id"]),
            )
        self._decide(connection, given, incident, now, around=around)

    def _follows_after_all(self, connection: Connection, incident_id: str, now: datetime) -> bool:
        """Whether its cause shows, now that its page is due: the two may have been decided about at the same
        time, neither seeing the other.
        """
        incident = event_store.load(connection, incident_id)
        if incident is None or incident.worst is None:
            return False
        cause = causes.cause_of(connection, incident.worst, self.policy)
        if cause is None or not correlation.follows(incident, cause, self.policy.inhibit):
            return False
        self._absorb(connection, cause, [incident], now)
        return True

    def act(self, incident_id: str, person: str, action: Action) -> Incident:
        """What a person does about an incident.

        Raises:
            ActionRefused: not possible; the message says why.
        """

        def work(connection: Connection) -> Incident:
            incident = self._decide(connection, PersonActs(person, action), incident_id, self.clock())
            if incident is None:
                raise ActionRefused(f"there is no incident {incident_id}")
            return incident

        return self.store.transact(work)

    def choose(self, incident_id: str, person: str, choice: Choice) -> Incident:
        """What a person does about an incident as they saw it: ``choice`` is asked in the transaction that
        does it, so nothing can change in between.

        Raises:
            ActionRefused: there is no such incident, or it is not as it was.
        """

        def work(connection: Connection) -> Incident:
            incident = event_store.load(connection, incident_id)
            if incident is None:
                raise ActionRefused(f"there is no incident {incident_id}")
            action = choice(incident)
            if isinstance(action, Lift):
                self._lift(connection, person, action)
                return event_store.load(connection, incident_id) or incident
            return self._decide(connection, PersonActs(person, action), incident, self.clock()) or incident

        return self.store.transact(work)

    def contain(self, person: str, action: Contain) -> Incident:
        """Hold a target by hand, in the open incident it belongs to or in a new one."""

        def work(connection: Connection) -> Incident:
            target = action.target
            keys = correlation.grouping_keys(target.tenant, target.agent, target.session)
            known = causes.open_incident(connection, keys, self.clock())
            incident = self._decide(connection, PersonActs(person, action), known, self.clock(), keys)
            assert incident is not None
            return incident

        return self.store.transact(work)

    def lift(self, person: str, action: Lift) -> tuple[Target, ...]:
        """Let a target run: every incident lets go of it and of its sessions. Whom that was about: nobody,
        when nothing held it, which is then told anew that it may run.
        """

        return self.store.transact(lambda connection: self._lift(connection, person, action))

    def _lift(self, connection: Connection, person: str, action: Lift) -> tuple[Target, ...]:
        held = wanted.holders(connection, action.target)
        for incident_id in dict.fromkeys(incident_id for incident_id, _ in held):
            self._decide(connection, PersonActs(person, action), incident_id, self.clock())
        if not held:
            self._run_anyway(connection, action)
        return tuple(dict.fromkeys(target for _, target in held))

    def silence(
        self, person: str, target: Target, detector: str | None, until: datetime, reason: str
    ) -> Silenced:
        """No page about the agents (a pattern) of the tenant before ``until``; open incidents are silenced
        too.
        """

        def work(connection: Connection) -> Silenced:
            now = self.clock()
            silence = causes.silence(connection, person, target, detector, until, reason, now)
            concerned = causes.open_incidents_of(connection, target, detector)
            for incident_id in concerned:
                self._decide(connection, SilenceBegins(person, silence), incident_id, now)
            return Silenced(silence.silence_id, until, tuple(concerned))

        return self.store.transact(work)

    def unsilence(self, person: str, silences: Sequence[causes.SilenceOfTarget]) -> tuple[str, ...]:
        """End these silences now; the open incidents that they kept quiet."""

        def work(connection: Connection) -> tuple[str, ...]:
            now = self.clock()
            causes.end_silences(connection, [each.silence_id for each in silences], now)
            concerned: list[str] = []
            for silence in silences:
                for incident_id in causes.open_incidents_under(connection, silence):
                    self._decide(connection, SilenceEnds(person, silence.silence_id), incident_id, now)
                    concerned.append(incident_id)
            return tuple(dict.fromkeys(concerned))

        return self.store.transact(work)

    def part_fails(self, part: str, cause: str, reason: str) -> None:
        """A part of the engine fails its people: one incident a part and cause, however often it is said."""
        given = PartFails(part, cause, reason)
        self.store.transact(
            lambda connection: self._decide_also(connection, Follow(given, None), self.clock())
        )

    def part_works(self, part: str) -> None:
        """It does what it is for: what was open about it is over."""
        self.store.transact(
            lambda connection: self._decide_also(connection, Follow(PartWorks(part), None), self.clock())
        )

    def _run_anyway(self, connection: Connection, action: Lift) -> None:
        """Nobody here holds it, yet an agent may obey a command of a store that was lost."""
        now_ms = epoch_ms(self.clock())
        ids = DatabaseIds(connection, now_ms)
        epoch = ids.epoch(action.target)
        wanted.release(
            connection, Release(None, action.target, epoch, ids.command_id(), action.reason[:1024]), now_ms
        )

    def _decide(
        self,
        connection: Connection,
        given: Input,
        about: Incident | str | None,
        now: datetime,
        keys: Sequence[str] = (),
        around: Around | None = None,
    ) -> Incident | None:
        incident = event_store.load(connection, about) if isinstance(about, str) else about
        if around is None:
            around = self._around(connection, incident, now)
        ids = DatabaseIds(connection, epoch_ms(now))
        decision = decide(given, incident, self.policy, now, ids, around)
        event_store.save(connection, decision, now)
        causes.claim_keys(connection, decision, keys)
        for follow in decision.follow:
            self._decide_also(connection, follow, now)
        return decision.incident

    def _around(self, connection: Connection, incident: Incident | None, now: datetime) -> Around:
        if incident is None:
            return NOTHING_AROUND
        detection = incident.worst
        return Around(
            silences=[] if detection is None else causes.silences_on(connection, detection, now),
            pages_lately=causes.pages_lately(connection, incident.tenant, now),
        )

    def _decide_also(self, connection: Connection, follow: Follow, now: datetime) -> None:
        given: Input
        match follow.given:
            case ListInDigest() as given:
                keys = (correlation.digest_key(given.tenant),)
                taken = causes.give_up_taken(connection, keys[0])
                if taken is not None:
                    given = replace(given, told_at=last_told(taken))
            case PartFails() as given:
                keys = (correlation.part_key(given.part, given.cause),)
            case PartWorks() as given:
                for incident_id in causes.open_incidents_of_part(connection, given.part):
                    self._decide(connection, given, incident_id, now)
                return
            case given:
                self._decide(connection, given, follow.to, now)
                return
        known = causes.open_incident(connection, keys, now)
        self._decide(connection, given, known, now, keys, NOTHING_AROUND)

    def decided(self, connection: Connection, given: Input, incident_id: str) -> None:
        """Decide inside a transaction that the caller has: the outbox settles a row together with its
        outcome.
        """
        self._decide(connection, given, incident_id, self.clock())


def _last_of_each(sources: Iterable[Source | None]) -> list[Source]:
    """The last record of each partition, which the others are before."""
    last = {(each.topic, each.partition): each for each in sources if each is not None}
    return list(last.values())


def _mark_offset(connection: Connection, source: Source | None) -> None:
    """Past this record, unless the partition is further already (a redelivery)."""
    if source is None:
        return
    offsets, following = tables.offsets, source.offset + 1
    known = {"topic": source.topic, "partition": source.partition}
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(
        dialect.insert(offsets).values(**known, next_offset=following).on_conflict_do_nothing()
    )
    connection.execute(
        update(offsets)
        .where(offsets.c.topic == source.topic, offsets.c.partition == source.partition)
        .where(offsets.c.next_offset < following)
        .values(next_offset=following)
    )


def offsets_of(store: Store, topic: str) -> dict[int, int]:
    """The next offset of each partition of the topic that a decision has been stored for."""
    rows = select(tables.offsets).where(tables.offsets.c.topic == topic)
    with store.reading() as connection:
        return {row.partition: row.next_offset for row in connection.execute(rows)}
