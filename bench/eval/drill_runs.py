"""Drills of behaviour, played through the whole engine without a bus, and what it saw on the way."""

from __future__ import annotations

from dataclasses import dataclass

from detectors.base import Source
from detectors.behaviour_pipeline import BehaviourPipeline, BehaviourPipelineOutput
from detectors.events import from_model
from detectors.offline import Engine
from detectors.windows import Window, WindowRecord
from drills.done import Done
from drills.offline import play
from drills.score import Score, Seen, score
from drills.script import Drill
from schemas.base import epoch_ms
from schemas.detection import Detection
from schemas.event import AGENT_EVENT

START_MS = 1_780_300_800_000.0
"""A Monday, 08:00 UTC."""


@dataclass(frozen=True, slots=True)
class Played:
    """One seed of a drill: its result, the detections, the windows, and when the failure began and ended.

    `first` is the first detection by a detector of the drill.
    """

    seed: int
    result: Score
    first: Detection | None
    windows: list[Window]
    onset_ms: float
    end_ms: float


class Recorded(BehaviourPipeline):
    """The behaviour pipeline, and the windows that came through it."""

    def __init__(self) -> None:
        super().__init__(1)
        self.windows: list[Window] = []

    def process(self, item: WindowRecord, source: Source) -> list[BehaviourPipelineOutput]:
        if isinstance(item, Window) and item.agent:
            self.windows.append(item)
        return super().process(item, source)


def run(drill: Drill, seed: int) -> Played:
    """Plays a drill to its end; no gate says no, so that the whole failure is seen."""
    engine = Engine(window_ms=1_000)
    recorded = engine.behaviour = Recorded()
    done: list[Done] = []
    found: list[Detection] = []
    for act, fields in play(drill, seed=seed, run=f"r{seed}", start_ms=START_MS):
        event = from_model(AGENT_EVENT.validate_python(fields))
        done.append(Done(act, event.event_id, event.time_ms, event.time_ms))
        found += engine.process(event)
    found += engine.finish()
    told = [one for one in found if one.severity != "info"]
    seen = [
        Seen(one.detector, one.agent, epoch_ms(one.time), epoch_ms(one.time), one.summary) for one in told
    ]
    faulty = [entry.event_ms for entry in done if entry.act.faulty]
    return Played(
        seed=seed,
        result=score(drill, done, seen, ordered_ms=None, stopped_ms=0.0),
        first=next((one for one in told if one.detector in drill.detectors), None),
        windows=recorded.windows,
        onset_ms=min(faulty),
        end_ms=done[-1].event_ms,
    )
