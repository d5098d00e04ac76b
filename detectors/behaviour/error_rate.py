"""error_rate: more of an agent's model and tool calls fail than used to.

Statistic: the mixture e-detector of `detectors.sequential.rate` on (model and tool calls, those that failed)
of each frame, at the levels of `detectors.false_alarms`. Unit: share of calls. Source: the error rate is the
one signal every operator has (Beyer et al., "Site Reliability Engineering", 2016, ch. 6); here it is held
against the agent's own. The sentence names what has lately failed most: a tool, or a model's provider. While
most failures are a provider's throttling, the agent is not to blame: then it is a warning at most. Critical
is a rise to twice the rate, and to one call in twenty.

>>> from detectors.testing import run_windows, window
>>> from detectors.activity import ToolUse
>>> healthy = [window(number, llm_calls=10, tool_calls=10, tool_errors=number % 2) for number in range(60)]
>>> def failing(**fields):
...     calls = {"llm_calls": 10, "tool_calls": 10, **fields}
...     return healthy + [window(number, **calls) for number in range(60, 66)]
>>> [found] = run_windows(ErrorRate(), failing(tool_errors=6, tools={"search": ToolUse(10, 6)}))
>>> found.severity, round(found.expected, 3), round(found.observed, 2), "search" in found.summary
('critical', 0.025, 0.3, True)
>>> [(one.severity, "not the agent" in one.summary) for one in run_windows(
...     ErrorRate(), failing(llm_errors=6, throttled=6))]
[('warning', True)]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Final

from detectors.activity import Activity
from detectors.alarm import Raised
from detectors.base import Window, WindowContext
from detectors.rate_watch import RateWatch
from detectors.rates import RateDetector, RateState
from detectors.sequential.onsets import Reading
from detectors.sequential.rate import RateChange
from detectors.slices import dimensions
from detectors.watch import Watch

LEAST_AFTER: Final = 0.05
THROTTLED: Final = "throttling by "
UNKNOWN: Final = "its provider"


def severe(reading: Reading) -> bool:
    """Whether many calls fail that used not to."""
    return reading.after >= max(2 * reading.before, LEAST_AFTER)


@dataclass(frozen=True, slots=True)
class ErrorRate(RateDetector):
    """`watch` has the test and when a rise is critical."""

    watch: RateWatch = field(
        default_factory=lambda: RateWatch(Watch("error_rate", severe), RateChange("rise"))
    )

    name: ClassVar[str] = "error_rate"
    shown_by: ClassVar[str] = "error"

    def excused(self, state: RateState, window: Window, context: WindowContext) -> bool:
        activity = context.activity
        state.lately.note(activity.llm_calls + activity.tool_calls, dict(_failures(window, activity)))
        throttled = [name for name in state.lately.now.counts if name.startswith(THROTTLED)]
        return state.lately.share(*throttled) > 0.5

    def sentence(self, state: RateState, raised: Raised, agent: str) -> str:
        reading = raised.reading
        most = state.lately.most() or "nothing that was named"
        share = state.lately.share(most)
        blame = "; the provider, not the agent, is at its limit" if most.startswith(THROTTLED) else ""
        return (
            f"{reading.after:.1%} of the calls of {agent} fail, up from {reading.before:.1%}, over the last "
            f"{reading.observations:,}; {share:.0%} of what failed lately: {most}{blame}."
        )


def _failures(window: Window, activity: Activity) -> Iterator[tuple[str, float]]:
    for tool, use in activity.tools.items():
        if use.errors:
            yield f"the tool {tool}", use.errors
    if not activity.llm_errors:
        return
    by_name: Counter[str] = Counter()
    for key, part in window.parts.items():
        if part.llm_errors:
            provider = dimensions(key).get("provider", UNKNOWN)
            by_name[f"{THROTTLED}{provider}"] += part.throttled
            by_name[f"model calls to {provider}"] += part.llm_errors - part.throttled
    yield from by_name.items()
