"""Events in, detections and window summaries out; no Kafka, no clock.

`SessionPipeline` (one a partition of `agent.events`) runs the session detectors and sums events up into
windows. `BehaviourPipeline` (one a partition of `agent.windows`) merges the windows of all source partitions
and runs the detectors of behaviour. `detectors.offline.Engine` puts both together in memory.

Both are driven the same way by whoever keeps their state: `process` record by record; at a checkpoint `dirty`
then `marker`, and those are durable (marker last) before the next `dirty` is asked for; after a crash
`restore` for every key, `restore_marker`, and the source read again from after the marker. A key may be ahead
of the marker then: it skips what it has applied. Outputs are a function of the records, so a replay repeats
them.
"""

from __future__ import annotations

from detectors.behaviour_pipeline import BehaviourPipeline
from detectors.session_pipeline import SessionPipeline, SessionPipelineOutput

__all__ = ["BehaviourPipeline", "SessionPipeline", "SessionPipelineOutput"]
