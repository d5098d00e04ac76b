"""What shows a person best what a detection saw: the measured signal, out of an agent's windows.

>>> from detectors.activity import Activity
>>> def window(second, refusals):
...     part = Activity(refusals_known=4, refusals=refusals)
...     return Window(tenant="default", agent="billing", start_ms=second * 1000, duration_ms=1000,
...                   source_partition=0, parts={"": part})
>>> windows = [window(second, second) for second in range(4)]
>>> points(windows, of_metric("refusal_rate", "refusal_rate"), most=2)
[(2000, 0.125), (4000, 0.625)]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from detectors.activity import Activity
from detectors.indicators import BY_NAME, EVALUATION, indicator
from detectors.slice_table import is_within
from detectors.windows import Window

Reader = Callable[[Activity], tuple[float, float]]


class Signal(NamedTuple):
    """What is drawn: count and sum of an activity, and how the mean is shown. `compared` is whether the
    detection's expected value is in the same unit, `slice_name` the slice it is of.
    """

    name: str
    read: Reader
    shown: Callable[[float], float] = float
    compared: bool = False
    slice_name: str = ""


def of_metric(detector: str, metric: str) -> Signal:
    """The signal of a detector's detection of this metric; calls a window where nothing tells more."""
    name, _, slice_name = (metric, "", "") if metric.startswith(EVALUATION) else metric.partition(":")
    if detector == "slice_regression" and name == "sessions":
        return Signal(f"sessions ending badly, {slice_name}", _badly, slice_name=slice_name)
    if detector == "judge_score":
        scores = indicator(f"{EVALUATION}{metric}")
        return Signal(metric, lambda a: scores.read(a)[:2], compared=True)
    if name not in BY_NAME and not name.startswith(EVALUATION):
        name = _DRAWN_AS.get(detector, "")
    if name:
        chosen = indicator(name)
        return Signal(name, lambda a: chosen.read(a)[:2], chosen.shown, compared=name == metric)
    return _OTHERS.get(detector, CALLS)


def points(windows: Iterable[Window], signal: Signal, most: int) -> list[tuple[int, float]]:
    """Epoch milliseconds and mean, over at most about ``most`` stretches of like many observations."""
    rows = [(each.end_ms, *signal.read(_activity(each, signal.slice_name))) for each in windows]
    rows = [row for row in sorted(rows) if row[1] or row[2]]
    wanted = sum(count for _, count, _ in rows) / most
    found: list[tuple[int, float]] = []
    count = total = 0.0
    for end_ms, here, value in rows:
        count += here
        total += value
        if count and count >= wanted:
            found.append((end_ms, total / count))
            count = total = 0.0
    return found


def _badly(activity: Activity) -> tuple[float, float]:
    ended = activity.sessions_ended
    return ended, ended - activity.outcomes.get("completed", 0)


def _gap(activity: Activity) -> tuple[float, float]:
    bins = [each for source in activity.calibration.values() for each in source.bins.values()]
    return sum(each.count for each in bins), sum(each.confidence_micro / 1e6 - each.right for each in bins)


CALLS: Final = Signal("calls a window", lambda activity: (1, activity.llm_calls + activity.tool_calls))
_DRAWN_AS: Final = {"canary": "canary_failure_rate", "output_length": "output_length"}
"""The indicator that shows best what a detector of another metric has seen."""
_OTHERS: Final[Mapping[str, Signal]] = {
    "confidence_calibration": Signal("confidence less share right", _gap),
    "activity_collapse": Signal("tool calls a session", lambda a: (a.sessions_ended, a.tool_calls)),
    "provider_outage": Signal("share of calls failed", lambda a: (a.llm_calls, a.llm_errors)),
}


def _activity(window: Window, slice_name: str) -> Activity:
    """All that was counted, or what was under one slice."""
    if window.providers:  # of a whole fleet
        calls = window.providers.values()
        return Activity(
            llm_calls=sum(each.calls for each in calls), llm_errors=sum(each.errors for each in calls)
        )
    if not slice_name:
        return window.total()
    whole = Activity()
    for key, part in window.parts.items():
        if is_within(key, slice_name):
            whole.merge(part)
    return whole
