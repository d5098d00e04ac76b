"""The picture of the model swaps: what could be seen call by call, the swap, and what the engine said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.eval.picture import save
from bench.eval.swaps import Outcome

WINDOW = 25
SIGNALS = {"output tokens": 0.0, "latency, s": 0.0, "refused, %": 5.0}
"""What is drawn; of shares the mean, at least up to so much, of the others the median."""
LINES = {"warning": "#e6a100", "critical": "#c0392b"}


def draw(runs: list[Outcome], target: Path) -> None:
    """One run of each swap: medians of 25 calls (of shares: means), what it was before the swap, the swap,
    and the first alarm of each detector, as PNG.
    """
    plt.switch_backend("Agg")
    figure, panes = plt.subplots(
        len(runs), len(SIGNALS), figsize=(9, 1.9 * len(runs)), dpi=100, layout="constrained", squeeze=False
    )
    for row, run in zip(panes, runs, strict=True):
        signals = (
            np.array(run.output_tokens, dtype=float),
            np.array(run.durations_ms) / 1_000,
            100 * np.array(run.refusals, dtype=float),
        )
        for pane, (name, least), signal in zip(row, SIGNALS.items(), signals, strict=True):
            _draw(pane, run, signal, least)
            pane.set_title(f"{run.case}: {name}", fontsize=8, loc="left", pad=2)
            pane.tick_params(labelsize=7)
        _tell(row[0], run)
    for pane in panes[-1]:
        pane.set_xlabel("call", fontsize=8)
    save(figure, target)


def _draw(
    pane: Axes, run: Outcome, signal: np.ndarray[tuple[int], np.dtype[np.float64]], least: float
) -> None:
    whole = len(signal) // WINDOW
    centre = np.mean if least else np.median
    shown = centre(signal[: whole * WINDOW].reshape(whole, WINDOW), axis=1)
    pane.plot(WINDOW * (np.arange(whole) + 0.5), shown, color="#4a6fa5", linewidth=0.9)
    pane.hlines(centre(signal[: run.onset]), 0, run.onset, colors="#444444", linestyles="dotted", linewidth=1)
    pane.axvline(run.onset, color="#444444", linewidth=1)
    seen: set[tuple[str, str]] = set()
    for alarm in run.alarms:
        if alarm.severity in LINES and (alarm.detector, alarm.severity) not in seen:
            seen.add((alarm.detector, alarm.severity))
            pane.axvline(alarm.calls, color=LINES[alarm.severity], linewidth=0.9, alpha=0.8)
    pane.set_ylim(0, max(1.2 * float(shown.max()), least))


def _tell(pane: Axes, run: Outcome) -> None:
    """Who said it, in order."""
    first: dict[str, int] = {}
    for alarm in run.alarms:
        if alarm.severity in LINES and alarm.calls > run.onset:
            first.setdefault(alarm.detector, alarm.calls - run.onset)
    said = "\n".join(f"{name} +{delay}" for name, delay in list(first.items())[:6])
    pane.text(0.02, 0.96, said, fontsize=6, va="top", transform=pane.transAxes)
