"""Every detector that runs, in the order it runs. A detector that is not named here does not exist."""

from __future__ import annotations

from detectors.base import BehaviourDetector, SessionDetector

SESSION: tuple[SessionDetector, ...] = ()
BEHAVIOUR: tuple[BehaviourDetector, ...] = ()
FLEET: tuple[BehaviourDetector, ...] = ()
ENGINE: tuple[BehaviourDetector, ...] = ()
