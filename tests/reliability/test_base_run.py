"""Base run G, against which the others are held: the worker finds what the detectors find without it."""

from __future__ import annotations

from detectors.offline import Engine
from tests.reliability.outcome import Outcome
from tests.reliability.workload import EVENTS, PROVOKED, WINDOW_MS, Workload


def test_the_worker_finds_what_the_detectors_find_in_memory(base: Outcome, workload: Workload) -> None:
    """Four partitions and one, batches and checkpoints or none: the same detections."""
    found = list(Engine(window_ms=WINDOW_MS).run(workload.events, finish=False))
    assert len(workload) == EVENTS
    assert {detection.detector for detection in found} >= PROVOKED
    assert base.detections.keys() == {detection.detection_id for detection in found}
    assert base.state
    assert base.windows
