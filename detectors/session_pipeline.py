"""One partition of `agent.events`: session detectors, timers and window accumulation, restorable at any
point.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from xxhash import xxh32_intdigest, xxh64_digest

from detectors.activity import MAX_CALL_TOKENS, MAX_CALL_USD
from detectors.base import (
    Halts,
    Profiles,
    SessionContext,
    SessionDetector,
    SessionFacts,
    Source,
    TimedSessionDetector,
    name_hash,
    slot,
)
from detectors.bounded import DIGEST_BYTES
from detectors.records import AGENT_PREFIX, OpenWindows, Progress, SessionRecord
from detectors.registry import SESSION
from detectors.slices import Slicer, remember_makeup, slice_key
from detectors.summary import Fact, SessionSummary
from detectors.telling import Teller, is_alarm, lesson_of, teach
from detectors.windows import Mark, Window, fleet_windows
from schemas.detection import Detection
from schemas.event import AgentEvent

SessionPipelineOutput = Detection | Window | Mark | SessionSummary | Fact

NONE: Final[tuple[SessionPipelineOutput, ...]] = ()
HOUR_MS: Final = 3_600_000
NEVER: Final = float("inf")
ID_BYTES: Final = 5
SEEN_BYTES: Final = ID_BYTES * 192
SEEN_STEP_BYTES: Final = ID_BYTES * 16
MAX_DECLARED_BYTES: Final = DIGEST_BYTES * 512
MAX_AGENTS: Final = 16
MAX_JUDGED: Final = 2
REFUSAL_ECHO: Final = 5
"""So many calls after a refusal tell of what was refused, not of how often something is."""
ECHO_S: Final = 600
"""For so long. In a session that goes on for days whatever lasts is told of all the same."""
MADE_UP: Final = frozenset({"llm.call", "retrieval"})
"""Event types that always say something of what their agent is made of."""
MAX_DROPPED: Final = 128
BACKGROUND: Final = frozenset({"heartbeat", "deployment", "feedback", "canary"})


class SessionPipeline:
    """Takes the events of one partition in offset order.

    Parameters
    ----------
    partition
        The partition number, written into windows and marks.
    detectors
        Session detectors, by default the registered ones.
    profiles
        What is normal for each agent, kept up to date by whoever reads `agent.profiles`; by default nothing.
    halts
        Who is to stand still, kept up to date by whoever reads `agent.control`; by default nobody.
    slicer
        What to tell slices apart by; by default every attribute that looks categorical.
    window_ms, lateness_ms
        Length of a window, and how long after its end it stays open for stragglers.
    linger_ms, forget_ms
        How long after its end, or its last event when it never ends, a session is remembered.
    checkpointed
        False where nobody asks for `dirty` and `marker`: nothing is then kept for them.

    Time: the watermark is the greatest, over the records, of the event's time and the broker's, whichever is
    less (a clock that is ahead cannot push it). Timers count from the watermark after a session's last event.
    An event whose window is closed is counted in the oldest one open, as late.
    """

    def __init__(  # noqa: PLR0913 - settings, by keyword
        self,
        partition: int,
        detectors: Sequence[SessionDetector] = SESSION,
        *,
        profiles: Profiles | None = None,
        halts: Halts | None = None,
        slicer: Slicer | None = None,
        window_ms: int = 10_000,
        lateness_ms: int = 2_000,
        linger_ms: int = HOUR_MS,
        forget_ms: int = 6 * HOUR_MS,
        checkpointed: bool = True,
    ) -> None:
        self.partition = partition
        self.window_ms = window_ms
        self.lateness_ms = lateness_ms
        self.linger_ms = linger_ms
        self.forget_ms = forget_ms
        self.late = 0
        self._checkpointed = checkpointed
        self._types = {slot(detector): detector.State for detector in detectors}
        self._timed: list[tuple[str, TimedSessionDetector, type[Any]]] = [
            (slot(detector), detector, detector.State)
            for detector in detectors
            if isinstance(detector, TimedSessionDetector)
        ]
        self._dispatch: dict[str, tuple[tuple[str, Any, type[Any]], ...]] = {}
        for wanted in {wanted for detector in detectors for wanted in detector.wants}:
            self._dispatch[wanted] = tuple(
                (slot(detector), detector.update, detector.State)
                for detector in detectors
                if wanted in detector.wants
            )
        self._sessions: dict[str, SessionRecord] = {}
        self._agents: dict[str, OpenWindows] = {}
        self._open: dict[int, dict[str, OpenWindows]] = {}
        self._heap: list[tuple[float, str]] = []
        self._husks: dict[str, SessionRecord] = {}
        self._emptied: dict[str, OpenWindows] = {}
        self._dirty_sessions: list[SessionRecord] = []
        self._dirty_agents: list[OpenWindows] = []
        self._progress = Progress()
        self._durable = Progress()
        self._given: Progress | None = None
        self._watermark_ms = 0
        self._floor_ms = 0
        self._next_due_ms = 0.0
        self._replay_until: dict[str, int] = {}
        self._replaying = False
        self._index = 0
        self._teller = Teller()
        self._slicer = Slicer() if slicer is None else slicer
        self._takers = {
            "llm.call": self._take_llm_call,
            "tool.call": self._take_tool_call,
            "session.start": self._take_start,
            "session.end": self._take_end,
            "escalation": self._take_escalation,
            "message": self._take_message,
            "evaluation": self._take_evaluation,
            "deployment": self._take_deployment,
        }
        self._context = SessionContext(profiles, halts)

    @property
    def watermark_ms(self) -> int:
        """How far event time has come, in epoch milliseconds."""
        return self._watermark_ms

    @property
    def sessions(self) -> int:
        """How many sessions are remembered."""
        return len(self._sessions)

    def process(
        self, event: AgentEvent, source: Source, broker_time_ms: int | None = None
    ) -> Sequence[SessionPipelineOutput]:
        """Take one event of the record at `source`; return what it and the time passed caused, in order."""
        time_ms = event.time_ms
        now_ms = time_ms if broker_time_ms is None or time_ms < broker_time_ms else broker_time_ms
        outputs = self.advance(now_ms) if now_ms > self._watermark_ms else NONE
        topic, _, offset = source
        offsets = self._progress.offsets
        if offsets.get(topic) == offset:
            self._index += 1
        else:
            self._index = 0
            offsets[topic] = offset
        session_key = f"{event.tenant}/{event.session}"
        record = self._sessions.get(session_key)
        if record is None or record.husk:
            record = self._open_session(session_key, record, event, source)
        agent_key = f"{event.tenant}/{event.agent}"
        agent = self._agents.get(agent_key)
        if agent is None:
            agent = self._agents[agent_key] = OpenWindows(tenant=event.tenant, agent=event.agent)
        session_done = agent_done = False
        if self._replaying:
            session_done, agent_done = self._already_applied(record, agent, topic, offset)
        if session_done:
            new = (offset, self._index) not in record.dropped
        else:
            new = self._first_time(record, event.event_id, topic, offset)
        if not new:
            return outputs
        if not session_done:
            self._begin(record)
            self._take(record, event, source, time_ms)
        if not agent_done:
            self._add_to_window(agent_key, agent, event, time_ms, record.facts)
            agent.applied[topic] = offset
            self._touch_agent(agent)
        found = None if session_done else self._show(record, event, source, time_ms)
        return [*outputs, *found] if found else outputs

    def _already_applied(
        self, record: SessionRecord, agent: OpenWindows, topic: str, offset: int
    ) -> tuple[bool, bool]:
        """After a crash: whether the session and the agent's windows had this record already."""
        if offset > self._replay_until.get(topic, offset):
            del self._replay_until[topic]
            self._replaying = bool(self._replay_until)
        return (
            record.restored is not None and offset <= record.restored.get(topic, -1),
            agent.restored is not None and offset <= agent.restored.get(topic, -1),
        )

    def advance(self, watermark_ms: int) -> Sequence[SessionPipelineOutput]:
        """Let time pass without an event, as when the partition is idle; return what became due.

        What this closes may be closed earlier than a replay would: it is for live running only.
        """
        if watermark_ms <= self._watermark_ms:
            return NONE
        self._watermark_ms = self._progress.watermark_ms = watermark_ms
        if watermark_ms < self._next_due_ms:
            return NONE
        outputs: list[SessionPipelineOutput] = []
        while self._heap and self._heap[0][0] <= watermark_ms:
            due_ms, key = heapq.heappop(self._heap)
            record = self._sessions.get(key)
            if record is not None and record.due_ms == due_ms:
                self._run_timers(key, record, outputs)
        self._close_windows(outputs)
        self._plan()
        return outputs

    def dirty(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Every key that changed since the last call and its bytes, None to delete it.

        Asking again means that the marker given after the last call is durable: only then is state deleted,
        and only what a replay from there cannot need.
        """
        if self._given is not None:
            self._durable = self._given
        for key, record in list(self._husks.items()):
            if self._durable.covers(record.applied):
                record.dirty = False
                del self._husks[key], self._sessions[key]
                yield record.key, None
        for key, agent in list(self._emptied.items()):
            if self._durable.covers(agent.applied) and agent.floor_ms <= self._floor_at(self._durable):
                agent.dirty = False
                del self._emptied[key], self._agents[key]
                yield agent.key, None
        # Agents first: what is counted of an event depends on the session as it was then, so after a crash
        # no session may be ahead of its agents' windows.
        agents, self._dirty_agents = self._dirty_agents, []
        for agent in agents:
            if agent.dirty:
                agent.dirty = False
                yield agent.key, agent.encode()
        sessions, self._dirty_sessions = self._dirty_sessions, []
        for record in sessions:
            if record.dirty:
                record.dirty = False
                if record.dropped:
                    behind = min(self._durable.offsets.values(), default=-1)
                    record.dropped = [place for place in record.dropped if place[0] > behind]
                yield record.key, record.encode()

    def value(self, key: bytes) -> bytes | None:
        """The bytes of one key as it is now; None if there is none."""
        name = key[len(AGENT_PREFIX) :].decode()
        record = self._agents.get(name) if key.startswith(AGENT_PREFIX) else self._sessions.get(name)
        return None if record is None else record.encode()

    def marker(self) -> bytes:
        """How far this has come, to be written after everything `dirty` gave."""
        self._given = Progress(dict(self._progress.offsets), self._watermark_ms)
        return self._given.encode()

    def restore(self, key: bytes, value: bytes | None) -> None:
        """Take back what `dirty` gave, before any event. A key may come again: the last one counts."""
        name = key[len(AGENT_PREFIX) :].decode()
        if key.startswith(AGENT_PREFIX):
            self._restore_agent(name, value)
        elif value is None:
            self._sessions.pop(name, None)
            self._husks.pop(name, None)
        else:
            record = self._sessions[name] = SessionRecord.decode(value, self._types)
            self._note_replay(record.applied)
            if record.husk:
                self._husks[name] = record
            else:
                self._husks.pop(name, None)
                self._schedule(name, record)

    def restore_marker(self, value: bytes) -> None:
        """Take back the newest marker, after every key."""
        self._progress = Progress.decode(value)
        self._durable = Progress.decode(value)
        self._watermark_ms = self._progress.watermark_ms
        self._floor_ms = self._floor_at(self._progress)
        self._plan()

    def _restore_agent(self, name: str, value: bytes | None) -> None:
        old = self._agents.pop(name, None)
        self._emptied.pop(name, None)
        for start_ms in old.windows if old is not None else ():
            self._open[start_ms].pop(name, None)
        if value is None:
            return
        agent = self._agents[name] = OpenWindows.decode(value)
        self._note_replay(agent.applied)
        for start_ms in agent.windows:
            self._open.setdefault(start_ms, {})[name] = agent
        if not agent.windows:
            self._emptied[name] = agent

    def _note_replay(self, applied: dict[str, int]) -> None:
        for topic, offset in applied.items():
            self._replay_until[topic] = max(offset, self._replay_until.get(topic, -1))
        self._replaying = True

    def _open_session(
        self, key: str, record: SessionRecord | None, event: AgentEvent, source: Source
    ) -> SessionRecord:
        """The record of a session that is new, or was forgotten and comes back; `record` is what is left of
        it.
        """
        applied = record.restored if record is not None and record.restored is not None else {}
        if record is not None and source.offset <= applied.get(source.topic, -1):
            return record
        facts = SessionFacts(
            tenant=event.tenant,
            session=event.session,
            opened_hour=event.time_ms // HOUR_MS,
            first_offset=source.offset,
            touched_ms=self._watermark_ms,
        )
        if record is None:
            record = self._sessions[key] = SessionRecord(facts=facts)
        else:
            del self._husks[key]
            record.facts = facts
            record.husk = False
            record.due_ms = NEVER
        return record

    def _first_time(self, record: SessionRecord, event_id: str, topic: str, offset: int) -> bool:
        if self._checkpointed:
            record.applied[topic] = offset
            if not record.dirty:
                record.dirty = True
                self._dirty_sessions.append(record)
        digest = xxh64_digest(event_id.encode())[:ID_BYTES]
        seen = record.seen
        if digest in seen:
            if self._checkpointed:
                record.dropped.append((offset, self._index))
                del record.dropped[:-MAX_DROPPED]
            return False
        seen += digest
        if len(seen) > SEEN_BYTES + SEEN_STEP_BYTES:
            del seen[:SEEN_STEP_BYTES]
        return True

    def _begin(self, record: SessionRecord) -> None:
        self._context.wake_ms = self._watermark_ms if record.due_ms == NEVER else None

    def _show(
        self, record: SessionRecord, event: AgentEvent, source: Source, time_ms: int
    ) -> list[SessionPipelineOutput] | None:
        facts = record.facts
        context = self._context
        context.facts = facts
        context.tenant = event.tenant
        context.session = event.session
        context.agent = event.agent
        context.event_id = event.event_id
        context.time_ms = time_ms
        context.watermark_ms = self._watermark_ms
        context.source = source
        slots = record.slots
        found: list[SessionPipelineOutput] | None = None
        for name, update, state_type in self._dispatch.get(event.type, ()):
            state = slots.get(name)
            if state is None:
                state = slots[name] = state_type()
            detections = update(state, event, context)
            if detections:
                found = [*(found or ()), *detections]
        if found is not None:
            self._note_alarm(record, found)
        if self._teller.facts:
            found = [*(found or ()), *self._teller.take()]
        if facts.outcome is not None and not facts.told:
            found = [*(found or ()), *teach(record, (*source, self._index))]
        if context.wake_ms is not None and context.wake_ms < record.due_ms:
            self._schedule(f"{event.tenant}/{event.session}", record)
        return found

    def _take(self, record: SessionRecord, event: Any, source: Source, time_ms: int) -> None:
        """Bring the facts of the session up to date with an event."""
        facts = record.facts
        facts.events += 1
        facts.last_offset = source.offset
        facts.touched_ms = self._watermark_ms
        facts.last_ms = time_ms if time_ms > facts.last_ms else facts.last_ms
        kind = event.type
        if kind not in BACKGROUND:
            facts.last_event_id = event.event_id
            if event.agent != facts.last_agent:
                facts.last_agent = event.agent
                if event.agent not in facts.agents and len(facts.agents) < MAX_AGENTS:
                    facts.agents.append(event.agent)
        take = self._takers.get(kind)
        if take is not None:
            take(record, event, source, time_ms)
        if kind in MADE_UP or event.attributes or event.agent_version is not None:
            known = facts.makeups.get(event.agent)
            makeup = self._slicer.after(known, event)
            if makeup is not known:
                remember_makeup(facts.makeups, event.agent, makeup)

    def _take_llm_call(self, record: SessionRecord, event: Any, _source: Source, time_ms: int) -> None:
        facts = record.facts
        facts.llm_calls += 1
        facts.steps = facts.llm_calls if facts.llm_calls > facts.tool_calls else facts.tool_calls
        sent, received = event.input_tokens, event.output_tokens
        facts.tokens += sent if sent < MAX_CALL_TOKENS else MAX_CALL_TOKENS
        facts.tokens += received if received < MAX_CALL_TOKENS else MAX_CALL_TOKENS
        if event.cost_usd is None:
            facts.cost_unknown_calls += 1
        else:
            facts.cost_usd += min(event.cost_usd, MAX_CALL_USD)
        if event.refusal is not None:
            facts.echo = facts.echoing > 0 and abs(time_ms // 1000 - facts.refused_s) < ECHO_S
            facts.echoing = REFUSAL_ECHO if event.refusal else max(0, facts.echoing - 1)
            if event.refusal and not facts.echo:
                facts.refused_s = time_ms // 1000
        if event.confidence is not None:
            facts.confidence = event.confidence
        _take_status(facts, event, time_ms)
        if not facts.taught and event.status == "ok":
            lesson_of(record).add_llm_call(event)

    def _take_tool_call(self, record: SessionRecord, event: Any, source: Source, time_ms: int) -> None:
        facts = record.facts
        facts.tool_calls += 1
        facts.steps = facts.llm_calls if facts.llm_calls > facts.tool_calls else facts.tool_calls
        _take_status(facts, event, time_ms)
        if event.status != "error":
            facts.effects += event.effect is not None
            if not facts.taught:
                lesson_of(record).add_tool_call(event)
        credential = event.credential
        if credential is not None and name_hash(credential) not in facts.credentials:
            self._teller.use_credential(record, event, (*source, self._index), time_ms)

    def _take_end(self, record: SessionRecord, event: Any, _source: Source, _time_ms: int) -> None:
        record.facts.outcome = event.outcome
        # It is remembered for less long from here on.
        self._context.wake_at(self._watermark_ms)

    def _take_escalation(self, record: SessionRecord, _event: Any, _source: Source, _time_ms: int) -> None:
        record.facts.escalations += 1

    def _take_message(self, record: SessionRecord, event: Any, _source: Source, _time_ms: int) -> None:
        record.facts.clarifications += event.intent == "clarification"

    def _take_evaluation(self, record: SessionRecord, event: Any, _source: Source, _time_ms: int) -> None:
        judged = record.facts.judged
        if event.name in judged or len(judged) < MAX_JUDGED:
            judged[event.name] = event.score

    def _take_deployment(self, _record: SessionRecord, event: Any, source: Source, time_ms: int) -> None:
        place = (*source, self._index)
        self._teller.tell("deployment", event, place, time_ms, component=event.component, name=event.name)

    def _take_start(self, record: SessionRecord, event: Any, source: Source, time_ms: int) -> None:
        """A session that several agents start is started by the first; tools and credentials declared by any
        are declared.
        """
        facts = record.facts
        if event.declared_tools is not None:
            known = facts.declared_tools or b""
            new = {name_hash(tool) for tool in event.declared_tools}
            facts.declared_tools = (known + b"".join(sorted(h for h in new if h not in known)))[
                :MAX_DECLARED_BYTES
            ]
        if event.credential is not None:
            self._teller.declare_credential(record, event, (*source, self._index), time_ms)
        if facts.started:
            return
        if event.parent_session is not None:
            place = (*source, self._index)
            self._teller.tell("spawn", event, place, time_ms, parent_session=event.parent_session)
        facts.started = True
        facts.outcome = None
        facts.start_ms = time_ms
        facts.start_watermark_ms = self._watermark_ms
        facts.user = event.user
        facts.goal = event.goal
        facts.parent_session = event.parent_session
        facts.idle_timeout_ms = event.idle_timeout_ms
        if event.budget is not None:
            facts.token_cap = event.budget.tokens
            facts.step_cap = event.budget.steps
            facts.cost_cap_usd = event.budget.cost_usd
            facts.wall_cap_ms = event.budget.wall_ms
        # Only now can a timer be due sooner than when the record was made.
        self._context.wake_at(self._watermark_ms)

    def _note_alarm(self, record: SessionRecord, found: Iterable[SessionPipelineOutput]) -> None:
        """From a session in which something is wrong nothing is learned."""
        for each in found:
            if isinstance(each, Detection) and is_alarm(each):
                record.facts.taught = True
                record.lesson = None

    def _add_to_window(
        self, key: str, agent: OpenWindows, event: AgentEvent, time_ms: int, facts: SessionFacts
    ) -> None:
        start_ms = time_ms - time_ms % self.window_ms
        floor_ms = agent.floor_ms if agent.floor_ms > self._floor_ms else self._floor_ms
        late = start_ms < floor_ms
        if late:
            start_ms = floor_ms
        window = agent.windows.get(start_ms)
        if window is None:
            window = agent.windows[start_ms] = Window(
                tenant=event.tenant,
                agent=event.agent,
                start_ms=start_ms,
                duration_ms=self.window_ms,
                source_partition=self.partition,
            )
            self._open.setdefault(start_ms, {})[key] = agent
            self._emptied.pop(key, None)
        makeup = facts.makeups.get(event.agent)
        window.add(event, "" if makeup is None else slice_key(makeup), facts)
        if late:
            window.late_events += 1
            self.late += 1

    def _touch_agent(self, agent: OpenWindows) -> None:
        if self._checkpointed and not agent.dirty:
            agent.dirty = True
            self._dirty_agents.append(agent)

    def _close_windows(self, outputs: list[SessionPipelineOutput]) -> None:
        floor_ms = self._floor_at(self._progress)
        if floor_ms <= self._floor_ms:
            return
        self._floor_ms = floor_ms
        for start_ms in sorted(start_ms for start_ms in self._open if start_ms < floor_ms):
            closed: list[Window] = []
            for key, agent in sorted(self._open.pop(start_ms).items()):
                closed.append(agent.windows.pop(start_ms))
                agent.floor_ms = floor_ms
                if agent.windows:
                    self._touch_agent(agent)
                elif self._checkpointed:
                    self._touch_agent(agent)
                    self._emptied[key] = agent
                else:
                    del self._agents[key]
            outputs += closed
            outputs += fleet_windows(closed)
        outputs.append(Mark(self.partition, floor_ms))

    def _floor_at(self, progress: Progress) -> int:
        """Windows that start before this are closed once the watermark has come to that of `progress`."""
        closed_ms = progress.watermark_ms - self.lateness_ms
        return max(0, closed_ms - closed_ms % self.window_ms)

    def _expires_ms(self, facts: SessionFacts) -> float:
        return facts.touched_ms + (self.forget_ms if facts.outcome is None else self.linger_ms)

    def _schedule(self, key: str, record: SessionRecord) -> None:
        """Put the session's next timer on the heap; that later events move it on is seen when it comes up."""
        due_ms = self._expires_ms(record.facts)
        for name, detector, state_type in self._timed:
            state = record.slots.get(name)
            wanted_ms = detector.due_ms(state_type() if state is None else state, record.facts)
            if wanted_ms is not None and wanted_ms < due_ms:
                due_ms = wanted_ms
        record.due_ms = due_ms
        heapq.heappush(self._heap, (due_ms, key))
        self._next_due_ms = min(self._next_due_ms, due_ms)

    def _run_timers(self, key: str, record: SessionRecord, outputs: list[SessionPipelineOutput]) -> None:
        facts = record.facts
        context = self._context
        for name, detector, state_type in self._timed:
            state = record.slots.get(name)
            if state is None:
                state = state_type()
            due_ms = detector.due_ms(state, facts)
            if due_ms is None or due_ms > self._watermark_ms:
                continue
            context.facts = facts
            context.tenant = facts.tenant
            context.session = facts.session
            context.agent = facts.last_agent
            context.time_ms = facts.last_ms
            context.event_id = facts.last_event_id
            context.watermark_ms = self._watermark_ms
            context.source = Source(*self._last_place(record))
            record.slots[name] = state
            found = list(detector.on_timer(state, context))
            self._note_alarm(record, found)
            outputs.extend(found)
            self._touch_session(record)
        if self._expires_ms(facts) <= self._watermark_ms:
            self._forget(key, record)
        else:
            self._schedule(key, record)

    def _last_place(self, record: SessionRecord) -> tuple[str, int, int]:
        topic = next(iter(self._progress.offsets), "agent.events")
        return topic, self.partition, record.facts.last_offset

    def _touch_session(self, record: SessionRecord) -> None:
        if self._checkpointed and not record.dirty:
            record.dirty = True
            self._dirty_sessions.append(record)

    def _forget(self, key: str, record: SessionRecord) -> None:
        """From here on the session is a new one, whenever its bytes are deleted in fact."""
        if not self._checkpointed:
            del self._sessions[key]
            return
        facts = record.facts
        record.facts = SessionFacts(tenant=facts.tenant, session=facts.session)
        record.slots = {}
        record.lesson = None
        record.seen = bytearray()
        record.husk = True
        self._husks[key] = record
        self._touch_session(record)

    def _plan(self) -> None:
        closes_ms = self._floor_ms + self.window_ms + self.lateness_ms
        self._next_due_ms = min(self._heap[0][0] if self._heap else NEVER, closes_ms)


def _take_status(facts: SessionFacts, event: Any, time_ms: int) -> None:
    """Whether the call failed, and whether that tells of anything that an earlier one has not told of."""
    failed = event.status == "error"
    if not (failed or facts.failing):
        return
    tool = event.tool if event.type == "tool.call" else ""
    called = xxh32_intdigest(f"{event.agent}/{tool}".encode())
    if not failed:
        # Only what had failed says by working that it is over.
        facts.failing = 0 if called == facts.failing else facts.failing
        return
    facts.errors += 1
    facts.repeat = called == facts.failing and abs(time_ms // 1000 - facts.failed_s) < ECHO_S
    facts.failing = called
    if not facts.repeat:
        facts.failed_s = time_ms // 1000
