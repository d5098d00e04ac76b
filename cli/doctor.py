"""Looks at every part the engine needs, one after the other, and says what to do about what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Literal

import aiohttp

from cli.common import ensure_data_dir
from cli.errors import UserError
from config.settings import Settings

Verdict = Literal["ok", "note", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about one part. `note` works, but is not what production wants."""

    part: str
    verdict: Verdict
    detail: str
    advice: str = ""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


async def examine(settings: Settings, timeout_s: float) -> list[Finding]:
    """Every check, each with its own time limit."""
    checks: tuple[tuple[str, Callable[[Settings], Awaitable[Finding]]], ...] = (
        ("data directory", _data_dir),
        ("broker", _broker),
        ("topics", _topics),
        ("incident store", _store),
        ("keys", _keys),
        ("paging", _paging),
    )
    findings = []
    for part, check in checks:
        try:
            findings.append(await asyncio.wait_for(check(settings), timeout_s))
        except TimeoutError:
            findings.append(
                Finding(
                    part,
                    "wrong",
                    f"no answer within {timeout_s:.0f} s",
                    "see that it runs and can be reached",
                )
            )
    return findings


async def _data_dir(settings: Settings) -> Finding:
    try:
        folder = ensure_data_dir(settings)
    except UserError as error:
        return Finding("data directory", "wrong", str(error), "give --data-dir a folder you own")
    return Finding("data directory", "ok", f"{folder} can be written to")


async def _broker(settings: Settings) -> Finding:
    from streams.admin import BrokerError, connect

    try:
        admin = await connect(settings.kafka)
    except BrokerError as error:
        return Finding("broker", "wrong", *_split(error))
    await admin.close()
    return Finding("broker", "ok", f"{settings.kafka.bootstrap} answers")


async def _topics(settings: Settings) -> Finding:
    from streams.admin import BrokerError, TopicError, check_topics

    try:
        counts = await check_topics(settings.kafka)
    except (BrokerError, TopicError) as error:
        return Finding("topics", "wrong", *_split(error))
    return Finding("topics", "ok", f"{len(counts)} topics with {settings.kafka.partitions} partitions each")


async def _store(settings: Settings) -> Finding:
    from responders.database import StoreError
    from responders.migrations import revisions

    try:
        present, newest = await asyncio.to_thread(revisions, settings.database_url)
    except StoreError as error:
        return Finding("incident store", "wrong", *_split(error))
    if present != newest:
        return Finding(
            "incident store", "wrong", "its tables are not of this version", "run: watchkeeper db upgrade"
        )
    return Finding("incident store", "ok", "its tables are up to date")


async def _keys(settings: Settings) -> Finding:
    from responders.keys import KeyFileError, load

    try:
        keys = load(settings.data_dir)
    except KeyFileError as error:
        return Finding("keys", "wrong", *_split(error, "run: watchkeeper keys create"))
    return Finding(
        "keys", "ok", f"commands are signed by {keys.engine.key_id}, lifted by {keys.operator.key_id}"
    )


async def _paging(settings: Settings) -> Finding:
    from responders.slack import SlackChannel, SlackRefusedError

    slack = settings.slack
    if slack.bot_token is None:
        return Finding(
            "paging",
            "note",
            "no Slack token: pages go to the terminal and the HTTP API",
            "set WATCHKEEPER_SLACK__BOT_TOKEN and WATCHKEEPER_SLACK__CHANNEL to page in Slack",
        )
    async with aiohttp.ClientSession() as session:
        channel = SlackChannel(slack.bot_token.get_secret_value(), slack.channel, slack.base_url, session)
        try:
            team = await channel.check()
        except SlackRefusedError as error:
            return Finding("paging", "wrong", *_split(error))
    if not team:
        return Finding("paging", "wrong", "Slack does not answer", "check the network, then run doctor again")
    return Finding("paging", "ok", f"pages go to {slack.channel} of {team}")


def _split(error: Exception, advice: str = "") -> tuple[str, str]:
    """Our messages are `what is wrong: what to do`."""
    detail, found, action = str(error).partition("; ")
    if not found:
        detail, found, action = str(error).partition(": ")
    return (detail, action) if found else (str(error), advice)
