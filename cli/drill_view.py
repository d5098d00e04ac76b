"""The scores of drills for a person at a terminal: who was found, who was stopped, and the proof of it."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from drills.proof import Proof
from drills.score import Score

_WORDS = {
    "issued": "ordered",
    "delivered": "on the bus",
    "applied": "obeyed",
    "verified": "verified: nothing seen since",
    "disobeyed": "disobeyed: it goes on",
    "escalated": "paged that it goes on",
    "denied_outside": "denied by /v1/allow",
    "released": "released",
}


def render(scores: Sequence[Score]) -> RenderableType:
    """One line a drill, why those failed that did, and a timeline for each target that was ordered."""
    why = [Text(f"{each.drill} failed: {'; '.join(each.why)}", style="red") for each in scores if each.why]
    return Group(_results(scores), *why, *(_timelines(score) for score in scores if score.proof))


def _results(scores: Sequence[Score]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("drill", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("detector", overflow="fold")
    for name in ("events", "found s", "stop s", "after it"):
        table.add_column(name, no_wrap=True)
    for score in scores:
        table.add_row(
            score.drill,
            "[green]passed[/]" if score.passed else "[red]failed[/]",
            score.detector or "-",
            number(score.events_to_detection),
            number(score.seconds_to_detection),
            number(score.seconds_to_containment),
            _after(score.actions_after_stop, score.usd_after_stop),
        )
    return table


def _timelines(score: Score) -> Table:
    title = f"{score.drill}: the proof, in seconds since the detection"
    table = Table("target", "order", "seconds", "step", "after the stop", title=title, title_justify="left")
    for each in score.proof:
        steps = sorted(each.seconds.items(), key=lambda step: step[1])
        table.add_row(
            Text(each.target),
            Text(each.wanted),
            "\n".join(f"{at:.3f}" for _, at in steps),
            "\n".join(_WORDS.get(step, step) for step, _ in steps),
            _done_after(each),
            end_section=True,
        )
    return table


def _done_after(proof: Proof) -> Text:
    said = "".join(f"\nnamed: {count:,} {name}" for name, count in proof.named.items())
    return Text(f"{_after(proof.actions_after_stop, proof.usd_after_stop)}{said}")


def _after(actions: int | None, usd: float | None) -> str:
    if actions is None:
        return "-"
    acts = f"{actions:,} act{'s' if actions != 1 else ''}"
    return f"{acts}, ${usd:,.2f}" if usd else acts


def number(value: float | None) -> str:
    """A figure as short as it is, or a dash."""
    return "-" if value is None else f"{value:g}"
