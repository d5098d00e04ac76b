"""How an agent behaved: the signal that a detection is about, what was normal, and when it was noticed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from detectors.signals import Signal, of_metric, points
from detectors.windows import Window
from responders.picture import canvas
from responders.picture.moments import Moment
from schemas.base import from_epoch_ms
from schemas.detection import Detection

POINTS: Final = 60
LEAST_POINTS: Final = 4
"""Fewer show nothing."""
_SHARES: Final = ("_rate", "share")


def draw(detection: Detection, windows: Sequence[Window], moments: Sequence[Moment]) -> bytes | None:
    """A PNG; None when there is too little to see. ``windows`` are the agent's, in any order."""
    signal = of_metric(detection.detector, detection.metric)
    seen = points(windows, signal, POINTS)
    if len(seen) < LEAST_POINTS:
        return None
    values = [signal.shown(value) for _, value in seen]
    figure = canvas.figure(detection.summary)
    pane = figure.add_subplot()
    pane.plot(
        [canvas.place(from_epoch_ms(at_ms)) for at_ms, _ in seen],
        values,
        color=canvas.SIGNAL,
        linewidth=1.6,
        marker="o",
        markersize=2.5,
    )
    if signal.compared and detection.expected is not None:
        normal = signal.shown(detection.expected)
        pane.axhline(normal, color=canvas.NORMAL, linewidth=1.2, linestyle="--", label="normal, as learned")
    canvas.moments(pane, moments)
    canvas.time_axis(pane)
    _value_axis(pane, signal, values)
    if pane.get_legend_handles_labels()[1]:
        pane.legend(fontsize=8, loc="upper left", framealpha=0.9)
    return canvas.png(figure)


def _value_axis(pane: Axes, signal: Signal, values: Sequence[float]) -> None:
    pane.set_ylabel(canvas.literal(signal.name.replace("_", " ")), fontsize=9, color=canvas.INK)
    pane.margins(x=0.02, y=0.12)
    if all(value >= 0 for value in values):
        pane.set_ylim(bottom=0)
    if signal.name.endswith(_SHARES):
        percent: Callable[[float, int], str] = lambda value, _: f"{value:.0%}"  # noqa: E731 - a format
        pane.yaxis.set_major_formatter(FuncFormatter(percent))
