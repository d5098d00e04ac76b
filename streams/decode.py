"""agent.events → agent events or dead letters: one record's bytes, read strictly and without I/O.

Exactly one event or one dead letter comes of every event in a record, in order; a record that cannot be read
at all is one dead letter. The common case is a straight line (orjson, a look for duplicate keys and depth,
a struct); whatever looks odd there is read again by `_reread`, which is slow, exact, and can tell a bad event
from its neighbours, and by the model of `schemas.event`, which has the last word on what is an event.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError

from detectors.events import fast_event, from_model
from schemas.base import (
    MAX_EVENTS_PER_MESSAGE,
    MAX_FUTURE_MS,
    MAX_MESSAGE_BYTES,
    MAX_NESTING,
    MAX_PAST_MS,
    from_epoch_ms,
)
from schemas.dead_letter import DeadLetter, DeadReason
from schemas.event import AGENT_EVENT, EVENT_SCHEMA, EVENT_TYPES, AgentEvent
from streams.prices import cost_usd

Decoded = AgentEvent | DeadLetter

RAW_COPIES_BYTES = 1024 * 1024
"""How much `raw_base64` one record may cause: a thousand bad events do not keep it a thousand times."""

_KNOWN_TYPES = frozenset(str(model.model_fields["type"].default) for model in EVENT_TYPES)
_validate: Callable[..., AgentEvent] = AGENT_EVENT.validator.validate_python
_SHOWN_ERRORS = 3
_SHOWN_NAME_CHARS = 64
_SIGNIFICANT_DIGITS = 19
_DATE_ENDS = ("T", "t", " ")
_RFC3339 = "an RFC 3339 time with an offset, like 2026-01-31T12:00:00Z"


class Flaw(NamedTuple):
    """Why something was not taken in: a reason for machines, a sentence for people."""

    reason: DeadReason
    detail: str


class UnreadableError(Exception):
    """Carries a flaw out of a parse."""

    def __init__(self, reason: DeadReason, detail: str) -> None:
        super().__init__(detail)
        self.flaw = Flaw(reason, detail)


def decode(
    value: bytes | None, topic: str, partition: int, offset: int, broker_time_ms: float | None
) -> list[Decoded]:
    """The events and dead letters of one record of `agent.events`, in their order. Never raises.

    The events are the structs of `detectors.events`.

    Args:
        value: one event or an array of up to 1,000, JSON; None is a tombstone.
        topic, partition, offset: where the record stands, for the dead letter.
        broker_time_ms: the broker's time of the record, against which the events' times are held; None in a
            backtest, which has no broker: no event is then refused for its time.
    """
    event = None if value is None else _usual(value)
    if event is not None and (
        broker_time_ms is None or -MAX_PAST_MS <= event.time_ms - broker_time_ms <= MAX_FUTURE_MS
    ):
        return [event]
    found = _read(value, _event)
    flawless = True
    for place, item in enumerate(found):
        if item.__class__ is Flaw:
            flawless = False
        elif broker_time_ms is not None:
            ahead_ms = item.time_ms - broker_time_ms  # type: ignore[union-attr]
            if not -MAX_PAST_MS <= ahead_ms <= MAX_FUTURE_MS:
                flawless = False
                found[place] = _numbered(clock_flaw(ahead_ms), place + 1, len(found))
    if flawless:
        return found  # type: ignore[return-value]
    return list(with_dead_letters(found, value, topic, partition, offset, broker_time_ms))


def _usual(value: bytes) -> AgentEvent | None:
    """The event of a message that is one event, and nothing odd about it at a glance; None for all others.

    Each key written has a colon; those in texts, two or more in a time, come on top (only an escape could
    hide one). So if there are no more than that for the keys found, none was written twice, and no object but
    those looked at has any: only arrays could go deep.
    """
    if b"\\" in value or len(value) > MAX_MESSAGE_BYTES:
        return None
    try:
        message = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    event = fast_event(message)
    if event is None:
        return None
    colons = len(message) + 2
    if event.attributes is not None:
        colons += len(event.attributes)
    if event.type == "llm.call":
        if event.cost_usd is None:
            _set_cost(event, message)
    elif event.type == "tool.call":
        if event.result_shape is not None:
            colons += event.result_shape.count(":")
    elif event.type == "session.start" and event.budget is not None:
        colons += len(message["budget"])
    return event if colons == value.count(b":") and value.count(b"[") < MAX_NESTING - 2 else None


def read_events(value: bytes | None) -> list[AgentEvent | Flaw]:
    """The events of one message, as models, without the check of their time; a `Flaw` stands where one was
    not taken in.

    Never raises, never returns an empty list.
    """
    return _read(value, validated)


def _read(value: bytes | None, take: Callable[[Any], AgentEvent | Flaw]) -> list[AgentEvent | Flaw]:
    try:
        message = _parse(value or b"")
        if message.__class__ is not list:
            return [take(message)]
        if not message:
            raise UnreadableError("invalid", "the array is empty: expected at least one event")
        if len(message) > MAX_EVENTS_PER_MESSAGE:
            detail = (
                f"the array has {len(message)} events: at most {MAX_EVENTS_PER_MESSAGE} are taken, split it"
            )
            raise UnreadableError("too_many_events", detail)
    except UnreadableError as error:
        return [error.flaw]
    return [_numbered(take(item), place, len(message)) for place, item in enumerate(message, 1)]


def dead_letter(
    flaw: Flaw,
    value: bytes | None,
    topic: str,
    partition: int,
    offset: int,
    broker_time_ms: float | None,
) -> DeadLetter:
    """The dead letter of a record, with the record as received, cut at 256 KiB.

    Without a broker's time (a backtest) its time is 1970, so that it does not depend on when it was made.
    """
    return DeadLetter(
        reason=flaw.reason,
        detail=flaw.detail[:1024],
        topic=topic,
        partition=partition,
        offset=offset,
        raw_base64=base64.b64encode((value or b"")[:MAX_MESSAGE_BYTES]).decode(),
        time=from_epoch_ms(broker_time_ms or 0),
    )


def with_dead_letters(
    found: Sequence[AgentEvent | Flaw],
    value: bytes | None,
    topic: str,
    partition: int,
    offset: int,
    broker_time_ms: float | None,
) -> Iterator[Decoded]:
    """Turns flaws into dead letters. The first hold the record; from 1 MiB on the rest point to it."""
    whole = dead_letter(Flaw("malformed", ""), value, topic, partition, offset, broker_time_ms)
    left_bytes = RAW_COPIES_BYTES
    for item in found:
        if not isinstance(item, Flaw):
            yield item
            continue
        change: dict[str, str] = {"reason": item.reason, "detail": item.detail[:1024]}
        if left_bytes < len(whole.raw_base64):
            change["raw_base64"] = ""
        left_bytes -= len(whole.raw_base64)
        yield whole.model_copy(update=change)


def _numbered(item: AgentEvent | Flaw, place: int, count: int) -> AgentEvent | Flaw:
    if isinstance(item, Flaw) and count > 1:
        return Flaw(item.reason, f"event {place} of {count}: {item.detail}")
    return item


def clock_flaw(ahead_ms: float) -> Flaw:
    """What is said of an event whose time is this far ahead of the broker's (negative: behind)."""
    where = f"{abs(ahead_ms) / 1000:.0f} s {'ahead of' if ahead_ms > 0 else 'behind'} the broker's clock"
    return Flaw("clock", f"time: {where}, at most 5 min ahead and 24 h behind pass: set the host's clock")


# --- bytes to plain values ---


def _parse(value: bytes) -> Any:
    """The message as plain values, in which a `Flaw` stands for an event that breaks a limit.

    A key written twice shows as more `":` in the text than keys in the result. White space is taken out
    first, so no key is missed; text that only looks like one leads to the second reading, as any doubt does.
    """
    if len(value) > MAX_MESSAGE_BYTES:
        detail = f"the message has {len(value)} bytes: at most {MAX_MESSAGE_BYTES} are taken"
        raise UnreadableError("too_large", detail)
    try:
        message = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        return _reread(value, error)
    if b"\\" in value and b"\\u0000" in value:
        return _reread(value, None)
    depth, keys = _shape(message)
    if depth > MAX_NESTING or keys != value.translate(None, b" \t\n\r").count(b'":'):
        return _reread(value, None)
    return message


def _shape(message: Any) -> tuple[int, int]:
    """Depth of nesting and number of keys, level by level; stops one level past the limit."""
    depth = keys = 0
    level = [message] if message.__class__ is dict or message.__class__ is list else []
    while level and depth <= MAX_NESTING:
        depth += 1
        deeper: list[Any] = []
        for container in level:
            if container.__class__ is dict:
                keys += len(container)
                deeper += [v for v in container.values() if v.__class__ is dict or v.__class__ is list]
            else:
                deeper += [v for v in container if v.__class__ is dict or v.__class__ is list]
        level = deeper
    return depth, keys


def _reread(value: bytes, error: orjson.JSONDecodeError | None) -> Any:
    """The exact reading: names what is wrong, and in an array with which event.

    Raises:
        UnreadableError: the message cannot be read at all.
    """
    if not value:
        raise UnreadableError("malformed", "the value is empty: expected one event or an array of events")
    if value.startswith(b"\xef\xbb\xbf"):
        raise UnreadableError(
            "malformed", "the message starts with a byte order mark: send UTF-8 without one"
        )
    try:
        message = json.loads(
            value.decode(),
            object_pairs_hook=_object,
            parse_constant=lambda name: Flaw(
                "not_finite", f"{name} is not a number that can be used: leave it out"
            ),
            parse_float=_number,
            parse_int=_number,
        )
    except UnicodeDecodeError as problem:
        raise UnreadableError("malformed", f"not UTF-8 at byte {problem.start}") from None
    except json.JSONDecodeError as problem:
        raise UnreadableError(
            "malformed", f"not JSON: {problem.msg.lower()} at character {problem.pos}"
        ) from None
    except RecursionError:
        raise UnreadableError("too_deep", f"nested deeper than {MAX_NESTING} levels") from None
    if isinstance(message, list):
        flawed: list[Any] = [flaw_within(item, 2) or item for item in message]
        if error is not None and not any(isinstance(item, Flaw) for item in flawed):
            raise UnreadableError("malformed", f"not JSON: {error.msg.lower()}")
        return flawed
    flaw = flaw_within(message, 1)
    if flaw is None and error is not None:
        raise UnreadableError("malformed", f"not JSON: {error.msg.lower()}")
    return flaw or message


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | Flaw:
    result = dict(pairs)
    if len(result) == len(pairs):
        return result
    seen: set[str] = set()
    twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return Flaw("duplicate_key", f"the key {_name(twice)} stands twice in one object: send it once")


def _number(text: str) -> int | float | Flaw:
    """A number as orjson reads it: an integer too long for 64 bits is a float."""
    if len(text) <= _SIGNIFICANT_DIGITS and text.lstrip("-").isdigit():
        return int(text)
    number = float(text)
    if number in (float("inf"), float("-inf")):
        return Flaw("not_finite", "a number is too large to be used: send finite numbers")
    return number


def flaw_within(item: Any, depth: int) -> Flaw | None:
    """The first limit that a value at this depth breaks, if any."""
    stack = [(item, depth)]
    while stack:
        value, level = stack.pop()
        if isinstance(value, Flaw):
            return value
        if isinstance(value, str):
            if (flaw := _flaw_of_text(value)) is not None:
                return flaw
        elif isinstance(value, dict | list):
            if level > MAX_NESTING:
                return Flaw("too_deep", f"nested deeper than {MAX_NESTING} levels")
            stack += [(inner, level + 1) for inner in (value.values() if isinstance(value, dict) else value)]
            stack += [(key, level + 1) for key in value] if isinstance(value, dict) else []
    return None


def _flaw_of_text(text: str) -> Flaw | None:
    if "\x00" in text:
        return Flaw("invalid", "a text holds the character U+0000, which cannot be stored: remove it")
    try:
        text.encode()
    except UnicodeEncodeError:
        return Flaw(
            "malformed", "a text holds half of a surrogate pair, which is not Unicode: send whole characters"
        )
    return None


# --- plain values to events ---


def _event(raw: Any) -> AgentEvent | Flaw:
    """As `validated`, as a struct: what the struct does not take, the model decides on."""
    event = fast_event(raw) if raw.__class__ is dict else None
    if event is None:
        slow = validated(raw)
        return slow if isinstance(slow, Flaw) else from_model(slow)
    if event.type == "llm.call" and event.cost_usd is None:
        _set_cost(event, raw)
    return event


def _set_cost(event: Any, raw: dict[str, Any]) -> None:
    event.cost_usd = _price(raw, event.time)


def validated(raw: Any) -> AgentEvent | Flaw:
    """One event of its plain values. Types are taken strictly: a number in quotes is not a number."""
    if raw.__class__ is not dict:
        return raw if isinstance(raw, Flaw) else Flaw("invalid", f"expected an object, got {_kind(raw)}")
    if raw.get("schema") != EVENT_SCHEMA:
        got = _name(raw["schema"]) if "schema" in raw else "nothing"
        return Flaw("unknown_schema", f'schema: expected "{EVENT_SCHEMA}", got {got}')
    try:
        raw["time"] = _time(raw["time"])
        kind = raw.get("type")
        if kind == "retrieval" and raw.get("as_of") is not None:
            raw["as_of"] = _time(raw["as_of"])
        elif kind == "llm.call" and raw.get("cost_usd") is None:
            raw["cost_usd"] = _price(raw, raw["time"])
        return _validate(raw, strict=True)
    except ValidationError as error:
        return _second_look(raw, error)
    except (KeyError, ValueError):
        return _flaw_of_times(raw)


def _price(raw: dict[str, Any], time: datetime) -> float | None:
    """The cost of a model call that does not say it, if the price table knows the model.

    A call without any token was not counted rather than free: its cost stays unknown.
    """
    model = raw.get("response_model") or raw.get("request_model")
    provider = raw.get("provider")
    if not isinstance(model, str) or not (provider is None or isinstance(provider, str)):
        return None
    sent, received = _tokens(raw, "input_tokens"), _tokens(raw, "output_tokens")
    if sent + received == 0:
        return None
    return cost_usd(provider, model, sent, received, _tokens(raw, "cache_read_tokens"), time)


def _tokens(raw: dict[str, Any], field: str) -> int:
    """What stands there, or 0 for what the model will refuse anyway."""
    count = raw.get(field)
    return count if count.__class__ is int and count > 0 else 0


def _time(text: Any) -> datetime:
    """An RFC 3339 time, in UTC. `datetime.fromisoformat` is fast but takes more: so the look at separators.

    Raises:
        ValueError: it is not one.
    """
    if text.__class__ is not str or text[4:5] != "-" or text[10:11] not in _DATE_ENDS or text[13:14] != ":":
        raise ValueError
    time = datetime.fromisoformat(text if text[-1] != "z" else text.upper())
    if time.tzinfo is UTC:
        return time
    if time.tzinfo is None:
        raise ValueError
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise ValueError from None


def _second_look(raw: dict[str, Any], error: ValidationError) -> AgentEvent | Flaw:
    """12.0 is an integer in JSON: whole floats are tried as such before the event is refused."""
    try:
        return _validate(_with_integers(raw), strict=True)
    except ValidationError:
        return _flaw_of(raw, error)


def _with_integers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_integers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_integers(inner) for inner in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _flaw_of(raw: dict[str, Any], error: ValidationError) -> Flaw:
    kind = raw.get("type")
    if not isinstance(kind, str) or kind not in _KNOWN_TYPES:
        got = _name(kind) if "type" in raw else "nothing"
        return Flaw("unknown_type", f"type: expected one of {', '.join(sorted(_KNOWN_TYPES))}; got {got}")
    problems = error.errors(include_url=False, include_context=False)
    lines = []
    for problem in problems[:_SHOWN_ERRORS]:
        place = ".".join(_printable(str(part)) for part in problem["loc"])
        got = "" if problem["type"] == "missing" else f", got {_kind(problem['input'])}"
        lines.append(f"{place}: {problem['msg'][0].lower()}{problem['msg'][1:]}{got}")
    if len(problems) > _SHOWN_ERRORS:
        lines.append(f"and {len(problems) - _SHOWN_ERRORS} more")
    return Flaw("invalid", "; ".join(lines))


def _flaw_of_times(raw: dict[str, Any]) -> Flaw:
    if "time" not in raw:
        return Flaw("invalid", f"time: expected {_RFC3339}, got nothing")
    name = "as_of" if isinstance(raw["time"], datetime) else "time"
    return Flaw("invalid", f"{name}: expected {_RFC3339}, got {_kind(raw[name])}")


def _kind(value: Any) -> str:
    """What a value is, without what it says: dead letters are read by people who may not see content."""
    if isinstance(value, str):
        return f"a string of {len(value)} characters"
    if isinstance(value, list):
        return f"an array of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)} fields"
    if isinstance(value, datetime):
        return "a time"
    return {type(None): "null", bool: "a boolean"}.get(type(value), "a number")


def _name(value: Any) -> str:
    """A name that helps to find the fault, short enough not to be content."""
    return f'"{_printable(value)}"' if isinstance(value, str) else _kind(value)


def _printable(text: str) -> str:
    cut = text[:_SHOWN_NAME_CHARS]
    return "".join(char if char.isprintable() else "?" for char in cut) + (
        "…" if len(text) > len(cut) else ""
    )
