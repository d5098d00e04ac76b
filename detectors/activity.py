"""What an agent did, counted: the mutable counterpart of `schemas.window.Activity`, one for each combination
of slices. Merging is associative and commutative: every field is an integer sum. What one event can add is
capped, so that sums stay within 64 bits whatever an agent claims.

Some of what is counted when a session ends, or is judged, was said earlier in it: that comes from the
session's facts.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log1p
from typing import Any, Final, TypeVar

import msgspec

from detectors.bins import count_in, length_bin, log_bin, merge_bins
from detectors.bounded import Mergeable, count_under, merge_under
from detectors.embeddings import EmbeddingSums
from detectors.failures import is_throttled
from detectors.slices import OTHER

MAX_NAMES: Final = 64
MAX_EMBEDDINGS: Final = 4
MAX_CALL_S: Final = 1e4
MAX_CALL_TOKENS: Final = 10**9
MAX_CALL_USD: Final = 1e6
CALIBRATION_BINS: Final = 10
SCORE_BINS: Final = 20
RIGHT: Final = {"completed": True, "failed": False, "refused": False, "abandoned": False}
"""What an outcome says of the answers in the session; others say nothing."""


def score_boundary(place: float) -> float:
    """The score at which a bin begins."""
    return place / SCORE_BINS


class Moments(msgspec.Struct, omit_defaults=True):
    """Count, sum and sum of squares, the sums in micro-units."""

    count: int = 0
    sum_micro: int = 0
    sum_squares_micro: int = 0

    def add(self, value: float) -> None:
        micro = value * 1e6
        self.count += 1
        self.sum_micro += int(micro + 0.5)
        self.sum_squares_micro += int(value * micro + 0.5)

    def merge(self, other: Moments) -> None:
        self.count += other.count
        self.sum_micro += other.sum_micro
        self.sum_squares_micro += other.sum_squares_micro


class Scores(Moments, omit_defaults=True):
    """Moments, and counts by twentieths."""

    bins: dict[int, int] = {}

    def add(self, value: float) -> None:
        Moments.add(self, value)
        count_in(self.bins, min(int(value * SCORE_BINS), SCORE_BINS - 1))

    def merge(self, other: Moments) -> None:
        Moments.merge(self, other)
        if isinstance(other, Scores):
            merge_bins(self.bins, other.bins)


class CallCounts(msgspec.Struct, omit_defaults=True):
    """Calls, and how many of them failed."""

    calls: int = 0
    errors: int = 0

    def add(self, failed: bool) -> None:
        self.calls += 1
        self.errors += failed

    def merge(self, other: CallCounts) -> None:
        self.calls += other.calls
        self.errors += other.errors


class ToolUse(msgspec.Struct, omit_defaults=True):
    """Calls of a tool, failures, and how long calls took; `duration_bins` are log bins of milliseconds."""

    calls: int = 0
    errors: int = 0
    duration_s: Moments = msgspec.field(default_factory=Moments)
    duration_bins: dict[int, int] = {}

    def merge(self, other: ToolUse) -> None:
        self.calls += other.calls
        self.errors += other.errors
        self.duration_s.merge(other.duration_s)
        merge_bins(self.duration_bins, other.duration_bins)


class CalibrationBin(msgspec.Struct, omit_defaults=True):
    """Answers of like confidence, the confidences' sum, and how many were right."""

    count: int = 0
    confidence_micro: int = 0
    right: int = 0

    def merge(self, other: CalibrationBin) -> None:
        self.count += other.count
        self.confidence_micro += other.confidence_micro
        self.right += other.right


class Calibration(msgspec.Struct):
    """Bins by tenth of confidence; a mapping on the wire."""

    bins: dict[int, CalibrationBin] = {}

    def add(self, confidence: float, right: bool) -> None:
        place = min(int(confidence * CALIBRATION_BINS), CALIBRATION_BINS - 1)
        held = self.bins.get(place)
        if held is None:
            held = self.bins[place] = CalibrationBin()
        held.count += 1
        held.confidence_micro += int(confidence * 1e6 + 0.5)
        held.right += right

    def merge(self, other: Calibration) -> None:
        for place, theirs in other.bins.items():
            mine = self.bins.get(place)
            if mine is None:
                mine = self.bins[place] = CalibrationBin()
            mine.merge(theirs)


class Activity(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Fields as in `schemas.window.Activity`."""

    llm_calls: int = 0
    llm_errors: int = 0
    throttled: int = 0
    refusals: int = 0
    refusals_known: int = 0
    echo_calls: int = 0
    echo_refusals: int = 0
    repeat_errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_known_calls: int = 0
    cost_unknown_calls: int = 0
    cost_usd_micro: int = 0
    output_tokens_bins: dict[int, int] = {}
    llm_duration_bins: dict[int, int] = {}
    ttft_s: Moments = msgspec.field(default_factory=Moments)
    tool_calls: int = 0
    tool_errors: int = 0
    effects: int = 0
    tools: dict[str, ToolUse] = {}
    retrievals: int = 0
    retrieved_documents: int = 0
    escalations: int = 0
    messages: dict[str, int] = {}
    sessions_started: int = 0
    outcomes: dict[str, int] = {}
    sessions_escalated: int = 0
    sessions_clarified: int = 0
    session_cost_bins: dict[int, int] = {}
    session_work: Moments = msgspec.field(default_factory=Moments)
    evaluations: dict[str, Scores] = {}
    evaluators: dict[str, CallCounts] = {}
    canaries: dict[str, CallCounts] = {}
    feedback: dict[str, int] = {}
    calibration: dict[str, Calibration] = {}
    judged: dict[str, CallCounts] = {}
    embeddings: dict[str, EmbeddingSums] = {}

    @property
    def sessions_ended(self) -> int:
        """Sessions that ended, whatever the outcome."""
        return sum(self.outcomes.values())

    def add(self, event: Any, facts: Any) -> str | None:
        """Count one event of the session of `facts`. Absent facts are not counted as their opposite.

        Returns what the event is an example of, if it is one to keep.
        """
        adder = _ADDERS.get(event.type)
        return None if adder is None else adder(self, event, facts)

    def merge(self, other: Activity) -> None:
        """Add `other`, which is left as it was."""
        for name in _SUMS:
            theirs = getattr(other, name)
            if theirs:
                setattr(self, name, getattr(self, name) + theirs)
        for name in _COUNTS:
            theirs = getattr(other, name)
            if theirs:
                merge_bins(getattr(self, name), theirs)
        for name, make, most, rest in _NAMED:
            theirs = getattr(other, name)
            if theirs:
                merge_under(getattr(self, name), theirs, make, most=most, rest=rest)
        if other.ttft_s.count:
            self.ttft_s.merge(other.ttft_s)
        if other.session_work.count:
            self.session_work.merge(other.session_work)


Named = TypeVar("Named", bound=Mergeable)

_SUMS: Final = tuple(
    field.name for field in msgspec.structs.fields(Activity) if field.type is int or field.type == "int"
)
_COUNTS: Final = (
    "output_tokens_bins",
    "llm_duration_bins",
    "messages",
    "outcomes",
    "session_cost_bins",
    "feedback",
)
_NAMED: Final[tuple[tuple[str, Any, int, str | None], ...]] = (
    ("tools", ToolUse, MAX_NAMES, OTHER),
    ("evaluations", Scores, MAX_NAMES, OTHER),
    ("evaluators", CallCounts, MAX_NAMES, OTHER),
    ("canaries", CallCounts, MAX_NAMES, OTHER),
    ("calibration", Calibration, MAX_NAMES, OTHER),
    ("judged", CallCounts, MAX_NAMES, OTHER),
    # Embeddings of different models cannot be added: what there is no room for is left out.
    ("embeddings", EmbeddingSums, MAX_EMBEDDINGS, None),
)


def _add_session_start(activity: Activity, _event: Any, _facts: Any) -> None:
    activity.sessions_started += 1


def _add_session_end(activity: Activity, event: Any, facts: Any) -> None:
    outcome = event.outcome
    activity.outcomes[outcome] = activity.outcomes.get(outcome, 0) + 1
    if facts.escalations or outcome == "escalated":
        activity.sessions_escalated += 1
    if facts.clarifications:
        activity.sessions_clarified += 1
    activity.session_work.add(log1p(facts.tool_calls) + log1p(facts.effects))
    if facts.llm_calls and not facts.cost_unknown_calls:
        count_in(activity.session_cost_bins, log_bin(facts.cost_usd * 1e6))
    if outcome in RIGHT:
        _calibrate(activity, "outcome", facts, right=RIGHT[outcome])


def _add_llm_call(activity: Activity, event: Any, facts: Any) -> str | None:
    activity.llm_calls += 1
    sent, received, refusal, cost_usd = event.input_tokens, event.output_tokens, event.refusal, event.cost_usd
    activity.input_tokens += sent if sent < MAX_CALL_TOKENS else MAX_CALL_TOKENS
    activity.output_tokens += received if received < MAX_CALL_TOKENS else MAX_CALL_TOKENS
    if refusal is not None:
        activity.refusals_known += 1
        activity.refusals += refusal
        if facts.echo:
            activity.echo_calls += 1
            activity.echo_refusals += refusal
    if cost_usd is None:
        activity.cost_unknown_calls += 1
    else:
        activity.cost_known_calls += 1
        activity.cost_usd_micro += int((cost_usd if cost_usd < MAX_CALL_USD else MAX_CALL_USD) * 1e6 + 0.5)
    if event.status == "error":
        activity.llm_errors += 1
        activity.repeat_errors += facts.repeat
        throttled = is_throttled(event.error_type)
        activity.throttled += throttled
        return "throttled" if throttled else "error"
    count_in(activity.output_tokens_bins, length_bin(received))
    if event.duration_ms is not None:
        count_in(activity.llm_duration_bins, log_bin(event.duration_ms))
    if event.ttft_ms is not None:
        activity.ttft_s.add(min(event.ttft_ms / 1000, MAX_CALL_S))
    if event.embedding:
        label = f"{event.response_model or event.request_model}/{len(event.embedding)}"
        sums = count_under(activity.embeddings, label, EmbeddingSums, most=MAX_EMBEDDINGS, rest=None)
        if sums is not None:
            sums.add(event.embedding)
    return "refusal" if refusal else None


def _add_tool_call(activity: Activity, event: Any, facts: Any) -> str | None:
    activity.tool_calls += 1
    use = _of(activity.tools, event.tool, ToolUse)
    use.calls += 1
    if event.duration_ms is not None:
        use.duration_s.add(min(event.duration_ms / 1000, MAX_CALL_S))
        count_in(use.duration_bins, log_bin(event.duration_ms))
    if event.status == "error":
        activity.tool_errors += 1
        activity.repeat_errors += facts.repeat
        use.errors += 1
        return "throttled" if is_throttled(event.error_type) else "error"
    if event.effect is not None:
        activity.effects += 1
    return None


def _add_retrieval(activity: Activity, event: Any, _facts: Any) -> None:
    activity.retrievals += 1
    activity.retrieved_documents += min(event.documents, MAX_CALL_TOKENS)


def _add_message(activity: Activity, event: Any, _facts: Any) -> str | None:
    intent: str = event.intent
    activity.messages[intent] = activity.messages.get(intent, 0) + 1
    return intent if intent == "clarification" else None


def _add_escalation(activity: Activity, _event: Any, _facts: Any) -> str:
    activity.escalations += 1
    return "escalation"


def _add_evaluation(activity: Activity, event: Any, facts: Any) -> str | None:
    _of(activity.evaluations, event.name, Scores).add(event.score)
    if event.evaluator is not None:
        _of(activity.evaluators, event.evaluator, CallCounts).add(event.score < 0.5)
    right = event.score >= 0.5
    _calibrate(activity, event.name, facts, right=right)
    return None if right else "low_score"


def _add_canary(activity: Activity, event: Any, _facts: Any) -> str | None:
    _of(activity.canaries, event.canary, CallCounts).add(not event.passed)
    return None if event.passed else "canary"


def _add_feedback(activity: Activity, event: Any, facts: Any) -> None:
    kind = event.kind
    if kind == "thumb" and event.value is not None:
        up = event.value > 0
        kind = "thumb_up" if up else "thumb_down"
        _calibrate(activity, "thumb", facts, right=up)
        for name, score in facts.judged.items():
            _of(activity.judged, name, CallCounts).add((score >= 0.5) != up)
    activity.feedback[kind] = activity.feedback.get(kind, 0) + 1


def _calibrate(activity: Activity, source: str, facts: Any, *, right: bool) -> None:
    if facts.confidence is not None:
        _of(activity.calibration, source, Calibration).add(facts.confidence, right)


def _of(kept: dict[str, Named], label: str, make: type[Named]) -> Named:
    found = kept.get(label)
    if found is None:
        found = count_under(kept, label, make, most=MAX_NAMES, rest=OTHER)
    assert found is not None
    return found


_ADDERS: Final[dict[str, Callable[[Activity, Any, Any], str | None]]] = {
    "session.start": _add_session_start,
    "session.end": _add_session_end,
    "llm.call": _add_llm_call,
    "tool.call": _add_tool_call,
    "retrieval": _add_retrieval,
    "message": _add_message,
    "escalation": _add_escalation,
    "evaluation": _add_evaluation,
    "canary": _add_canary,
    "feedback": _add_feedback,
}
