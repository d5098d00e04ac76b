"""Agent events as the engine holds them: structs made, at import, from the models of `schemas.event`.

A struct has the fields and constraints of its model and costs a quarter of it to make. `fast_event` takes
only what the model takes too, with equal values (a test holds it to that); for the rest, and for what to say
of a bad event, the model is asked, and `from_model` makes the struct. Type checkers see the models: a struct
has every attribute of its model, but is no instance of it. Tell events apart by `event.type`.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin

import msgspec
from pydantic import AfterValidator, AwareDatetime, BaseModel, StringConstraints
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from schemas.base import epoch_ms
from schemas.event import EVENT_TYPES, AgentEvent, EventBase

_LONGEST_TIME: Final = len("2026-01-31T12:00:00.000000Z")
"""More digits of a second are cut off by one parser and rounded by another."""

_BOUNDS: Final = {"Ge": "ge", "Le": "le", "MinLen": "min_length", "MaxLen": "max_length"}
"""What pydantic keeps of a constraint, by the name of its class, and what msgspec calls it."""

_convert: Final = msgspec.convert


class UnknownConstraintError(TypeError):
    """A model has a constraint that this module would lose: teach it, or too much is taken."""


def fast_event(message: Any) -> AgentEvent | None:
    """The event of a parsed JSON value, or None when only the model can tell."""
    try:
        event: Any = _convert(message, _STRUCTS[message["type"]])
    except (msgspec.ValidationError, KeyError, TypeError):
        return None
    time = event.time
    if time.tzinfo is not UTC or len(message["time"]) > _LONGEST_TIME:
        return None
    if event.type == "retrieval" and (as_of := event.as_of) is not None:  # noqa: SIM102 - the rare case apart
        if as_of.tzinfo is not UTC or len(message["as_of"]) > _LONGEST_TIME:
            return None
    event.time_ms = round(time.timestamp() * 1000)  # `epoch_ms`, without a call
    return event  # type: ignore[no-any-return]


def from_model(model: EventBase) -> AgentEvent:
    """The struct with the values of a model, which are not checked again."""
    event = _struct_of(model)
    event.time_ms = epoch_ms(event.time)
    return event  # type: ignore[no-any-return]


def _struct_of(model: BaseModel) -> Any:
    made = _STRUCT_OF_MODEL[type(model)]
    return made(
        **{name: _value_of(getattr(model, name)) for name in type(model).model_fields if name != "type"}
    )


def _value_of(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _struct_of(value)
    if isinstance(value, dict):
        return {key: _value_of(inner) for key, inner in value.items()}
    return value


# --- models to structs ---


def _make(model: type[BaseModel], namespace: dict[str, Any], extra: list[Any]) -> Any:
    """The struct of a model, and those of the models in it. Garbage collection passes it by: no cycles."""
    if model not in _STRUCT_OF_MODEL:
        fields = [
            (name, _bounded(field.annotation, field.metadata), _default(field))
            for name, field in model.model_fields.items()
            if name not in namespace
        ]
        _STRUCT_OF_MODEL[model] = msgspec.defstruct(
            model.__name__, [*fields, *extra], namespace=namespace, kw_only=True, gc=False, module=__name__
        )
    return _STRUCT_OF_MODEL[model]


def _default(field: FieldInfo) -> Any:
    if field.default_factory is not None:
        return msgspec.field(default_factory=cast(Any, field.default_factory), name=field.alias)
    if field.default is PydanticUndefined or field.alias == "schema":  # no event on the bus leaves it out
        return msgspec.field(name=field.alias)
    return msgspec.field(default=field.default, name=field.alias)


def _annotation(annotation: Any) -> Any:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _bounded(inner[0], inner[1:])
    if annotation is AwareDatetime:
        return Annotated[datetime, msgspec.Meta(tz=True)]
    if origin is Union or origin is types.UnionType:
        return Union[tuple(_annotation(each) for each in inner)]  # noqa: UP007 - made at run time
    if origin is list or origin is dict:
        return origin[tuple(_annotation(each) for each in inner)]
    if origin is Literal or annotation in (str, int, float, bool, type(None)):
        return annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _make(annotation, {}, [])
    raise UnknownConstraintError(f"no struct field for the type {annotation!r}")


def _bounded(annotation: Any, metadata: Any) -> Any:
    bounds = dict(_bounds(metadata))
    plain = _annotation(annotation)
    return Annotated[plain, msgspec.Meta(**bounds)] if bounds else plain


def _bounds(metadata: Any) -> Iterator[tuple[str, Any]]:
    for each in metadata:
        if isinstance(each, FieldInfo):
            yield from _bounds(each.metadata)
        elif isinstance(each, StringConstraints):
            yield from _bounds(each)
        elif name := _BOUNDS.get(type(each).__name__):
            yield name, getattr(each, name)
        elif not isinstance(each, AfterValidator):  # that of times, for which `fast_event` takes only UTC
            raise UnknownConstraintError(f"no struct constraint for {each!r}")


_STRUCT_OF_MODEL: Final[dict[type[BaseModel], Any]] = {}
_TIME_MS: Final = ("time_ms", msgspec.UnsetType, msgspec.field(default=msgspec.UNSET))
"""Epoch milliseconds, set once the rest is read. Of this type, so that no message can fill it."""

_STRUCTS: Final[Mapping[str, Any]] = {
    kind: _make(model, {"type": kind}, [_TIME_MS])
    for model in EVENT_TYPES
    for kind in (model.model_fields["type"].default,)
}
