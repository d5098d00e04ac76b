"""The picture of a drill: the signal, what was normal, when it began, and when it was said."""

from __future__ import annotations

from pathlib import Path

from matplotlib import pyplot as plt

from bench.eval.drill_runs import Played
from detectors.signals import CALLS, Signal, of_metric, points
from drills.script import Drill
from schemas.base import epoch_ms
from schemas.detection import Detection

POINTS = 90
COLOURS = {"signal": "#4a6fa5", "onset": "#8899aa", "warning": "#e6a100", "critical": "#c0392b"}
NORMAL = "#55a868"


def draw(drill: Drill, played: Played, target: Path) -> None:
    """One seed of a drill, as PNG."""
    plt.switch_backend("Agg")
    figure, pane = plt.subplots(figsize=(9, 2.9), dpi=100, layout="constrained")
    found = played.first
    signal = _signal(found)
    windows = [each for each in played.windows if found is None or each.agent == found.agent]
    seen = points(windows, signal, POINTS)
    scale, unit = _scale(max((abs(at_ms - played.onset_ms) for at_ms, _ in seen), default=1.0))
    places = [(at_ms - played.onset_ms) / scale for at_ms, _ in seen]
    pane.plot(places, [signal.shown(value) for _, value in seen], color=COLOURS["signal"], linewidth=1.2)
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


def _signal(found: Detection | None) -> Signal:
    return CALLS if found is None else of_metric(found.detector, found.metric)


def _scale(longest_ms: float) -> tuple[float, str]:
    """Milliseconds of a unit that makes the longest readable, and its name."""
    for unit_ms, name in ((86_400_000, "days"), (3_600_000, "hours"), (60_000, "minutes")):
        if longest_ms >= 2 * unit_ms:
            return float(unit_ms), name
    return 1_000.0, "seconds"
