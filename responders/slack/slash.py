"""What people type after ``/watchkeeper``: the words of the command line, from text to an order. Pure.

Phones write curly quotes and long dashes, and Slack escapes and links what it takes for an address: all of
that is undone first. A reason need not be quoted, and may hold an apostrophe.
"""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NoReturn

from responders.policy import Deed

Verb = Literal[
    "halt",
    "resume",
    "degrade",
    "ack",
    "approve",
    "deny",
    "resolve",
    "false-alarm",
    "silence",
    "unsilence",
    "status",
    "help",
]

USAGE: Final[Mapping[Verb, str]] = {
    "halt": "halt TARGET [reason] or halt --all [--tenant T] [reason]",
    "resume": "resume TARGET [reason]",
    "degrade": "degrade TARGET rag|keyword|static [reason]",
    "ack": "ack ID",
    "approve": "approve ID [--target TARGET]",
    "deny": "deny ID [reason] [--target TARGET]",
    "resolve": "resolve ID [reason]",
    "false-alarm": "false-alarm ID [reason]",
    "silence": "silence TARGET|ID MINUTES [reason]",
    "unsilence": "unsilence TARGET|ID",
    "status": "status",
    "help": "help",
}
"""How each is written."""

DEEDS: Final[Mapping[Verb, Deed]] = {
    "halt": "halt",
    "resume": "resume",
    "degrade": "degrade",
    "ack": "acknowledge",
    "approve": "approve",
    "deny": "deny",
    "resolve": "resolve",
    "false-alarm": "false_alarm",
    "silence": "silence",
    "unsilence": "silence",
}
"""What each is in the words of the policy's roles; anyone may ask for what is left."""

_VERBS: Final[Mapping[str, Verb]] = {verb: verb for verb in USAGE}
_LINK: Final = re.compile(r"<(?:https?://|mailto:)[^|<>]*\|([^<>]*)>|<((?:https?://|mailto:)[^|<>]*)>")
_APOSTROPHE: Final = "\ue000"
"""Stands for one that is no quotation mark while the words are split: a character that nobody types."""
_TYPOGRAPHY: Final = str.maketrans(
    {"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "`": " ", "\u00a0": " "}
)


@dataclass(frozen=True, slots=True)
class Order:
    """``what`` is a target or an incident's id, as typed; ``everyone`` is the global stop of ``tenant``."""

    verb: Verb
    what: str = ""
    reason: str = ""
    level: str = ""
    minutes: float = 0.0
    everyone: bool = False
    tenant: str = "default"
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What is wrong with what was typed, and how it is written: for the verb that was typed or may have been
    meant, or (None) for all.
    """

    problem: str
    verb: Verb | None


def parse(text: str) -> Order | Unreadable:
    """The order in the text after the command's name."""
    words = _words(text)
    if words[:1] in (["watchkeeper"], ["/watchkeeper"]):
        words = words[1:]  # pasted from a page
    if not words:
        return Order("help")
    name = words[0].lower()
    verb = _VERBS.get(name)
    if verb is None:
        meant = difflib.get_close_matches(name[:40], USAGE, n=1)
        return Unreadable(f"there is no command {name[:40]!r} here", _VERBS[meant[0]] if meant else None)
    if verb in ("status", "help"):
        return Order(verb)
    if "--all" in words[2:] and not words[1].startswith("--"):
        return Unreadable(f"it is either {words[1][:40]!r} or --all", verb)
    try:
        given = _PARSERS[verb].parse_intermixed_args(words[1:])
        return _order(verb, given)
    except _UnreadableError as error:
        return Unreadable(str(error)[:300], verb)


def _words(text: str) -> list[str]:
    """The words as a shell splits them, but that an apostrophe inside a word is one; as blanks do, when a
    quote is not closed.
    """
    plain = _LINK.sub(lambda match: match[1] or match[2], text.translate(_TYPOGRAPHY))
    plain = plain.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    plain = re.sub(r"(?<!\S)[—–](?=\w)", "--", plain)
    plain = re.sub(r"(?<=\w)'(?=\w)", _APOSTROPHE, plain)
    for quotes in ("'\"", '"'):
        try:
            return [word.replace(_APOSTROPHE, "'") for word in _split(plain, quotes)]
        except ValueError:
            continue
    return plain.replace(_APOSTROPHE, "'").split()


def _split(text: str, quotes: str) -> list[str]:
    """Raises ValueError when one of the quotes is not closed."""
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace_split, lexer.commenters, lexer.quotes = True, "", quotes
    return list(lexer)


def _order(verb: Verb, given: argparse.Namespace) -> Order:
    words = list(given.words)
    reason = given.reason or ""
    everyone = bool(getattr(given, "all", False))
    needed = ["the target is missing"] if not everyone else []
    if verb in ("approve", "ack", "deny", "resolve", "false-alarm"):
        needed = ["the incident's id is missing"]
    if verb == "unsilence":
        needed = ["what is silent is missing"]
    needed += {"degrade": ["the level is missing"], "silence": ["the minutes are missing"]}.get(verb, [])
    if len(words) < len(needed):
        raise _UnreadableError(needed[len(words)])
    taken, rest = words[: len(needed)], words[len(needed) :]
    if taken and taken[0][:1] in ("'", '"'):
        raise _UnreadableError(f"the quotation mark before {taken[0][1:41]} is not closed")
    if taken and not taken[0].strip("-—–"):
        raise _UnreadableError(f"{taken[0][:40]!r} is no target")
    if rest and verb in ("approve", "ack", "unsilence"):
        raise _UnreadableError(f"{rest[0][:40]!r} is one word too many")
    tenant = getattr(given, "tenant", None)
    if tenant is not None and (not everyone or "/" in tenant):
        raise _UnreadableError("--tenant takes a tenant's name and goes with --all: else write TENANT/AGENT")
    return Order(
        verb,
        what=taken[0] if taken else "",
        reason=" ".join([reason, *rest]).strip("—– "),
        level=taken[1] if verb == "degrade" else "",
        minutes=_minutes(taken[1]) if verb == "silence" else 0.0,
        everyone=everyone,
        tenant="default" if tenant is None else tenant,
        target=getattr(given, "target", None),
    )


def _minutes(text: str) -> float:
    if not re.fullmatch(r"\d{1,6}(\.\d{1,3})?", text):
        raise _UnreadableError(f"{text[:40]!r} is no number of minutes")
    return float(text)


class _UnreadableError(Exception):
    """The words do not make an order; says why."""


class _Parser(argparse.ArgumentParser):
    """One that raises where the command line prints and exits."""

    def error(self, message: str) -> NoReturn:
        raise _UnreadableError(message)


def _parser(verb: Verb) -> _Parser:
    parser = _Parser(prog=verb, add_help=False, allow_abbrev=False)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--reason")
    if verb == "halt":
        parser.add_argument("--all", action="store_true")
        parser.add_argument("--tenant")
    if verb in ("approve", "deny"):
        parser.add_argument("--target")
    return parser


_PARSERS: Final[Mapping[Verb, _Parser]] = {verb: _parser(verb) for verb in DEEDS}
