"""The page that is written: sections of text and tables, and the same figures for machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Row = Sequence[object]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, paragraphs and tables in order, and the figures by name."""

    title: str
    parts: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def say(self, *paragraphs: str) -> None:
        """Adds paragraphs."""
        self.parts.extend(paragraphs)

    def table(self, header: Row, rows: Sequence[Row]) -> None:
        """Adds a table; columns after the first that hold only figures are set right."""
        right = [number > 0 and all(_is_figure(row[number]) for row in rows) for number in range(len(header))]
        lines = [
            _line(header),
            "|" + "|".join("---:" if each else "---" for each in right) + "|",
            *(_line(row) for row in rows),
        ]
        self.parts.append("\n".join(lines))

    def markdown(self) -> str:
        """The section as Markdown."""
        return "\n\n".join([f"## {self.title}", *self.parts])


def share(part: int, whole: int) -> str:
    """A share in percent; a dash of nothing."""
    return f"{100 * part / whole:.1f}%" if whole else "–"


def ratio(part: float, whole: float) -> float | None:
    """A share of one for machines; None of nothing."""
    return round(part / whole, 4) if whole else None


def _line(cells: Row) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _is_figure(value: object) -> bool:
    return _cell(value).strip("–%+-0123456789.,e ") == ""
