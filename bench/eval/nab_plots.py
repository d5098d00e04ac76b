"""A sheet for each category of the benchmark: every series, its windows, what was news, and detections."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter
from PIL import Image

from bench.eval.nab import NO_WINDOW, Floats, Outcome, Series, Standing

WIDTH = 9.0
HEIGHT = 0.95
POINTS = 900
COLOURS = 160
TALLEST = 20.0


def draw(corpus: Sequence[Series], scores: Sequence[Floats], outcome: Outcome, folder: Path) -> list[Path]:
    """Writes `<category>.png` for every category and returns the files."""
    plt.switch_backend("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for category in sorted({series.category for series in corpus}):
        chosen = [
            each
            for each in zip(corpus, scores, outcome.standings, strict=True)
            if each[0].category == category
        ]
        figure, panes = plt.subplots(
            len(chosen),
            1,
            figsize=(WIDTH, HEIGHT * len(chosen) + 0.2),
            dpi=100,
            layout="constrained",
            squeeze=False,
        )
        for pane, (series, own, standing) in zip(panes[:, 0], chosen, strict=True):
            _pane(pane, series, own, standing)
        target = folder / f"{category}.png"
        figure.savefig(target)
        plt.close(figure)
        _shrink(target)
        found.append(target)
    return found


def _pane(pane: Axes, series: Series, scores: Floats, standing: Standing) -> None:
    rows = len(series.values)
    pane.plot(*_thinned(np.array(series.values)), color="#2c6fa6", linewidth=0.6)
    pane.axvspan(0, series.probation, color="#e8e8e8", linewidth=0)
    for first, last in series.windows:
        pane.axvspan(first, last, color="#f3d9c0", linewidth=0)
    title = f"{series.name.partition('/')[2]}: {standing.found} of {standing.windows}, {standing.false} false"
    pane.set_title(title, fontsize=6.5, loc="left", pad=2)
    pane.set_xlim(0, rows)
    pane.yaxis.set_major_formatter(EngFormatter(sep=""))
    pane.tick_params(labelsize=5, length=2, pad=1)
    news = pane.twinx()
    told = np.nonzero(scores > 0)[0]
    news.vlines(told, 0.0, np.minimum(scores[told], TALLEST), color="#e6a100", linewidth=0.5, alpha=0.7)
    hit = series.window_of[list(standing.detections)] != NO_WINDOW
    detections = np.array(standing.detections)
    for inside, colour in ((True, "#1e8449"), (False, "#c0392b")):
        at = detections[hit == inside] if len(detections) else detections
        news.plot(at, np.full(len(at), 2.7 * TALLEST), "v", color=colour, markersize=4.5)
    news.set_ylim(0, 3 * TALLEST)
    news.set_yticks([0, TALLEST], ["0", f"{TALLEST:g}"])
    news.tick_params(labelsize=5, length=2, pad=1)


def _thinned(values: Floats) -> tuple[Floats, Floats]:
    """The least and the greatest of every stretch: as many points as the picture can show."""
    stretch = max(1, len(values) // POINTS)
    rows, kept = [], []
    for begin in range(0, len(values), stretch):
        part = values[begin : begin + stretch]
        for row in sorted({int(part.argmin()), int(part.argmax())}):
            rows.append(float(begin + row))
            kept.append(float(part[row]))
    return np.array(rows), np.array(kept)


def _shrink(picture: Path) -> None:
    with Image.open(picture) as image:
        small = image.convert("RGB").quantize(COLOURS, method=Image.Quantize.FASTOCTREE)
    small.save(picture, optimize=True)
