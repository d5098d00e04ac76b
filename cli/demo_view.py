"""What the demo shows: a picture made of what is known, without I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from drills.done import Done
from drills.score import Score

_MOST_LINES = 200
_ACTIVE_MS = 3_000.0
_STYLES = {"healthy": "green", "halted": "bold red", "stepped down": "bold yellow", "done": "dim"}


@dataclass
class AgentRow:
    """One line of the fleet."""

    name: str
    acts: int = 0
    model_calls: int = 0
    refusals: int = 0
    spent_usd: float = 0.0
    last_ms: float = 0.0
    state: str = "healthy"


@dataclass
class DemoState:
    """Everything the demo has seen."""

    started_ms: float
    agents: dict[str, AgentRow] = field(default_factory=dict)
    lines: deque[tuple[float, str, str]] = field(default_factory=lambda: deque(maxlen=_MOST_LINES))
    pages: list[RenderableType] = field(default_factory=list)

    def acted(self, done: Done) -> None:
        """Counts an act."""
        row = self.agents.setdefault(done.act.agent, AgentRow(done.act.agent))
        row.acts += 1
        row.last_ms = done.wall_ms
        row.spent_usd += done.act.cost_usd
        if done.act.type == "llm.call":
            row.model_calls += 1
            row.refusals += bool(done.act.fields.get("refusal"))

    def say(self, now_ms: float, style: str, text: str) -> None:
        """Adds a line to the log."""
        self.lines.append((now_ms - self.started_ms, style, text))

    @property
    def spent_usd(self) -> float:
        """What all agents have spent."""
        return sum(row.spent_usd for row in self.agents.values())


def picture(state: DemoState, now_ms: float) -> Layout:
    """The live screen."""
    layout = Layout()
    layout.split_column(Layout(name="head", size=3), Layout(name="body"))
    head = Text.assemble(
        ("Watchkeeper", "bold"),
        f"   {(now_ms - state.started_ms) / 1000:5.1f} s   agents {len(state.agents)}   spent ",
        (f"${state.spent_usd:,.2f}", "bold"),
        f"   acts {sum(row.acts for row in state.agents.values()):,}",
    )
    layout["head"].update(Panel(head, box=box.SQUARE, style="cyan"))
    layout["body"].split_row(Layout(name="fleet", ratio=2), Layout(name="news", ratio=3))
    layout["fleet"].update(Panel(fleet(state, now_ms), title="agents", title_align="left", box=box.SQUARE))
    news: list[RenderableType] = [log(state, 12)]
    news += state.pages[-1:]
    layout["news"].update(
        Panel(Group(*news), title="what Watchkeeper does", title_align="left", box=box.SQUARE)
    )
    return layout


def fleet(state: DemoState, now_ms: float) -> Table:
    """One row an agent, spend ticking."""
    table = Table(box=None, expand=True, padding=(0, 1))
    table.add_column("agent")
    table.add_column("state")
    table.add_column("acts", justify="right")
    table.add_column("refused", justify="right")
    table.add_column("spent", justify="right")
    for row in state.agents.values():
        shown = row.state
        if shown == "healthy" and now_ms - row.last_ms > _ACTIVE_MS:
            shown = "done"
        refused = f"{row.refusals / row.model_calls:.1%}" if row.model_calls >= 20 else ""
        table.add_row(
            row.name, Text(shown, style=_STYLES[shown]), f"{row.acts:,}", refused, f"${row.spent_usd:,.3f}"
        )
    return table


def log(state: DemoState, most: int) -> Text:
    """The latest lines."""
    text = Text()
    for elapsed_ms, style, line in list(state.lines)[-most:]:
        text.append(f"{elapsed_ms / 1000:5.1f} s  ", style="dim")
        text.append(f"{line}\n", style=style)
    return text


def summary(scores: Sequence[tuple[Score, int, float | None]], took_s: float) -> RenderableType:
    """One screen at the end.

    Args:
        scores: for each failure its score, how often people were told the same of it, and what it cost then.
    """
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("failure", "found", "after", "paged", "stopped", "after the stop", "spent", "saved"):
        table.add_column(name)
    for score, pages, cost_then in scores:
        spent = (score.usd_to_detection or 0.0) + (score.usd_after_stop or 0.0)
        table.add_row(
            score.drill,
            score.detector or Text("no", style="bold red"),
            "-" if score.events_to_detection is None else f"{score.events_to_detection} acts",
            Text(f"{pages}x", style="green" if pages == 1 else "bold red"),
            "-" if score.seconds_to_containment is None else f"{score.seconds_to_containment:.1f} s",
            "-" if score.actions_after_stop is None else f"{score.actions_after_stop} acts",
            f"${spent:,.2f}",
            ""
            if cost_then is None
            else Text(f"${cost_then - spent:,.0f} of ${cost_then:,.0f}", style="bold green"),
        )
    good = all(score.passed and pages == 1 for score, pages, _ in scores)
    verdict = (
        Text(f"Everything was found, paged once and stopped, in {took_s:.0f} s.", style="bold green")
        if good
        else Text(
            "Not everything held: "
            + "; ".join(
                why
                for score, pages, _ in scores
                for why in (*score.why, *((f"{score.drill} was paged {pages} times",) if pages != 1 else ()))
            ),
            style="bold red",
        )
    )
    return Group(table, verdict)
