"""The whole detection path in memory: backtests, drills and tests run what the stream workers run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from detectors.base import BehaviourDetector, FleetDetector, Halts, Profiles, SessionDetector, Source
from detectors.behaviour_pipeline import BehaviourPipeline, BehaviourPipelineOutput
from detectors.objectives import Objective
from detectors.profile import AgentProfile
from detectors.registry import FLEET, SESSION
from detectors.session_pipeline import SessionPipeline, SessionPipelineOutput
from detectors.windows import Mark
from schemas.detection import Detection
from schemas.event import AgentEvent
from schemas.health import AgentHealth
from schemas.topics import EVENTS, WINDOWS

FAR_MS = 24 * 3_600_000


class Engine:
    """One partition of everything. Time is that of the events: nothing is due until an event says so, or
    `finish`.

    Parameters as of `SessionPipeline` and `BehaviourPipeline`; give `session=()`, `behaviour=()` or
    `fleet=()` to run without some detectors. What it learns of an agent is known to its sessions at once.
    `health` is the newest of each agent, by ``tenant/agent``.
    """

    def __init__(
        self,
        session: Sequence[SessionDetector] = SESSION,
        behaviour: Sequence[BehaviourDetector] | None = None,
        fleet: Sequence[FleetDetector] = FLEET,
        *,
        window_ms: int = 10_000,
        lateness_ms: int = 2_000,
        objectives: Sequence[Objective] = (),
    ) -> None:
        self.profiles = Profiles()
        self.halts = Halts()
        self.sessions = SessionPipeline(
            0,
            session,
            profiles=self.profiles,
            halts=self.halts,
            window_ms=window_ms,
            lateness_ms=lateness_ms,
            checkpointed=False,
        )
        self.behaviour = BehaviourPipeline(1, behaviour, fleet, objectives=objectives)
        self.health: dict[str, AgentHealth] = {}
        self._offset = -1
        self._window_offset = -1

    def process(
        self, event: AgentEvent, source: Source | None = None, broker_time_ms: int | None = None
    ) -> list[Detection]:
        """Take one event in; `source` is where it was read, if anywhere."""
        if source is None:
            self._offset += 1
            source = Source(EVENTS, 0, self._offset)
        outputs = self.sessions.process(event, source, broker_time_ms)
        return self._hand_on(outputs) if outputs else []

    def advance(self, watermark_ms: int) -> list[Detection]:
        """Let event time pass without an event."""
        return self._hand_on(self.sessions.advance(watermark_ms))

    def finish(self) -> list[Detection]:
        """After the last event: let a day pass, so that open windows close and open sessions turn out
        orphaned. That there are no events any more says nothing of the agents.
        """
        outputs = self.sessions.advance(self.sessions.watermark_ms + FAR_MS)
        found = self._hand_on([output for output in outputs if not isinstance(output, Mark)])
        return found + self._take(self.behaviour.finish())

    def run(self, events: Iterable[AgentEvent], *, finish: bool = True) -> Iterator[Detection]:
        """All detections of the events, in the order they are made."""
        for event in events:
            yield from self.process(event)
        if finish:
            yield from self.finish()

    def _hand_on(self, outputs: Sequence[SessionPipelineOutput]) -> list[Detection]:
        detections: list[Detection] = []
        for output in outputs:
            if isinstance(output, Detection):
                detections.append(output)
            else:
                self._window_offset += 1
                place = Source(WINDOWS, 0, self._window_offset)
                detections += self._take(self.behaviour.process(output, place))
        return detections

    def _take(self, found: Iterable[BehaviourPipelineOutput]) -> list[Detection]:
        """The detections; profiles and health are put where they belong."""
        detections: list[Detection] = []
        for each in found:
            if isinstance(each, Detection):
                detections.append(each)
            elif isinstance(each, AgentProfile):
                self.profiles.take(each.key, each.encode())
            else:
                self.health[f"{each.tenant}/{each.agent}"] = each
        return detections
