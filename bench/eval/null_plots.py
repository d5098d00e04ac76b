"""The picture of the healthy fleet: how busy some agents were, and where alarms fell."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.eval.fleet_agents import START_MS
from bench.eval.null import Alarm, Counted
from bench.eval.picture import save

HOURS_A_DAY = 24
COLOURS = {"critical": "#c0392b", "warning": "#e6a100", "info": "#8899aa"}
MOST_DETECTORS = 12


def draw(counted: Counted, target: Path) -> None:
    """One agent of each kind by the hour with its alarms, and all alarms by detector, as PNG."""
    plt.switch_backend("Agg")
    shown = _shown(counted)
    figure, panes = plt.subplots(
        len(shown) + 1, 1, figsize=(9, 1.05 * len(shown) + 3.2), dpi=100, layout="constrained",
        height_ratios=[*([1.0] * len(shown)), 2.6],
    )  # fmt: skip
    for pane, name in zip(panes, shown, strict=False):
        _rhythm(pane, name, counted.kinds[name], counted)
    panes[len(shown) - 1].set_xlabel("day (Monday first); sessions begun in an hour")
    _by_detector(panes[-1], counted.alarms, counted.agent_months)
    save(figure, target)


def _shown(counted: Counted) -> list[str]:
    """Of each kind, the agent that most was said of, the busier one first."""
    loud = Counter(alarm.agent for alarm in counted.alarms if alarm.severity != "info")
    best: dict[str, str] = {}
    for name, hours in sorted(counted.traffic.items(), key=lambda one: (-loud[one[0]], -sum(one[1]), one[0])):
        if sum(hours):
            best.setdefault(counted.kinds[name], name)
    return [best[kind] for kind in sorted(best)]


def _rhythm(pane: Axes, name: str, kind: str, counted: Counted) -> None:
    hours = np.array(counted.traffic[name])
    days = np.arange(hours.size) / HOURS_A_DAY
    pane.fill_between(days, hours, step="post", color="#4a6fa5", linewidth=0)
    for severity in ("warning", "critical"):
        at = [
            (alarm.time_ms - START_MS) / 86_400_000
            for alarm in counted.alarms
            if alarm.agent == name and alarm.severity == severity
        ]
        low = 0.0 if severity == "critical" else 0.88
        pane.vlines(at, low, 1, colors=COLOURS[severity], transform=pane.get_xaxis_transform(), linewidth=0.8)
    pane.set_xlim(0, hours.size / HOURS_A_DAY)
    pane.set_ylim(0, max(1, 1.15 * hours.max()))
    pane.tick_params(labelsize=7)
    pane.set_title(kind, fontsize=8, loc="left", pad=2)


def _by_detector(pane: Axes, alarms: list[Alarm], months: float) -> None:
    counts = Counter((alarm.detector, alarm.severity) for alarm in alarms)
    names = sorted(
        {detector for detector, _ in counts},
        key=lambda name: (-counts[name, "critical"], -counts[name, "warning"], -counts[name, "info"]),
    )[:MOST_DETECTORS]
    left = np.zeros(len(names))
    for severity, colour in COLOURS.items():
        width = np.array([counts[name, severity] / months for name in names])
        pane.barh(names, width, left=left, color=colour, label=severity)
        left += width
    pane.invert_yaxis()
    pane.set_xlabel("false alarms a month and agent", fontsize=8)
    pane.tick_params(labelsize=7)
    if names:
        pane.legend(fontsize=7)
