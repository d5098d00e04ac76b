"""A policy file is TOML that more than one process reads, each what concerns it; what is wrong is said with
file, line and key.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config.errors import CorrectableError

Model = TypeVar("Model", bound=BaseModel)


_COMMENT: Final = re.compile(r"""("[^"]*"|'[^']*')|\#.*""")


_LISTS: Final = frozenset({"frozen_set_type", "tuple_type", "list_type"})


class PolicyError(CorrectableError):
    """The policy cannot be used; the message is one line with the file, the line and the key."""


def read(path: Path) -> str:
    """The text of a policy file. Raises PolicyError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise PolicyError(
            f"{path}: cannot be read ({why}): name a TOML file, here or in WATCHKEEPER_POLICY"
        ) from None


def parse(model: type[Model], text: str, name: str) -> Model:
    """The text as a model. Raises PolicyError, which starts with ``name:line: key``."""
    try:
        return model.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{name}: not TOML: {error}") from None
    except ValidationError as error:
        # A mistyped key is why another one is missing.
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        keys = [str(part) for part in first["loc"]]
        more = "" if len(error.errors()) == 1 else f" (and {len(error.errors()) - 1} more)"
        raise PolicyError(f"{place(text, name, keys)}: {_what(model, first)}{more}") from None


def place(text: str, name: str, keys: list[str]) -> str:
    """Where the keys are in the text of the file: ``name:line: key``."""
    return f"{name}:{_line_of(text, keys)}: {'.'.join(keys)}"


def _what(model: type[BaseModel], error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        meant = nearest_key(model, error["loc"])
        return f"there is no such key{f': did you mean {meant}?' if meant else ' here'}"
    if error["type"] in _LISTS:
        return "must be a list, in [ ]"
    return error["msg"].removeprefix("Value error, ").lower()


def nearest_key(model: type[BaseModel], loc: tuple[int | str, ...]) -> str | None:
    """The key that was likely meant by the last one of ``loc``, which its section does not have."""
    section: type[BaseModel] | None = model
    for key in loc[:-1]:
        if isinstance(key, str) and section is not None and key in section.model_fields:
            section = _section_in(section.model_fields[key].annotation)
    keys = [] if section is None else [each.alias or key for key, each in section.model_fields.items()]
    return next(iter(difflib.get_close_matches(str(loc[-1]), keys, n=1)), None)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, or holds many of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_section_in(each) for each in get_args(annotation))
    return next((each for each in found if each is not None), None)


def _line_of(text: str, keys: list[str]) -> int:
    """The line that most likely holds `keys`: their last name at or after the table they are in."""
    lines = [_COMMENT.sub(r"\1", line).strip() for line in text.splitlines()]
    index, end = 0, len(lines)
    found = 1
    for place, key in enumerate(keys):
        if key.isdigit():
            array = f"[[{'.'.join(keys[:place])}]]"
            tables = [number for number, line in enumerate(lines) if line.replace(" ", "") == array]
            if int(key) < len(tables):
                index = found = tables[int(key)] + 1
                headings = (number for number in range(found, len(lines)) if lines[number].startswith("["))
                end = next(headings, len(lines))
            continue
        for number in range(index, end):
            words = lines[number].replace(".", " ").replace("=", " ").strip("[] \t").split()
            quoted = lines[number].partition("=")[0].strip()
            if quoted.strip("[]\"'") == key or any(word.strip("[]\"'") == key for word in words):
                index, found = number, number + 1
                break
    return found
