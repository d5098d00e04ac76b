"""Pictures of the delays: against the size of the change by method, and one change as the engine sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from bench.eval.delay import stream
from bench.eval.delay_changes import Change
from bench.eval.picture import save
from detectors.sequential.rate import RateChange

mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})

Curve = Sequence[tuple[float, float]]
DPI = 90
OTHERS = ["tab:blue", "tab:orange", "tab:green", "tab:purple", "tab:brown", "tab:cyan"]
BATCH = 10


def by_size(path: Path, panels: Mapping[str, Mapping[str, Curve]], optimal: str, ours: str) -> None:
    """Delay against the size of the change, both logarithmic; a panel a kind of change, a line a method."""
    figure = Figure(figsize=(10, 4.2), dpi=DPI, layout="constrained")
    for axes, (title, curves) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        axes.set_prop_cycle(color=OTHERS)
        for name, curve in curves.items():
            sizes, delays = zip(*sorted(curve), strict=True)
            known = {optimal: ("black", "--"), ours: ("tab:red", "-")}.get(name)
            style = {"color": known[0], "ls": known[1], "lw": 2} if known else {"lw": 1}
            axes.plot(sizes, delays, label=name, marker="o", markersize=3, **style)
        axes.set(xscale="log", yscale="log", xlabel=title, ylabel="observations to the alarm")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(sorted({size for curve in curves.values() for size, _ in curve}))
        axes.legend(fontsize=7, frameon=False)
    save(figure, path)


def example(path: Path, change: Change, level: float, *, reference: int = 2_000, after: int = 300) -> None:
    """The signal, what the test knows of it, the evidence, and the alarm."""
    values = stream(change, reference, 1, after, healthy=False)
    test = RateChange(floor=1.0)
    state = test.State()
    places, evidence, alarm = [], [], None
    for at in range(0, len(values), BATCH):
        batch = values[at : at + BATCH]
        reading = test.update(state, len(batch), float(batch.sum()), at)
        places.append(at + BATCH)
        evidence.append(reading.run_length if reading is not None else np.nan)
        if alarm is None and reading is not None and reading.run_length >= level:
            alarm = (at + BATCH, reading)
    figure = Figure(figsize=(10, 4.6), dpi=DPI, layout="constrained")
    signal, below = figure.subplots(2, 1, sharex=True)
    width = 50
    rolling = np.convolve(values, np.ones(width) / width, mode="valid")
    signal.plot(np.arange(len(rolling)) + width, 100 * rolling, color="tab:blue", lw=1)
    signal.set(
        ylabel=f"hits in the last {width}, %", title=f"{change.name}: the signal, the evidence, the alarm"
    )
    below.semilogy(places, evidence, ".", color="tab:red")
    below.axhline(level, color="black", ls=":", label=f"level: one false alarm in {level:,.0f} observations")
    below.set(ylabel="evidence, as a run length", xlabel="observations")
    for axes in (signal, below):
        axes.axvline(reference, color="grey", ls="--", label="the change")
        if alarm is not None:
            axes.axvline(
                alarm[0], color="tab:red", ls="-", lw=0.8, label=f"alarm, {alarm[0] - reference} later"
            )
            axes.axvline(alarm[1].began, color="tab:orange", ls=":", label="estimated onset")
    if alarm is not None:
        signal.axhline(100 * alarm[1].before, color="tab:green", lw=0.8, label="the rate before, as learned")
    signal.legend(fontsize=7, frameon=False, loc="upper left")
    below.legend(fontsize=7, frameon=False, loc="upper left")
    below.set_xlim(reference - 700, len(values))
    save(figure, path)
