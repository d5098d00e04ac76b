"""Pages on the terminal, when there is no Slack token: the same blocks, as Slack would show them."""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from responders.effects import Delivered, Outcome, Permanent
from responders.pages.page import Message
from responders.sender import Outgoing

NAME: Final = "terminal"
WRITE_TIMEOUT_S: Final = 5.0
_STYLED: Final = re.compile(r"\*(?P<bold>[^*\n]+)\*|`(?P<code>[^`\n]+)`")


def mrkdwn(text: str) -> Text:
    """Slack's mark-up as styled text. Control characters are dropped: a name must not steer the terminal."""
    plain = "".join(each for each in text if each == "\n" or unicodedata.category(each) != "Cc")
    styled, end = Text(), 0
    for match in _STYLED.finditer(plain):
        styled.append(_unescape(plain[end : match.start()]))
        if match["bold"] is not None:
            styled.append(_unescape(match["bold"]), style="bold")
        else:
            styled.append(_unescape(match["code"]), style="cyan")
        end = match.end()
    styled.append(_unescape(plain[end:]))
    return styled


def plain(message: Message) -> str:
    """What the page says, its header apart, as text."""
    texts: list[str] = []
    for block in message.blocks:
        if block["type"] in ("section", "context"):
            held = [block["text"]] if "text" in block else []
            held += [*block.get("fields", ()), *block.get("elements", ())]
            texts += [
                mrkdwn(each["text"]).plain.replace("\n", ": ", 1 if "fields" in block else 0) for each in held
            ]
            texts.append("")
    return "\n".join(texts).strip()


def _unescape(text: str) -> str:
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def panel(message: Message) -> Panel:
    """The whole page in a frame, its header as the title."""
    header = next((block for block in message.blocks if block["type"] == "header"), None)
    title = mrkdwn(header["text"]["text"] if header else message.text)
    title.stylize("bold")
    shown = [_shown(block) for block in message.blocks if block["type"] not in ("header", "actions")]
    red = "🔴" in title.plain or "🚨" in title.plain
    style = "red" if red else "green" if "✅" in title.plain else "yellow"
    return Panel(Group(*shown), title=title, title_align="left", border_style=style, padding=(0, 1))


def _shown(block: Mapping[str, Any]) -> RenderableType:
    if block["type"] == "divider":
        return Rule(style="dim")
    if block["type"] == "context":
        return Text("\n").join(_dimmed(element["text"]) for element in block["elements"])
    if "fields" in block:
        return _fields(field["text"] for field in block["fields"])
    text = mrkdwn(block["text"]["text"])
    text.append("\n")
    return text


def _dimmed(text: str) -> Text:
    styled = mrkdwn(text)
    styled.stylize("dim")
    return styled


def _fields(texts: Iterable[str]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for text in texts:
        name, _, value = text.partition("\n")
        grid.add_row(mrkdwn(name), mrkdwn(value))
    grid.add_row()
    return grid


class TerminalChannel:
    """Writes pages to a console.

    A terminal that takes nothing must not hold up containment: it is given up.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stuck: asyncio.Future[None] | None = None

    @property
    def name(self) -> str:
        return NAME

    async def send(self, page: Outgoing) -> Outcome:
        outcome = await self._print(panel(page.message))
        return Delivered(NAME, page.key[-256:]) if outcome is None else outcome

    async def edit(self, conversation: str, message_id: str, message: Message) -> Outcome:
        done = next((block for block in message.blocks if block.get("block_id") == "done"), None)
        footer = message.blocks[-1]
        shown = Group(*(_shown(block) for block in (done, footer) if block is not None))
        title = mrkdwn(f"↻ {message.text}")
        outcome = await self._print(
            Panel(shown, title=title, title_align="left", border_style="dim", padding=(0, 1))
        )
        return Delivered(conversation, message_id) if outcome is None else outcome

    async def _print(self, shown: RenderableType) -> Permanent | None:
        if self._stuck is not None and not self._stuck.done():
            return Permanent("the terminal takes no output")
        writing = asyncio.ensure_future(asyncio.to_thread(self._console.print, shown))
        try:
            await asyncio.wait_for(asyncio.shield(writing), WRITE_TIMEOUT_S)
        except TimeoutError:
            self._stuck = writing
            return Permanent("the terminal takes no output")
        except OSError as error:
            return Permanent(f"the terminal is gone ({error.strerror})")
        return None
