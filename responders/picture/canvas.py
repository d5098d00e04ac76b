"""What both plots share: size, colours, the incident's moments as lines, and the bytes of a PNG.

Drawn without pyplot, whose state is the process's: pictures are made in threads.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from responders.picture.moments import Kind, Moment

SIZE_INCHES: Final = (8.0, 3.8)
DPI: Final = 150
INK: Final = "#1d1c1d"
FAINT: Final = "#8a8a8a"
SIGNAL: Final = "#2b6cb0"
NORMAL: Final = "#2f855a"
FAULT: Final = "#c53030"
EVIDENCE: Final = "#dd6b20"
_MOMENTS: Final[dict[Kind, tuple[str, str]]] = {
    "onset": (FAINT, ":"),
    "noticed": (FAULT, "-"),
    "ordered": ("#6b46c1", "--"),
    "stopped": ("#6b46c1", "-"),
}
_TITLE_CHARS: Final = 105
_OFFSETS: Final = ["", "%Y", "%b %Y", "%d %b %Y", "%d %b %Y", "%d %b %Y, %H:%M UTC"]
"""What the axis says of years, months, days, hours, minutes and seconds that its ticks leave out."""
# matplotlib's dates have no types.
_Locator: Any = AutoDateLocator
_Formatter: Any = ConciseDateFormatter
_number: Any = date2num


def figure(title: str) -> Figure:
    made = Figure(figsize=SIZE_INCHES, dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(made)
    lines = textwrap.wrap(title, _TITLE_CHARS, max_lines=2, placeholder=" …")
    made.suptitle(literal("\n".join(lines)), x=0.01, ha="left", fontsize=10, color=INK)
    return made


def shortened(text: str, most: int) -> str:
    """At most so many characters, and a sign that there were more."""
    return text if len(text) <= most else text[: most - 1] + "…"


def literal(text: str) -> str:
    """The text as it is: matplotlib reads what stands between dollar signs as mathematics."""
    return "".join(each if each.isprintable() or each == "\n" else " " for each in text).replace("$", r"\$")


def place(time: datetime) -> float:
    """Where a time stands on the axis."""
    return float(_number(time))


def time_axis(pane: Axes) -> None:
    locator = _Locator(minticks=4, maxticks=8, tz=UTC)
    pane.xaxis.set_major_locator(locator)
    pane.xaxis.set_major_formatter(_Formatter(locator, tz=UTC, offset_formats=_OFFSETS))
    pane.xaxis.get_offset_text().set_fontsize(8)
    pane.tick_params(labelsize=8, colors=INK)
    for side in ("top", "right"):
        pane.spines[side].set_visible(False)


def moments(pane: Axes, these: Sequence[Moment]) -> None:
    """Lines across the pane, and what is between the onset and the moment it was noticed."""
    at = {each.kind: place(each.at) for each in these}
    for each in these:
        colour, style = _MOMENTS[each.kind]
        pane.axvline(at[each.kind], color=colour, linestyle=style, linewidth=1.4, label=literal(each.label))
    if "onset" in at and "noticed" in at and at["onset"] < at["noticed"]:
        pane.axvspan(at["onset"], at["noticed"], color=FAULT, alpha=0.08, linewidth=0)


def png(made: Figure) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A letter that the font has not got is drawn as a box, and that is all there is to say.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        made.savefig(buffer, format="png", pil_kwargs={"optimize": True})
    return buffer.getvalue()
