"""Every detector that runs, in the order it runs. A detector that is not named here does not exist."""

from __future__ import annotations

from detectors.base import BehaviourDetector, FleetDetector, SessionDetector
from detectors.behaviour.refusal_rate import RefusalRate
from detectors.engine.telemetry_gap import TelemetryGap
from detectors.session.budget import Budget
from detectors.session.context_growth import ContextGrowth
from detectors.session.disobeyed_control import DisobeyedControl
from detectors.session.foreign_arguments import ForeignArguments
from detectors.session.orphaned_session import OrphanedSession
from detectors.session.ping_pong import PingPong
from detectors.session.retry_storm import RetryStorm
from detectors.session.spend_forecast import SpendForecast
from detectors.session.tool_loop import ToolLoop
from detectors.session.undeclared_tool import UndeclaredTool

SESSION: tuple[SessionDetector, ...] = (
    UndeclaredTool(),
    ToolLoop(),
    RetryStorm(),
    PingPong(),
    DisobeyedControl(),
    Budget(),
    SpendForecast(),
    ContextGrowth(),
    ForeignArguments(),
    OrphanedSession(),
)
BEHAVIOUR: tuple[BehaviourDetector, ...] = (RefusalRate(),)
FLEET: tuple[FleetDetector, ...] = ()
ENGINE: tuple[BehaviourDetector, ...] = (TelemetryGap(),)
