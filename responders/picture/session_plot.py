"""What a session did: every act on a line of its own kind, and what it had cost by then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from matplotlib.axes import Axes

from responders.picture import canvas
from responders.picture.moments import Moment
from schemas.detection import Detection
from schemas.event import AgentEvent, LlmCall, Message, ToolCall

MOST_LANES: Final = 9
REST: Final = "everything else"
_LANE_CHARS: Final = 28
_HEIGHTS: Final = (3, 1)


class _Act(NamedTuple):
    at: float
    lane: str
    failed: bool
    evidence: bool


def draw(detection: Detection, events: Sequence[AgentEvent], moments: Sequence[Moment]) -> bytes | None:
    """A PNG; None without events. ``events`` are the session's, in order."""
    if not events:
        return None
    evidence = set(detection.evidence.event_ids)
    several = len({event.agent for event in events}) > 1
    acts = [
        _Act(
            canvas.place(event.time),
            _lane(event, several),
            getattr(event, "status", "ok") != "ok",
            event.event_id in evidence,
        )
        for event in events
    ]
    figure = canvas.figure(detection.summary)
    spent, unit = _spent(events)
    if spent:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=_HEIGHTS)
        lower.step([at for at, _ in spent], [sum_ for _, sum_ in spent], where="post", color=canvas.SIGNAL)
        lower.set_ylabel(unit, fontsize=8)
        lower.set_ylim(bottom=0)
        canvas.time_axis(lower)
    else:
        upper = figure.add_subplot()
    _lanes(upper, acts)
    canvas.moments(upper, moments)
    canvas.time_axis(upper)
    if spent:
        upper.set_xlabel("")
    upper.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), ncols=6, frameon=False)
    return canvas.png(figure)


def _lane(event: AgentEvent, several: bool) -> str:
    match event:
        case ToolCall():
            lane = event.tool
        case LlmCall():
            lane = "model call"
        case Message():
            lane = f"{event.intent} to {event.to_agent}"
        case _:
            lane = event.type
    return f"{event.agent}: {lane}" if several else lane


def _lanes(pane: Axes, acts: Sequence[_Act]) -> None:
    """Lanes in the order in which they were first used, the busiest of them."""
    counts = Counter(act.lane for act in acts)
    busiest = {lane for lane, _ in counts.most_common(MOST_LANES)}
    names = list(dict.fromkeys(act.lane if act.lane in busiest else REST for act in acts))
    row = {name: len(names) - place for place, name in enumerate(names)}
    for label, colour, size, these in (
        ("ok", canvas.SIGNAL, 14, [act for act in acts if not act.failed]),
        ("failed", canvas.FAULT, 18, [act for act in acts if act.failed]),
    ):
        if these:
            rows = [row.get(act.lane, row.get(REST, 0)) for act in these]
            pane.scatter([act.at for act in these], rows, s=size, color=colour, alpha=0.75, label=label)
    shown = [act for act in acts if act.evidence]
    if shown:
        rows = [row.get(act.lane, row.get(REST, 0)) for act in shown]
        pane.scatter(
            [act.at for act in shown],
            rows,
            s=60,
            facecolors="none",
            edgecolors=canvas.EVIDENCE,
            linewidths=1.5,
            label="evidence",
        )
    totals = Counter(act.lane if act.lane in busiest else REST for act in acts)
    ticks = [f"{canvas.shortened(name, _LANE_CHARS)}  ×{totals[name]:,}" for name in names]
    pane.set_yticks([row[name] for name in names], [canvas.literal(each) for each in ticks])
    pane.set_ylim(0.4, len(names) + 0.6)
    pane.margins(x=0.03)


def _spent(events: Sequence[AgentEvent]) -> tuple[list[tuple[float, float]], str]:
    """Time and running total: of dollars, or of tokens where not every call's price is known. One call is no
    line.
    """
    calls = [event for event in events if isinstance(event, LlmCall)]
    priced = all(call.cost_usd is not None for call in calls)
    total, running = 0.0, []
    for call in calls:
        total += call.cost_usd or 0.0 if priced else call.input_tokens + call.output_tokens
        running.append((canvas.place(call.time), total))
    return running if len(running) > 1 else [], "USD" if priced else "tokens"
