"""Every detector that runs, in the order it runs. A detector that is not named here does not exist."""

from __future__ import annotations

from collections.abc import Sequence

from detectors.base import BehaviourDetector, FleetDetector, SessionDetector, SummaryDetector
from detectors.behaviour.activity_collapse import ActivityCollapse
from detectors.behaviour.canary import Canary
from detectors.behaviour.clarification_rate import ClarificationRate
from detectors.behaviour.completion_rate import CompletionRate
from detectors.behaviour.confidence_calibration import ConfidenceCalibration
from detectors.behaviour.cost_per_session import CostPerSession
from detectors.behaviour.embedding_drift import EmbeddingDrift
from detectors.behaviour.error_rate import ErrorRate
from detectors.behaviour.escalation_rate import EscalationRate
from detectors.behaviour.health_score import HealthScore
from detectors.behaviour.judge_score import JudgeScore
from detectors.behaviour.latency import Latency
from detectors.behaviour.output_length import OutputLength
from detectors.behaviour.refusal_rate import RefusalRate
from detectors.behaviour.session_outlier import SessionOutlier
from detectors.behaviour.slice_regression import SliceRegression
from detectors.behaviour.slo_burn import SloBurn
from detectors.behaviour.version_regression import VersionRegression
from detectors.engine.telemetry_gap import TelemetryGap
from detectors.fleet.provider_outage import ProviderOutage
from detectors.fleet.shared_credential import SharedCredential
from detectors.fleet.spawn_storm import SpawnStorm
from detectors.objectives import Objective
from detectors.session.bad_arguments import BadArguments
from detectors.session.budget import Budget
from detectors.session.context_growth import ContextGrowth
from detectors.session.credential_misuse import CredentialMisuse
from detectors.session.disobeyed_control import DisobeyedControl
from detectors.session.fan_out import FanOut
from detectors.session.foreign_arguments import ForeignArguments
from detectors.session.foreign_memory import ForeignMemory
from detectors.session.goal_violation import GoalViolation
from detectors.session.model_mismatch import ModelMismatch
from detectors.session.orphaned_session import OrphanedSession
from detectors.session.ping_pong import PingPong
from detectors.session.result_contract import ResultContract
from detectors.session.retry_storm import RetryStorm
from detectors.session.spend_forecast import SpendForecast
from detectors.session.stale_memory import StaleMemory
from detectors.session.tool_loop import ToolLoop
from detectors.session.truncation import Truncation
from detectors.session.unapproved_action import UnapprovedAction
from detectors.session.unconfirmed_effect import UnconfirmedEffect
from detectors.session.undeclared_tool import UndeclaredTool

SESSION: tuple[SessionDetector, ...] = (
    UndeclaredTool(),
    ToolLoop(),
    RetryStorm(),
    PingPong(),
    CredentialMisuse(),
    DisobeyedControl(),
    Budget(),
    SpendForecast(),
    ContextGrowth(),
    ForeignArguments(),
    UnapprovedAction(),
    GoalViolation(),
    BadArguments(),
    ResultContract(),
    FanOut(),
    UnconfirmedEffect(),
    ForeignMemory(),
    StaleMemory(),
    ModelMismatch(),
    Truncation(),
    OrphanedSession(),
)
BEHAVIOUR: tuple[BehaviourDetector, ...] = (
    RefusalRate(),
    ActivityCollapse(),
    Canary(),
    EscalationRate(),
    ErrorRate(),
    CompletionRate(),
    ClarificationRate(),
    JudgeScore(),
    ConfidenceCalibration(),
    Latency(),
    CostPerSession(),
    OutputLength(),
    EmbeddingDrift(),
    VersionRegression(),
    SliceRegression(),
    SloBurn(),
    HealthScore(),
)
"""Over an agent's behaviour, in the order they are shown a frame: the composite comes last."""
FLEET: tuple[FleetDetector, ...] = (SpawnStorm(), SharedCredential())
"""Of facts of sessions, by tenant."""
FLEET_WINDOWS: tuple[BehaviourDetector, ...] = (ProviderOutage(),)
"""Of what all agents of a tenant did together."""
SUMMARIES: tuple[SummaryDetector, ...] = (SessionOutlier(),)
"""Of an agent's sessions that have ended."""
ENGINE: tuple[BehaviourDetector, ...] = (TelemetryGap(),)


def behaviour(objectives: Sequence[Objective] = ()) -> tuple[BehaviourDetector, ...]:
    """`BEHAVIOUR`, held to objectives."""
    return tuple(SloBurn(tuple(objectives)) if isinstance(each, SloBurn) else each for each in BEHAVIOUR)
