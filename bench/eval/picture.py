"""Plots written small enough to be kept beside the page: 64 colours are enough for lines and bars."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

COLOURS = 64


def save(figure: Figure, target: Path) -> None:
    """Write a figure as PNG with a palette, and close it."""
    drawn = BytesIO()
    figure.savefig(drawn, format="png")
    plt.close(figure)
    drawn.seek(0)
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.open(drawn).convert("RGB").quantize(COLOURS).save(target, optimize=True)
