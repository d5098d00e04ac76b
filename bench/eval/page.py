"""The page that is written: sections of text and tables, and the same figures for machines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from bench.machine import REPOSITORY, RESULTS, machine

Row = Sequence[object]

PAGE = REPOSITORY / "docs" / "evaluation.md"
BLOCKS = {
    "session": "eval-session",
    "delay": "eval-delay",
    "null": "eval-null",
    "traces": "eval-traces",
    "nab": "eval-nab",
    "drills": "eval-drills",
}
"""The blocks of the page in their order, and the make target that writes each."""
INTRODUCTION = """\
# Evaluation

Every block is written by the command it names; none is edited by hand. Figures for machines are under
`bench/results/`. A bar that is not met is written down as not met."""


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


def publish(
    block: str,
    sections: dict[str, Section],
    *,
    preface: str = "",
    page: Path = PAGE,
    figures: Path | None = None,
) -> None:
    """Writes one block of the page, leaving the others as they are, and `bench/results/eval_<block>.json`.

    Raises:
        KeyError: there is no block of this name.
    """
    told = f"Written by `make {BLOCKS[block]}`. {preface}".strip()
    body = "\n\n".join([told, *(section.markdown() for section in sections.values())])
    blocks = _blocks(page.read_text(encoding="utf-8")) if page.exists() else {}
    blocks[block] = body
    parts = [f"<!-- {name} -->\n\n{blocks[name]}" for name in BLOCKS if name in blocks]
    page.write_text("\n\n".join([INTRODUCTION, *parts]) + "\n", encoding="utf-8")
    results = {"machine": machine(), **{name: section.figures for name, section in sections.items()}}
    target = RESULTS / f"eval_{block}.json" if figures is None else figures
    target.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")


def _blocks(text: str) -> dict[str, str]:
    """The blocks of a page by name."""
    pieces = re.split(r"^<!-- (\w+) -->$", text, flags=re.MULTILINE)
    return {name: body.strip() for name, body in zip(pieces[1::2], pieces[2::2], strict=True)}


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
