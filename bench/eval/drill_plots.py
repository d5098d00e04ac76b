"""The picture of a drill: the signal, what was normal, when it began, and when it was said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib import pyplot as plt

from bench.eval.drill_runs import Played
from detectors.activity import Activity
from detectors.indicators import BY_NAME, EVALUATION, indicator
from detectors.slice_table import is_within
from detectors.windows import Window
from drills.script import Drill
from schemas.base import epoch_ms
from schemas.detection import Detection

POINTS = 90
COLOURS = {"signal": "#4a6fa5", "onset": "#8899aa", "warning": "#e6a100", "critical": "#c0392b"}
NORMAL = "#55a868"

Reader = Callable[[Activity], tuple[float, float]]


def draw(drill: Drill, played: Played, target: Path) -> None:
    """One seed of a drill, as PNG."""
    plt.switch_backend("Agg")
    figure, pane = plt.subplots(figsize=(9, 2.9), dpi=100, layout="constrained")
    found = played.first
    signal = _signal(found)
    windows = [each for each in played.windows if found is None or each.agent == found.agent]
    points = _points(windows, signal)
    scale, unit = _scale(max((abs(at_ms - played.onset_ms) for at_ms, _ in points), default=1.0))
    places = [(at_ms - played.onset_ms) / scale for at_ms, _ in points]
    pane.plot(places, [signal.shown(value) for _, value in points], color=COLOURS["signal"], linewidth=1.2)
    pane.axvline(0, color=COLOURS["onset"], linestyle=":", label="it begins")
    if found is not None:
        at, began = ((epoch_ms(each) - played.onset_ms) / scale for each in (found.time, found.onset))
        colour = COLOURS[found.severity]
        pane.axvline(at, color=colour, linewidth=1.6, label=f"{found.detector}: {found.severity}")
        pane.axvspan(began, at, color=colour, alpha=0.1, linewidth=0, label="since its estimated onset")
        if signal.compared and found.expected is not None:
            normal = signal.shown(found.expected)
            pane.axhline(normal, color=NORMAL, linewidth=1, label="normal, as learned")
    pane.set_title(f"{drill.name} (R {drill.requirement}): {drill.story}", fontsize=8, loc="left", wrap=True)
    pane.set_xlabel(f"{unit} since it began")
    pane.set_ylabel(signal.name)
    pane.legend(fontsize=7, loc="upper left", framealpha=0.85)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, pil_kwargs={"optimize": True})
    plt.close(figure)


class Signal(NamedTuple):
    """What is drawn: count and sum of an activity, and how the mean is shown. `compared` is whether the
    detection's expected value is in the same unit, `slice_name` the slice it is of.
    """

    name: str
    read: Reader
    shown: Callable[[float], float] = float
    compared: bool = False
    slice_name: str = ""


def _signal(found: Detection | None) -> Signal:
    if found is None:
        return Signal("calls a window", lambda activity: (1, activity.llm_calls))
    metric, _, slice_name = found.metric.partition(":")
    if found.detector == "slice_regression" and metric == "sessions":
        return Signal(f"sessions ending badly, {slice_name}", _badly, slice_name=slice_name)
    if found.detector == "judge_score":
        scores = indicator(f"{EVALUATION}{found.metric}")
        return Signal(found.metric, lambda a: scores.read(a)[:2], compared=True)
    name = found.metric if found.metric in BY_NAME or found.metric.startswith(EVALUATION) else ""
    name = name or DRAWN_AS.get(found.detector, "")
    if name:
        chosen = indicator(name)
        return Signal(name, lambda a: chosen.read(a)[:2], chosen.shown, compared=name == found.metric)
    return Signal(*OTHERS.get(found.detector, ("calls a window", lambda activity: (1, activity.llm_calls))))


def _badly(activity: Activity) -> tuple[float, float]:
    ended = activity.sessions_ended
    return ended, ended - activity.outcomes.get("completed", 0)


def _gap(activity: Activity) -> tuple[float, float]:
    bins = [each for source in activity.calibration.values() for each in source.bins.values()]
    return sum(each.count for each in bins), sum(each.confidence_micro / 1e6 - each.right for each in bins)


DRAWN_AS = {"canary": "canary_failure_rate", "output_length": "output_length"}
"""The indicator that shows best what a detector of another metric has seen."""
OTHERS: dict[str, tuple[str, Reader]] = {
    "confidence_calibration": ("confidence less share right", _gap),
    "activity_collapse": ("tool calls a session", lambda a: (a.sessions_ended, a.tool_calls)),
    "provider_outage": ("share of calls failed", lambda a: (a.llm_calls, a.llm_errors)),
}


def _points(windows: Sequence[Window], signal: Signal) -> list[tuple[float, float]]:
    """Time and mean, over stretches of like many observations."""
    rows = [(each.end_ms, *signal.read(_activity(each, signal.slice_name))) for each in windows]
    rows = [row for row in sorted(rows) if row[1] or row[2]]
    wanted = sum(count for _, count, _ in rows) / POINTS
    points: list[tuple[float, float]] = []
    count = total = 0.0
    for end_ms, here, value in rows:
        count += here
        total += value
        if count >= wanted:
            points.append((end_ms, total / count))
            count = total = 0.0
    return points


def _activity(window: Window, slice_name: str) -> Activity:
    """All that was counted, or what was under one slice."""
    if not slice_name:
        return window.total()
    whole = Activity()
    for key, part in window.parts.items():
        if is_within(key, slice_name):
            whole.merge(part)
    return whole


def _scale(longest_ms: float) -> tuple[float, str]:
    """Milliseconds of a unit that makes the longest readable, and its name."""
    for unit_ms, name in ((86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes")):
        if longest_ms >= 2 * unit_ms:
            return float(unit_ms), name
    return 1_000.0, "seconds"
