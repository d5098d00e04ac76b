"""agent.windows → agent.detections, agent.profiles, agent.health, agent.events.dead: what an agent's windows
say, over all partitions, what its healthy sessions teach, and what shows in the fleet only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from detectors import windows
from detectors.base import Source
from detectors.objectives import Objective
from detectors.pipeline import BehaviourPipeline
from detectors.profile import AgentProfile
from schemas import topics
from schemas.dead_letter import DEAD_LETTER
from schemas.health import HEALTH, AgentHealth
from streams.decode import Flaw, dead_letter
from streams.sessions import detection_output
from streams.stage import Output, RecordBatch, Stage

NAME = "behaviour"


def stage(*, source_partitions: int, objectives: Sequence[Objective] = ()) -> Stage:
    """The stage.

    Args:
        source_partitions: partitions of `agent.events`: a window is closed when the marks of all of them have
            passed its end.
        objectives: what agents are held to.
    """
    return Stage(
        name=NAME,
        sources=(topics.WINDOWS,),
        make=lambda _partition: BehaviourProcessor(
            BehaviourPipeline(source_partitions, objectives=objectives)
        ),
        outputs=(topics.DETECTIONS, topics.PROFILES, topics.HEALTH, topics.DEAD),
    )


class BehaviourProcessor:
    """One partition of `agent.windows`; see `streams.stage.Processor`."""

    def __init__(self, pipeline: BehaviourPipeline) -> None:
        self._pipeline = pipeline
        self.restore = pipeline.restore
        self.restore_marker = pipeline.restore_marker
        self.dirty = pipeline.dirty
        self.value = pipeline.value
        self.marker = pipeline.marker

    def process(self, batch: RecordBatch) -> Iterator[Output]:
        topic, partition = batch.topic, batch.partition
        for record in batch.records:
            try:
                item = windows.decode(record.value or b"")
            except msgspec.DecodeError as error:
                flaw = Flaw("malformed", f"not a window, a mark, a summary or a fact: {error}"[:1024])
                letter = dead_letter(flaw, record.value, topic, partition, record.offset, record.timestamp)
                yield Output(topics.DEAD, record.key, DEAD_LETTER.dump_json(letter))
                continue
            for found in self._pipeline.process(item, Source(topic, partition, record.offset)):
                if isinstance(found, AgentProfile):
                    yield Output(topics.PROFILES, found.key.encode(), found.encode())
                elif isinstance(found, AgentHealth):
                    key = topics.agent_key(found.tenant, found.agent)
                    yield Output(topics.HEALTH, key, HEALTH.dump_json(found))
                else:
                    yield detection_output(found)

    def tick(self, broker_now_ms: int) -> Iterable[Output]:
        """Nothing: the marks of the sessions stage are this stage's clock."""
        return ()
