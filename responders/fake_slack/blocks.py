"""Whether Slack would take a message.

Blocks are parsed and validated by the SDK's own models, so that limits are theirs. What those let through and
Slack does not is checked here: what they do not know and drop, empty and overlong texts, mrkdwn where plain
text must be, ids that are there twice, elements in blocks that do not hold such, and how many blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from slack_sdk.errors import SlackObjectFormationError
from slack_sdk.models.blocks import Block, ImageElement, InteractiveElement, TextObject

MAX_BLOCKS: Final = 50
MAX_MESSAGE_CHARS: Final = 40_000
_TEXT_CHARS: Final = 3_000
_FIELD_CHARS: Final = 2_000
_TEXTS: Final = frozenset({"plain_text", "mrkdwn"})
_PLAIN_ONLY: Final = frozenset(
    {"header/text", "button/text", "image/title", "confirm/title", "confirm/confirm", "confirm/deny"}
)
_HELD: Final[Mapping[tuple[str, str], tuple[type, ...]]] = {
    ("actions", "elements"): (InteractiveElement,),
    ("context", "elements"): (ImageElement, TextObject),
    ("section", "accessory"): (InteractiveElement, ImageElement),
}
"""What a block holds where: the SDK takes any element anywhere."""
_MALFORMED: Final = (SlackObjectFormationError, TypeError, KeyError, AttributeError, ValueError)
"""What the models raise on a shape they do not know."""


def problem_with(arguments: Mapping[str, Any]) -> str | None:
    """Slack's error for a message it would not take; None for one it takes."""
    answer = refusal_of(arguments)
    return None if answer is None else str(answer["error"])


def refusal_of(arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    """The whole answer to a message that Slack would not take, with what is wrong where."""
    text, blocks, metadata = (arguments.get(name) for name in ("text", "blocks", "metadata"))
    if text is not None and not isinstance(text, str):
        return _answer("invalid_arguments", ["must be a string [json-pointer:/text]"])
    if not _is_array_of_objects(blocks or []):
        return _answer("invalid_blocks_format", ["must be an array of objects [json-pointer:/blocks]"])
    if not text and not blocks:
        return _answer("no_text", [])
    if text and len(text) > MAX_MESSAGE_CHARS:
        return _answer("msg_too_long", [])
    if metadata is not None and not _is_metadata(metadata):
        return _answer("invalid_metadata_format", [])
    wrong = list(problems(blocks or ()))
    return _answer("invalid_blocks", wrong) if wrong else None


def problems(blocks: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What is wrong with the blocks, each with the place, as a JSON pointer."""
    if len(blocks) > MAX_BLOCKS:
        yield f"no more than {MAX_BLOCKS} items allowed [json-pointer:/blocks]"
    seen: set[str] = set()
    for index, block in enumerate(blocks):
        place = f"/blocks/{index}"
        block_id = block.get("block_id")
        if block_id in seen:
            yield f"block_id already exists: {block_id} [json-pointer:{place}/block_id]"
        if block_id:
            seen.add(block_id)
        yield from _problems_of(block, place)


def _problems_of(block: dict[str, Any], place: str) -> Iterator[str]:
    try:
        parsed = Block.parse(block)
        known = None if parsed is None else parsed.to_dict()
    except _MALFORMED as error:
        yield f"{error} [json-pointer:{place}]"
        return
    if parsed is None or known is None:
        yield f"unsupported type: {block.get('type')} [json-pointer:{place}/type]"
        return
    yield from _dropped(block, known, place)
    yield from _texts(block, str(block["type"]), place)
    yield from _misplaced(parsed, str(block["type"]), place)
    yield from _same_actions(block, place)


def _dropped(given: object, known: object, place: str) -> Iterator[str]:
    """What the model did not keep, because it knows no such property or element."""
    if isinstance(given, dict) and not isinstance(known, dict):
        yield f"unsupported type: {given.get('type')} [json-pointer:{place}/type]"
    elif isinstance(given, dict) and isinstance(known, dict):
        for key, value in given.items():
            if key in known:
                yield from _dropped(value, known[key], f"{place}/{key}")
            elif isinstance(value, dict) and "type" in value:
                yield f"unsupported type: {value['type']} [json-pointer:{place}/{key}/type]"
            elif value not in (None, "", [], {}):
                yield f"invalid additional property: {key} [json-pointer:{place}]"
    elif isinstance(given, list) and isinstance(known, list):
        for index, value in enumerate(given):
            found = known[index] if index < len(known) else None
            yield from _dropped(value, found, f"{place}/{index}")


def _texts(given: object, within: str, place: str) -> Iterator[str]:
    """Texts that are too short or too long, or not as plain as they must be. ``within`` is what holds them,
    as ``header/text``.
    """
    if isinstance(given, dict) and given.get("type") in _TEXTS:
        limit = _FIELD_CHARS if within.endswith("/fields") else _TEXT_CHARS
        length = len(given.get("text", ""))
        if length == 0:
            yield f"must be more than 0 characters [json-pointer:{place}/text]"
        elif length > limit:
            yield f"must be less than {limit + 1} characters [json-pointer:{place}/text]"
        if given["type"] == "mrkdwn" and within in _PLAIN_ONLY:
            yield f"must be plain_text [json-pointer:{place}/type]"
    elif isinstance(given, dict):
        kind = given.get("type", within.rpartition("/")[2])
        for key, value in given.items():
            yield from _texts(value, f"{kind}/{key}", f"{place}/{key}")
    elif isinstance(given, list):
        for index, value in enumerate(given):
            yield from _texts(value, within, f"{place}/{index}")


def _misplaced(parsed: Block, kind: str, place: str) -> Iterator[str]:
    for (block, name), fitting in _HELD.items():
        held = getattr(parsed, name, None) if block == kind else None
        for index, element in enumerate(held if isinstance(held, list) else [held]):
            if element is not None and not isinstance(element, fitting):
                where = f"{place}/{name}/{index}" if isinstance(held, list) else f"{place}/{name}"
                yield f"unsupported type: {element.type} [json-pointer:{where}/type]"
    if kind in ("actions", "context") and not getattr(parsed, "elements", None):
        yield f"no fewer than 1 items allowed [json-pointer:{place}/elements]"


def _same_actions(block: dict[str, Any], place: str) -> Iterator[str]:
    seen: set[str] = set()
    for index, element in enumerate(block.get("elements", ())):
        action_id = element.get("action_id")
        if action_id in seen:
            yield f"action_id already exists: {action_id} [json-pointer:{place}/elements/{index}/action_id]"
        if action_id:
            seen.add(action_id)


def _is_array_of_objects(blocks: object) -> bool:
    if not isinstance(blocks, Sequence) or isinstance(blocks, str):
        return False
    return all(isinstance(each, dict) for each in blocks)


def _is_metadata(metadata: object) -> bool:
    return (
        isinstance(metadata, Mapping)
        and isinstance(metadata.get("event_type"), str)
        and isinstance(metadata.get("event_payload"), Mapping)
    )


def _answer(error: str, messages: list[str]) -> dict[str, Any]:
    answer: dict[str, Any] = {"ok": False, "error": error}
    if messages:
        answer["errors"] = messages
        answer["response_metadata"] = {"messages": [f"[ERROR] {each}" for each in messages]}
    return answer
