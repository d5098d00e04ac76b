"""One incident for a person at a terminal: the page, the proof of containment, the log."""

from __future__ import annotations

from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from responders.channels.terminal import panel
from responders.incident import fold
from responders.pages.page import render as render_page
from responders.store.projections import IncidentView

_STEPS = (
    "proposed",
    "denied",
    "unanswered",
    "requested",
    "issued",
    "delivered",
    "applied",
    "verified",
    "disobeyed",
    "released",
)


def render(view: IncidentView) -> RenderableType:
    """Everything there is to read about an incident."""
    folded = fold(view.log)
    assert folded is not None
    newest = view.pages[-1].page if view.pages else "opened"
    parts: list[RenderableType] = [panel(render_page(folded, newest, len(view.detections)))]
    if view.containments:
        parts.append(_proof(view))
    parts.append(_log(view))
    return Group(*parts)


def _proof(view: IncidentView) -> Table:
    table = Table("target", "wanted", "proof", title="containment", title_justify="left")
    for held in view.containments:
        times = ((step, getattr(held, f"{step}_at")) for step in _STEPS)
        proof = "\n".join(f"{_clock(at)} {step}" for step, at in times if at is not None)
        if held.answer_until is not None and held.denied_at is None and held.unanswered_at is None:
            proof += f"\n{_clock(held.answer_until)} answer due"
        table.add_row(held.target.key, held.wanted.mode, proof)
    return table


def _log(view: IncidentView) -> Table:
    table = Table(title="log", title_justify="left")
    for name in ("", "time", "what", "by"):
        table.add_column(name)
    for event in view.log:
        table.add_row(str(event.version), _clock(event.time), event.type, Text(event.actor.name))
    return table


def _clock(time: datetime | None) -> str:
    return "" if time is None else f"{time:%H:%M:%S}.{time.microsecond // 1000:03d}"
