"""A policy file is TOML that more than one process reads, each what concerns it; what is wrong is said with
file, line and key.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from config.errors import CorrectableError

Model = TypeVar("Model", bound=BaseModel)


_COMMENT: Final = re.compile(r"""("[^"]*"|'[^']*')|\#.*""")


class PolicyError(CorrectableError):
    """The policy cannot be used; the message is one line with the file, the line and the key."""


def read(path: Path) -> str:
    """The text of a policy file. Raises PolicyError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path}: cannot be read ({error}); give WATCHKEEPER_POLICY a TOML file") from None


def parse(model: type[Model], text: str, name: str) -> Model:
    """The text as a model. Raises PolicyError, which starts with ``name:line: key``."""
    try:
        return model.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{name}: not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        keys = [str(part) for part in first["loc"]]
        what = first["msg"].removeprefix("Value error, ").lower()
        raise PolicyError(f"{name}:{_line_of(text, keys)}: {'.'.join(keys)}: {what}") from None


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
