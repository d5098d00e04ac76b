"""Slices: what an event is told apart by, beyond its agent. Everything is counted under the combination of
the agent's version and that of its prompt, the model, the provider, the index and the attributes.

An event that does not say has what its agent had last in the session. An attribute is sliced by when it looks
categorical: a boolean or a short word without an id in it. The combination is written
``version=2;model=gpt-4o;language=de``, values percent-encoded, what is unknown left out.

>>> from detectors.testing import event
>>> call = dict(type="llm.call", request_model="m", prompt_version="v2", input_tokens=1, output_tokens=1)
>>> makeup = Slicer().after(None, event(0, {**call, "status": "ok", "attributes": {"language": "de"}}))
>>> slice_key(makeup)
'prompt=v2;model=m;language=de'
>>> dimensions('prompt=v2;model=m;language=de')
{'prompt': 'v2', 'model': 'm', 'language': 'de'}
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec
from xxhash import xxh64_hexdigest

OTHER: Final = "other"
MAX_VALUE_CHARS: Final = 48
MAX_ATTRIBUTE_CHARS: Final = 24
MAX_ATTRIBUTES: Final = 4
MAX_ATTRIBUTES_CHARS: Final = 96
MAX_MAKEUPS_CHARS: Final = 360
_OVERHEAD: Final = 8
COMPONENTS: Final = ("version", "prompt", "model", "provider", "index")
_ID_LIKE: Final = re.compile(r"\d{5}|[0-9a-f]{12}", re.IGNORECASE)

Attributes = tuple[tuple[str, str | bool | int | float], ...]


class Makeup(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What an agent is made of and works on, as far as it is known; '' is not known."""

    version: str = ""
    prompt: str = ""
    model: str = ""
    provider: str = ""
    index: str = ""
    attributes: str = ""

    def __len__(self) -> int:
        return sum(map(len, msgspec.structs.astuple(self)))


UNKNOWN: Final = Makeup()


class Slicer:
    """Tells slices apart by `attributes`, or by all that look categorical when it is None."""

    def __init__(self, attributes: frozenset[str] | None = None) -> None:
        self._sliceable = lru_cache(maxsize=4_096)(self._choose)
        self._named = attributes

    def after(self, known: Makeup | None, event: Any) -> Makeup:
        """What is known with the event, which itself belongs to that slice."""
        if known is None:
            known = UNKNOWN
        kind = event.type
        attributes, version = event.attributes, event.agent_version
        sliced = known.attributes if not attributes else self._sliceable(tuple(attributes.items()))
        changed: dict[str, str] = {}
        if version is not None and version != known.version:
            changed["version"] = version
        if kind == "llm.call":
            model, prompt, provider = event.response_model, event.prompt_version, event.provider
            if model is None:
                model = event.request_model
            if model != known.model:
                changed["model"] = model
            if prompt is not None and prompt != known.prompt:
                changed["prompt"] = prompt
            if provider is not None and provider != known.provider:
                changed["provider"] = provider
        elif kind == "retrieval":
            index, index_version = event.index, event.index_version
            changed["index"] = f"{index}@{index_version}" if index_version else index
        if not changed and sliced == known.attributes:
            return known
        names = {name: _short(value) for name, value in changed.items()}
        return msgspec.structs.replace(known, attributes=sliced, **names)

    def _choose(self, attributes: Attributes) -> str:
        chosen = [
            f"{quote(name)}={quote(str(value).lower() if isinstance(value, bool) else value)}"
            for name, value in sorted(attributes)
            if name not in COMPONENTS
            and len(name) <= MAX_ATTRIBUTE_CHARS
            and (self._named is None or name in self._named)
            and (isinstance(value, bool) or (isinstance(value, str) and _is_category(value)))
        ]
        del chosen[MAX_ATTRIBUTES:]
        while len(";".join(chosen)) > MAX_ATTRIBUTES_CHARS:
            chosen.pop()
        return ";".join(chosen)


def remember_makeup(makeups: dict[str, Makeup], agent: str, makeup: Makeup) -> None:
    """Keep what an agent of a session is made of; those heard from longest ago go where there is no room."""
    makeups.pop(agent, None)
    makeups[agent] = makeup
    while (
        len(makeups) > 1
        and sum(len(each) + len(name) + _OVERHEAD for name, each in makeups.items()) > MAX_MAKEUPS_CHARS
    ):
        del makeups[next(iter(makeups))]


@lru_cache(maxsize=4_096)
def slice_key(makeup: Makeup) -> str:
    """The name of the combination."""
    values = (makeup.version, makeup.prompt, makeup.model, makeup.provider, makeup.index)
    parts = [f"{name}={quote(value)}" for name, value in zip(COMPONENTS, values, strict=True) if value]
    return ";".join([*parts, makeup.attributes] if makeup.attributes else parts)


@lru_cache(maxsize=4_096)
def dimensions(key: str) -> dict[str, str]:
    """The slices that a combination is made of; nothing for `OTHER`. Not to be changed."""
    return {
        name: unquote(value) for name, _, value in (part.partition("=") for part in key.split(";")) if value
    }


def _is_category(value: str) -> bool:
    return 0 < len(value) <= MAX_ATTRIBUTE_CHARS and _ID_LIKE.search(value) is None


def _short(value: str) -> str:
    return value if len(value) <= MAX_VALUE_CHARS else f"#{xxh64_hexdigest(value.encode())}"
