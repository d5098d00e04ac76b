"""The whole detection path in memory: backtests, drills and tests run what the stream workers run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from detectors.base import BehaviourDetector, FleetDetector, Halts, Profiles, SessionDetector, Source
from detectors.behaviour_pipeline import BehaviourPipeline
from detectors.registry import BEHAVIOUR, ENGINE, FLEET, SESSION
from detectors.session_pipeline import SessionPipeline, SessionPipelineOutput
from schemas.detection import Detection
from schemas.event import AgentEvent
from schemas.topics import EVENTS, WINDOWS

FAR_MS = 24 * 3_600_000


class Engine:
    """One partition of everything. Time is that of the events: nothing is due until an event says so, or
    `finish`.

    Parameters as of `SessionPipeline`; give `session=()`, `behaviour=()` or `fleet=()` to run without some
    detectors. What it learns of an agent is known to its sessions at once.
    """

    def __init__(
        self,
        session: Sequence[SessionDetector] = SESSION,
        behaviour: Sequence[BehaviourDetector] = (*BEHAVIOUR, *ENGINE),
        fleet: Sequence[FleetDetector] = FLEET,
        *,
        window_ms: int = 10_000,
        lateness_ms: int = 2_000,
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
        self.behaviour = BehaviourPipeline(1, behaviour, fleet)
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
        orphaned.
        """
        return self.advance(self.sessions.watermark_ms + FAR_MS)

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
                for found in self.behaviour.process(output, place):
                    if isinstance(found, Detection):
                        detections.append(found)
                    else:
                        self.profiles.take(found.key, found.encode())
        return detections
