"""What a detector is, what it is given, and the one way to build a detection.

A session detector sees the events of one session in order; a behaviour detector sees the merged windows of
one agent in order. Both are pure: parameters in the constructor, everything learned in a small `State` that
encodes to bytes, time from the events. A detector reports a cause once: it remembers what it has said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final, Literal, NamedTuple, Protocol, runtime_checkable

import msgspec
import xxhash

from detectors.activity import Activity
from detectors.bounded import DIGEST_BYTES
from detectors.control import Halts, Held
from detectors.profile import AgentProfile, Profiles
from detectors.slices import Makeup
from detectors.summary import Fact, SessionSummary
from detectors.windows import Window
from schemas.base import from_epoch_ms
from schemas.control import ControlState
from schemas.detection import Detection, Evidence, OffsetRange, Severity
from schemas.event import AgentEvent
from schemas.health import AgentHealth

Finding = Detection | AgentHealth
"""What a behaviour detector may return."""

NOTHING: Final[tuple[Detection, ...]] = ()
HALT: Final = ControlState(mode="halt")
MAX_EVIDENCE_IDS: Final = 16


class Source(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


class SessionFacts(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What every session detector may want to know of the session: taken in once an event, before them.

    Times are epoch milliseconds. `touched_ms` is the watermark after the last event: timers count from there,
    so that an agent with a skewed clock is neither early nor late. `declared_tools` and `credentials` (those
    declared at a start) are the names' hashes, joined; `foreign_credentials` are hashes of agent and
    credential of those used undeclared.
    `makeups` is what each agent is made of as far as it has said, `confidence` the last one stated, `echo`
    whether the last call that could have refused came within `echoing` calls and a while of a refusal,
    `repeat` whether the last one that failed is a repetition: the same, hashed as `failing`, failed a while
    before. `refused_s` and `failed_s` are of the last that were neither. `judged` the last scores of a few
    evaluations, `errors` calls that failed, `effects` tool calls that succeeded and name an effect.
    `taught`: there is nothing more to learn from this session; `told`: it has ended, and was summed up.
    `opened_hour` (hours since 1970, of the first event) tells a session from one of the same name that was
    forgotten before.
    """

    tenant: str
    session: str
    agents: list[str] = []
    last_agent: str = ""
    started: bool = False
    start_ms: int = 0
    start_watermark_ms: int = 0
    opened_hour: int = 0
    first_offset: int = 0
    last_offset: int = 0
    last_ms: int = 0
    touched_ms: int = 0
    last_event_id: str = ""
    outcome: str | None = None
    events: int = 0
    llm_calls: int = 0
    tool_calls: int = 0
    steps: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    cost_unknown_calls: int = 0
    declared_tools: bytes | None = None
    token_cap: int | None = None
    step_cap: int | None = None
    cost_cap_usd: float | None = None
    wall_cap_ms: float | None = None
    user: str | None = None
    goal: str | None = None
    parent_session: str | None = None
    idle_timeout_ms: float | None = None
    credentials: bytes = b""
    foreign_credentials: bytes = b""
    makeups: dict[str, Makeup] = {}
    confidence: float | None = None
    echo: bool = False
    echoing: int = 0
    refused_s: int = 0
    repeat: bool = False
    failing: int = 0
    failed_s: int = 0
    judged: dict[str, float] = {}
    errors: int = 0
    effects: int = 0
    escalations: int = 0
    clarifications: int = 0
    taught: bool = False
    told: bool = False

    def declares(self, tool: str) -> bool:
        """Whether the tool was declared at the start of the session, or nothing was."""
        return self.declared_tools is None or name_hash(tool) in self.declared_tools


def name_hash(name: str) -> bytes:
    """Four bytes for a name, so that state does not grow with its length. Among the hundreds of names that a
    session holds, one in some ten million is taken for another.
    """
    return xxhash.xxh64_digest(name.encode())[:DIGEST_BYTES]


class Beginning(msgspec.Struct, array_like=True):
    """Where something began that a detector follows: the event, its time and its offset."""

    event_id: str
    time_ms: float
    offset: int


class Context:
    """What both kinds of detector are given, and the builder of detections."""

    tenant: str
    session: str | None
    agent: str
    time_ms: float
    event_id: str
    source: Source

    def here(self) -> Beginning:
        """The event or window being shown, to come back to as the beginning of something."""
        return Beginning(self.event_id, self.time_ms, self.source.offset)

    def _scope(self, agent: str) -> str:
        """Within what a trigger tells causes apart."""
        return f"{self.tenant}/{agent if self.session is None else self.session}"

    def detection(  # noqa: PLR0913 - the fields of the contract, by keyword
        self,
        detector: Detector,
        *,
        trigger: str,
        severity: Severity,
        metric: str,
        sample_size: int,
        summary: str,
        score: float | None = None,
        agent: str | None = None,
        observed: float | None = None,
        expected: float | None = None,
        threshold: float | None = None,
        time_ms: float | None = None,
        since: Beginning | None = None,
        event_ids: Sequence[str] | None = None,
        suggested: ControlState | None = None,
    ) -> Detection:
        """Build a detection at the context's time and of its agent, by default. What it rests on runs from
        `since` to here, and its evidence is those two events unless `event_ids` says more.

        `trigger` tells causes within one session or agent apart. It must be the same whenever and however
        often the same input is read: a name, a hash of a call, an event time; never arrival order, offset or
        clock.
        """
        when_ms = self.time_ms if time_ms is None else time_ms
        who = self.agent if agent is None else agent
        begun = self.here() if since is None else since
        if event_ids is None:
            event_ids = list(dict.fromkeys((begun.event_id, self.event_id)))
        key = self._scope(who)
        return Detection(
            detection_id=detection_id(detector.name, detector.version, key, f"{severity}/{trigger}"),
            detector=detector.name,
            detector_version=detector.version,
            tenant=self.tenant,
            agent=who,
            session=self.session,
            severity=severity,
            time=from_epoch_ms(when_ms),
            onset=from_epoch_ms(min(begun.time_ms, when_ms)),
            metric=metric,
            observed=observed,
            expected=expected,
            threshold=threshold,
            score=score if score is not None else observed if observed is not None else 1.0,
            sample_size=sample_size,
            evidence=Evidence(
                event_ids=list(event_ids)[-MAX_EVIDENCE_IDS:],
                ranges=[
                    OffsetRange(
                        topic=self.source.topic,
                        partition=self.source.partition,
                        from_offset=min(begun.offset, self.source.offset),
                        to_offset=self.source.offset,
                    )
                ],
            ),
            summary=summary[:1024],
            runbook=detector.name,
            suggested=suggested,
        )


class FleetContext(Context):
    """A fact from some session of a tenant. Causes are told apart within the tenant: whichever agent's fact
    completes one, it is the same detection.
    """

    session: None

    def _scope(self, agent: str) -> str:
        return f"{self.tenant}/"


def detection_id(detector: str, version: int, key: str, trigger: str) -> str:
    """The id of a detection: 32 hex digits, the same for the same input."""
    return xxhash.xxh3_128_hexdigest("\x1f".join((detector, str(version), key, trigger)).encode())


class SessionContext(Context):
    """The session as of the event being shown. One object is reused: a detector keeps nothing of it."""

    session: str
    facts: SessionFacts
    watermark_ms: int
    wake_ms: float | None = None

    def __init__(self, profiles: Profiles | None = None, halts: Halts | None = None) -> None:
        self._profiles = Profiles() if profiles is None else profiles
        self._halts = Halts() if halts is None else halts

    def _scope(self, agent: str) -> str:
        """A name that is used again is another session: what is found in it must be heard again."""
        return f"{self.tenant}/{self.session}/{self.facts.opened_hour}"

    @property
    def profile(self) -> AgentProfile | None:
        """What is normal for the agent of the event being shown. None until enough healthy sessions of it
        are known. A detection that rests on it needs a trigger made of the event alone: `detectors.profile`.
        """
        return self._profiles.of(f"{self.tenant}/{self.agent}")

    @property
    def held(self) -> Held | None:
        """The halt in force for the agent of the event being shown. A detection that rests on it needs a
        trigger made of the command and the agent alone: `detectors.control`.
        """
        return self._halts.of(self.tenant, self.agent, self.session)

    def wake_at(self, watermark_ms: float) -> None:
        """Have `on_timer` called once the watermark gets there (`due_ms` must say so too)."""
        if self.wake_ms is None or watermark_ms < self.wake_ms:
            self.wake_ms = watermark_ms


class Standing(msgspec.Struct, frozen=True):
    """How an agent stands in one respect, as a detector sees it now. `deviation` is how far from normal: 0
    not at all, 1 and more what the detector warns of.
    """

    verdict: Literal["healthy", "warning", "critical", "cannot tell"]
    metric: str
    observed: float | None = None
    expected: float | None = None
    deviation: float = 0.0


class WindowContext(Context):
    """One agent and the frame shown, or the time that has come. `source` is the last window record in it,
    `activity` all of its slices together, `standings` what each detector said last of the agent.
    """

    session: None
    from_offset: int
    activity: Activity
    standings: dict[str, Standing]

    def since(self, began_ms: float) -> Beginning:
        """For a detection of what began at a time."""
        return Beginning("", began_ms, self.from_offset)


class Detector(Protocol):
    """What all detectors have. `name` is also the runbook's. A new `version` starts with an empty state."""

    name: ClassVar[str]
    version: ClassVar[int]

    @property
    def State(self) -> type[Any]:  # noqa: N802 - a class nested in the detector
        """A msgspec.Struct: the state before anything was seen."""


class SessionDetector(Detector, Protocol):
    """Checks what must hold inside a session. `State()` must be the state before the first event.

    `wants` are the event types `update` is called with; no other event costs it anything.
    """

    wants: ClassVar[tuple[str, ...]]

    @property
    def State(self) -> type[Any]:  # noqa: N802 - a class nested in the detector
        """A msgspec.Struct."""

    def update(self, state: Any, event: Any, context: SessionContext) -> Iterable[Detection]:
        """Take one event in, after `context.facts` has; return `NOTHING` or what it completes."""


@runtime_checkable
class TimedSessionDetector(SessionDetector, Protocol):
    """A session detector that also notices what does not happen."""

    def due_ms(self, state: Any, facts: SessionFacts) -> float | None:
        """The watermark at which `on_timer` is wanted, as things stand. None: not at all."""

    def on_timer(self, state: Any, context: SessionContext) -> Iterable[Detection]:
        """The watermark has come to `due_ms`. Must change the state so that `due_ms` moves on."""


class BehaviourDetector(Detector, Protocol):
    """Watches one agent through frames: closed windows joined until they hold enough, in order of time.
    Nothing comes while the agent does nothing.
    """

    @property
    def State(self) -> type[Any]:  # noqa: N802 - a class nested in the detector
        """A msgspec.Struct."""

    def update(self, state: Any, window: Window, context: WindowContext) -> Iterable[Finding]:
        """Take one frame in; return `NOTHING` or what it completes."""


@runtime_checkable
class TimedBehaviourDetector(BehaviourDetector, Protocol):
    """A behaviour detector that also notices what does not happen."""

    def due_ms(self, state: Any) -> float | None:
        """The event time at which `on_timer` is wanted, as things stand. None: not at all."""

    def on_timer(self, state: Any, context: WindowContext) -> Iterable[Finding]:
        """Event time has come to `due_ms`, which `context.time_ms` is; frames that began before it have been
        shown. Must change the state so that `due_ms` moves on.
        """


class SummaryDetector(Detector, Protocol):
    """Watches one agent through its sessions that have ended, in order of their ends. Of an agent that ends
    very many at a time, a sample comes.
    """

    def update(self, state: Any, summary: SessionSummary, context: WindowContext) -> Iterable[Detection]:
        """Take one session in; return `NOTHING` or what it completes."""


class FleetDetector(Detector, Protocol):
    """Watches all agents of a tenant through facts of their sessions, at once and in the order they come.

    Facts of one partition come in order; those of several interleave anyhow, so what is found, and its
    trigger, must not depend on how. A fact that comes again is not shown again. `wants` are kinds of facts.
    """

    wants: ClassVar[tuple[str, ...]]

    @property
    def State(self) -> type[Any]:  # noqa: N802 - a class nested in the detector
        """A msgspec.Struct."""

    def update(self, state: Any, fact: Fact, context: FleetContext) -> Iterable[Detection]:
        """Take one fact in; return `NOTHING` or what it completes."""


def slot(detector: Detector) -> str:
    """The name a detector's state is stored under."""
    return f"{detector.name}/{detector.version}"


__all__ = [
    "HALT",
    "NOTHING",
    "AgentEvent",
    "AgentProfile",
    "Beginning",
    "BehaviourDetector",
    "Context",
    "Detection",
    "Detector",
    "Fact",
    "Finding",
    "FleetContext",
    "FleetDetector",
    "Halts",
    "Held",
    "Profiles",
    "SessionContext",
    "SessionDetector",
    "SessionFacts",
    "SessionSummary",
    "Source",
    "Standing",
    "SummaryDetector",
    "TimedBehaviourDetector",
    "TimedSessionDetector",
    "Window",
    "WindowContext",
    "detection_id",
    "name_hash",
    "slot",
]
