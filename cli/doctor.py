"""Looks at every part the engine needs, one after the other, and says what to do about what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from cli.common import ensure_data_dir
from cli.errors import UserError
from config.settings import Settings

if TYPE_CHECKING:
    from responders.channels.opening import Checked

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
    return [*findings, *await _channels(settings, timeout_s), *await _slack_buttons(settings, timeout_s)]


async def _data_dir(settings: Settings) -> Finding:
    if not settings.data_dir.exists():
        advice = "give --data-dir the running engine's; watchkeeper up makes one, and watchkeeper prepare"
        return Finding("data directory", "note", f"{settings.data_dir} is not there yet", advice)
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
    from responders.store.database import StoreError
    from responders.store.migrations import exists, revisions

    try:
        if not await asyncio.to_thread(exists, settings.database_url):
            return Finding("incident store", "wrong", "there is none yet", "run: watchkeeper db upgrade")
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
    """Who is told, and whether everyone whom the policy names is set up."""
    from responders import actions
    from responders.channels import opening as channels
    from responders.policy import PolicyError

    try:
        policy = actions.installation_policy(settings)
        channels.must_know(policy, settings)
    except PolicyError as error:
        return Finding("paging", "wrong", str(error), "correct the policy: watchkeeper policy check")
    if channels.names(settings) == ("terminal",):
        return Finding(
            "paging",
            "note",
            "no channel is set up: pages go to the terminal and the HTTP API",
            "set WATCHKEEPER_SLACK__BOT_TOKEN and WATCHKEEPER_SLACK__CHANNEL to page in Slack, or see"
            " docs/channels.md",
        )
    return Finding("paging", "ok", f"pages go to {', '.join(policy.channels)}")


async def _channels(settings: Settings, timeout_s: float) -> list[Finding]:
    """Every channel that can say whether it would take a page."""
    from responders.actions import installation_policy
    from responders.channels import opening as channels
    from responders.channels.http_channel import ChannelError
    from responders.policy import DEFAULT, PolicyError

    try:
        policy = installation_policy(settings)
    except PolicyError:
        policy = DEFAULT
    try:
        async with channels.open_channels(settings, policy) as opened:
            asked = [each for each in opened.values() if isinstance(each, channels.Checked)]
            return list(await asyncio.gather(*(_channel(each, timeout_s) for each in asked)))
    except ChannelError as error:
        return [Finding("channels", "wrong", *_split(error))]


async def _slack_buttons(settings: Settings, timeout_s: float) -> list[Finding]:
    """Whether what is pressed in Slack finds its way here."""
    from responders.effects import Permanent, Retryable
    from responders.slack.socket_mode import open_connection, refusal

    slack, part = settings.slack, "slack buttons"
    if slack.bot_token is None:
        return []
    if slack.app_token is None:
        if slack.signing_secret is not None:
            return [Finding(part, "ok", "pressed over HTTP: POST /slack/interactions")]
        advice = "set WATCHKEEPER_SLACK__APP_TOKEN (Socket Mode) or WATCHKEEPER_SLACK__SIGNING_SECRET (HTTP)"
        return [Finding(part, "note", "pages have none", advice)]
    try:
        opened = await asyncio.wait_for(
            open_connection(slack.app_token.get_secret_value(), slack.base_url), timeout_s
        )
    except TimeoutError:
        opened = Retryable(f"no answer within {timeout_s:.0f} s")
    if isinstance(opened, Permanent):
        return [Finding(part, "wrong", *_split(Exception(refusal(opened))))]
    if isinstance(opened, Retryable):
        return [Finding(part, "wrong", f"no Socket Mode ({opened.reason})", "check the network")]
    return [Finding(part, "ok", "pressed over Socket Mode")]


async def _channel(channel: Checked, timeout_s: float) -> Finding:
    from responders.channels.http_channel import ChannelError
    from responders.slack.channel import SlackChannel
    from responders.slack.web_api import SlackRefusedError

    try:
        found = await asyncio.wait_for(channel.check(), timeout_s)
    except (ChannelError, SlackRefusedError) as error:
        return Finding(channel.name, "wrong", *_split(error))
    except TimeoutError:
        return Finding(
            channel.name, "wrong", f"no answer within {timeout_s:.0f} s", "see that it can be reached"
        )
    if not found:
        return Finding(channel.name, "wrong", "does not answer", "check the network, then run doctor again")
    says = f"the token is good for the workspace {found}" if isinstance(channel, SlackChannel) else found
    return Finding(channel.name, "ok", says)


def _split(error: Exception, advice: str = "") -> tuple[str, str]:
    """Our messages are `what is wrong: what to do`."""
    detail, found, action = str(error).partition("; ")
    if not found:
        detail, found, action = str(error).partition(": ")
    return (detail, action) if found else (str(error), advice)
