"""Slack's mark-up as HTML, everything in it escaped: bold, italic, strike, code, quotes, links, mentions,
emoji, line breaks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from markupsafe import Markup, escape
from rich.emoji import Emoji

_PREFORMATTED: Final = re.compile(r"```\n?(.+?)```", re.DOTALL)
_QUOTED: Final = re.compile(r"(?:&gt;|>) ?")
_INLINE: Final = re.compile(
    r"`(?P<code>[^`\n]+)`"
    r"|<(?P<angle>[^<>\n]+)>"
    r"|(?<!\w)\*(?P<b>\S(?:[^*\n]*\S)?)\*(?!\w)"
    r"|(?<!\w)_(?P<i>\S(?:[^_\n]*\S)?)_(?!\w)"
    r"|(?<!\w)~(?P<s>\S(?:[^~\n]*\S)?)~(?!\w)"
    r"|(?P<url>https?://(?:[^\s<>|&]|&amp;)*[^\s<>|&.,;:!?)])"
)
_LINKED: Final = frozenset({"http", "https", "mailto"})


def mrkdwn(text: str, people: Mapping[str, str] | None = None) -> Markup:
    """The text as Slack would show it; ``people`` are names by id.

    >>> mrkdwn("*Agent* `a&lt;b` _since_ <https://example.com|then>")
    Markup('<b>Agent</b> <code>a&lt;b</code> <i>since</i> <a href="https://example.com">then</a>')
    """
    parts: list[Markup] = []
    for index, part in enumerate(_PREFORMATTED.split(text)):
        if index % 2:
            parts.append(Markup("<pre>{}</pre>").format(_unescaped(part)))
        else:
            parts += _paragraphs(part, people or {})
    return Markup().join(parts)


def plain(text: str) -> Markup:
    """Text that has no mark-up but emoji."""
    return Markup("<br>").join(escape(Emoji.replace(line)) for line in _unescaped(text).split("\n"))


def _paragraphs(text: str, people: Mapping[str, str]) -> Iterator[Markup]:
    """Runs of lines, those that are quoted apart."""
    run: list[Markup] = []
    quoted = False
    for line in text.split("\n"):
        mark = _QUOTED.match(line)
        if (mark is not None) != quoted and run:
            yield _run(run, quoted)
            run = []
        quoted = mark is not None
        run.append(_inline(line[mark.end() :] if mark else line, people))
    yield _run(run, quoted)


def _run(lines: list[Markup], quoted: bool) -> Markup:
    joined = Markup("<br>").join(lines)
    return Markup("<blockquote>{}</blockquote>").format(joined) if quoted else joined


def _inline(text: str, people: Mapping[str, str]) -> Markup:
    parts: list[Markup] = []
    end = 0
    for match in _INLINE.finditer(text):
        parts.append(plain(text[end : match.start()]))
        kind, inner = match.lastgroup or "", match[match.lastgroup or 0]
        match kind:
            case "code":
                parts.append(Markup("<code>{}</code>").format(_unescaped(inner)))
            case "angle":
                parts.append(_angle(inner, people))
            case "url":
                parts.append(_link(_unescaped(inner), _unescaped(inner)))
            case _:
                parts.append(Markup("<{0}>{1}</{0}>").format(Markup(kind), _inline(inner, people)))  # noqa: S704
        end = match.end()
    parts.append(plain(text[end:]))
    return Markup().join(parts)


def _angle(inner: str, people: Mapping[str, str]) -> Markup:
    """A link, or a mention of a person, a channel or everybody."""
    target, _, label = inner.partition("|")
    match target[:1]:
        case "@":
            return _mention(f"@{people.get(target[1:]) or label or target[1:]}")
        case "#":
            return _mention(f"#{label or target[1:]}")
        case "!":
            return _mention(label or f"@{target[1:].partition('^')[0]}")
    if urlsplit(target).scheme not in _LINKED:
        return escape(_unescaped(label or f"<{inner}>"))
    return _link(_unescaped(target), _unescaped(label or target.removeprefix("mailto:")))


def _mention(name: str) -> Markup:
    return Markup('<span class="mention">{}</span>').format(_unescaped(name))


def _link(target: str, label: str) -> Markup:
    return Markup('<a href="{}">{}</a>').format(target, label)


def _unescaped(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
