"""The runbooks: what to do about what a detector found, a section a detector in `runbooks.md`."""

from __future__ import annotations

import difflib
import re
from functools import cache
from importlib.resources import files

from config.errors import CorrectableError


class NoRunbookError(CorrectableError):
    """There is no runbook of this name; the message says which was meant."""


@cache
def sections() -> dict[str, str]:
    """Each runbook's Markdown by name, without its heading."""
    text = (files("responders.pages") / "runbooks.md").read_text(encoding="utf-8")
    _, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    pairs = (part.partition("\n") for part in parts)
    return {name.strip(): body.strip() for name, _, body in pairs}


def runbook(name: str) -> str:
    """The runbook of this name, as Markdown.

    Raises:
        NoRunbookError: there is none.
    """
    found = sections().get(name)
    if found is None:
        meant = difflib.get_close_matches(name, sections(), n=1)
        hint = f"did you mean {meant[0]}?" if meant else "watchkeeper runbook lists them"
        raise NoRunbookError(f"no runbook {name}: {hint}")
    return found
