"""Which channels are set up, by the names that a policy has for them: ``terminal``, ``slack:#channel``,
``pagerduty:NAME``, ``webhook:NAME``, ``alertmanager``, ``apprise:NAME``.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import aiohttp
from rich.console import Console

from config import policy_file
from config.settings import Settings
from responders.channels import alertmanager, terminal
from responders.channels.alertmanager import AlertmanagerChannel
from responders.channels.pagerduty import PagerDutyChannel
from responders.channels.terminal import TerminalChannel
from responders.channels.webhook import WebhookChannel
from responders.handle import utc_now
from responders.policy import Policy, PolicyError
from responders.sender import PageChannel
from responders.slack.channel import SlackChannel

SLACK: Final = "slack:"


@runtime_checkable
class Checked(Protocol):
    """A channel that can say whether it would take a page."""

    @property
    def name(self) -> str: ...

    async def check(self) -> str:
        """What was found; empty when it does not answer. Raises ChannelError or SlackRefusedError."""


def names(settings: Settings) -> tuple[str, ...]:
    """Every channel that is set up. With a Slack token a policy may name any of the workspace's channels."""
    found = [terminal.NAME]
    if settings.slack.bot_token is not None:
        found.append(f"{SLACK}{settings.slack.channel}")
    found += [f"pagerduty:{name}" for name in settings.pagerduty]
    found += [f"webhook:{name}" for name in settings.webhook]
    if settings.alertmanager.urls:
        found.append(alertmanager.NAME)
    return (*found, *(f"apprise:{name}" for name in settings.apprise))


def defaults(settings: Settings) -> tuple[str, ...]:
    """Who is told when the policy names nobody: Slack; without it, whatever else is set up."""
    if settings.slack.bot_token is not None:
        return (f"{SLACK}{settings.slack.channel}",)
    return names(settings)[1:] or (terminal.NAME,)


def unknown(policy: Policy, settings: Settings) -> tuple[str, ...]:
    """The channels that the policy names and nobody has set up."""
    known = names(settings)
    with_slack = settings.slack.bot_token is not None
    named = [*policy.channels, *policy.pacing]
    return tuple(
        name
        for name in dict.fromkeys(named)
        if name not in known and not (with_slack and name.startswith(SLACK) and name != SLACK)
    )


def must_know(policy: Policy, settings: Settings, file: Path | None = None) -> None:
    """Raises PolicyError, with file and line, for a channel that is not set up. ``file`` is the policy's,
    when it is not the settings'.
    """
    missing = unknown(policy, settings)
    if not missing:
        return
    where, path = "policy", file or settings.policy
    if path is not None:
        lines = policy_file.read(path).splitlines()
        line = next((number for number, text in enumerate(lines, 1) if missing[0] in text), 1)
        where = f"{path}:{line}"
    raise PolicyError(
        f"{where}: no channel {missing[0]} is set up: name one of {', '.join(names(settings))}, or set it up"
        " as docs/channels.md shows"
    )


class OpenChannels(dict[str, PageChannel]):
    """Channels by name. Those of Slack's are opened as policies name them."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession) -> None:
        super().__init__()
        self._settings = settings
        self._session = session

    def follow(self, policy: Policy) -> None:
        """Open what the policy names and is not open; nothing is closed, since pages may be under way."""
        for channel in _slack(self._settings, policy, self._session):
            self.setdefault(channel.name, channel)


@asynccontextmanager
async def open_channels(settings: Settings, policy: Policy) -> AsyncIterator[OpenChannels]:
    """Every channel that is set up, and those of Slack's that the policy names, by name.

    Raises:
        ChannelError: a secret or a URL cannot be one.
    """
    printed = TerminalChannel(Console(file=sys.stdout, highlight=False, soft_wrap=False))
    async with aiohttp.ClientSession() as session:
        with _notified(settings) as notified:
            every = (printed, *_slack(settings, policy, session), *_second(settings, session), *notified)
            opened = OpenChannels(settings, session)
            opened.update((channel.name, channel) for channel in every)
            yield opened


@contextmanager
def _notified(settings: Settings) -> Iterator[list[PageChannel]]:
    if not settings.apprise:
        yield []
        return
    # It brings a hundred services with it: not for those who use none of them.
    from responders.channels.apprise_channel import AppriseChannel

    with ExitStack() as stack:
        yield [
            stack.enter_context(closing(AppriseChannel(f"apprise:{name}", each.url)))
            for name, each in settings.apprise.items()
        ]


def _slack(settings: Settings, policy: Policy, session: aiohttp.ClientSession) -> list[PageChannel]:
    slack = settings.slack
    if slack.bot_token is None:
        return []
    token = slack.bot_token.get_secret_value()
    named = [name.removeprefix(SLACK) for name in policy.channels if name.startswith(SLACK)]
    buttons = slack.app_token is not None or slack.signing_secret is not None
    return [
        SlackChannel(token, channel, slack.base_url, session, buttons=buttons)
        for channel in dict.fromkeys([slack.channel, *named])
    ]


def _second(settings: Settings, session: aiohttp.ClientSession) -> list[PageChannel]:
    channels: list[PageChannel] = [
        PagerDutyChannel(f"pagerduty:{name}", each.routing_key, each.base_url, each.severities, session)
        for name, each in settings.pagerduty.items()
    ]
    channels += [
        WebhookChannel(f"webhook:{name}", each.url, each.secret, session, utc_now)
        for name, each in settings.webhook.items()
    ]
    cluster = settings.alertmanager
    if cluster.urls:
        channels.append(
            AlertmanagerChannel(cluster.urls, cluster.labels, cluster.authorization, session, utc_now)
        )
    return channels
