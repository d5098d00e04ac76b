"""Variables that look like settings and are none: what reads the environment passes over them in silence."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Final, get_origin

from pydantic import BaseModel

PREFIX: Final = "WATCHKEEPER_"
LEVEL: Final = "__"
_NEARLY: Final = 0.85
_OF_A_SERVICE: Final = "tcp://"
"""Kubernetes gives every container such addresses, under names made from those of its services."""


def misnamed(environment: Mapping[str, str], settings: type[BaseModel]) -> str | None:
    """What is wrong with a variable's name, and what was likely meant; None when nothing is.

    Two underscores say that a section of the settings is meant. A name without them may be somebody else's
    (the client's, a test's, Kubernetes'), so it is wrong only when it is nearly the name of a setting.
    """
    exact, beginnings = _names(settings)
    for variable in sorted(environment):
        name = variable.upper().removeprefix(PREFIX)
        is_other = name == variable.upper() or not environment[variable]
        if is_other or name in exact or name.startswith(beginnings):
            continue
        meant = _nearest(name, exact, beginnings)
        if LEVEL in name or (meant is not None and not environment[variable].startswith(_OF_A_SERVICE)):
            sections = ", ".join(_sections(exact, beginnings))
            hint = f"did you mean {PREFIX}{meant}?" if meant else f"the sections are {sections}"
            return f"there is no setting for the variable {variable}: {hint}"
    return None


def _names(settings: type[BaseModel]) -> tuple[list[str], tuple[str, ...]]:
    """The names of all settings, without the prefix, and how those begin that people name themselves."""
    exact: list[str] = []
    beginnings: list[str] = []

    def add(model: type[BaseModel], above: str) -> None:
        for key, field in model.model_fields.items():
            name = f"{above}{key.upper()}"
            exact.append(name)
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                add(field.annotation, f"{name}{LEVEL}")
            elif get_origin(field.annotation) is Mapping:
                beginnings.append(f"{name}{LEVEL}")

    add(settings, "")
    return exact, tuple(beginnings)


def _nearest(name: str, exact: list[str], beginnings: tuple[str, ...]) -> str | None:
    section, deep, rest = name.partition(LEVEL)
    near = difflib.get_close_matches(section, _sections(exact, beginnings), n=1) if deep else []
    moved = f"{near[0]}{LEVEL}{rest}" if near and near[0] != section else None
    if moved is not None and (moved in exact or moved.startswith(beginnings)):
        return moved
    # One underscore where two belong is the likeliest mistake, so they count as the same.
    likely = {each.replace(LEVEL, "_"): each for each in exact}
    found = difflib.get_close_matches(name.replace(LEVEL, "_"), likely, n=1, cutoff=_NEARLY)
    return likely[found[0]] if found else moved


def _sections(exact: list[str], beginnings: tuple[str, ...]) -> list[str]:
    return sorted({each.split(LEVEL)[0] for each in (*exact, *beginnings) if LEVEL in each})
