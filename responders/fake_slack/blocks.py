"""Whether Slack would take a message: by its documented limits on text and blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_LIMITS: Final = {"header": 150, "section": 3000}
_BLOCK_TYPES: Final = frozenset({"header", "section", "divider", "context", "actions", "image"})


def problem_with(arguments: Mapping[str, Any]) -> str | None:
    """Slack's error for a message it would not take."""
    blocks = arguments.get("blocks") or []
    if not arguments.get("text") and not blocks:
        return "no_text"
    if len(blocks) > 50 or not all(_acceptable(block) for block in blocks):
        return "invalid_blocks"
    ids = [block["block_id"] for block in blocks if "block_id" in block]
    return "invalid_blocks" if len(ids) != len(set(ids)) else None


def _acceptable(block: Mapping[str, Any]) -> bool:
    kind = block.get("type")
    texts = [block["text"]] if "text" in block else []
    fields, elements = block.get("fields", []), block.get("elements", [])
    return (
        kind in _BLOCK_TYPES
        and len(fields) <= 10
        and len(elements) <= 10
        and all(0 < len(text.get("text", "")) <= _LIMITS.get(str(kind), 3000) for text in texts)
        and all(0 < len(each.get("text", "")) <= 2000 for each in fields)
        and (kind != "section" or bool(texts or fields))
        and (kind != "header" or (bool(texts) and texts[0].get("type") == "plain_text"))
    )
