"""Pages to everything else, through Apprise: mail, Teams, Telegram, ntfy, Opsgenie, and some hundred more.

What Apprise notifies can neither be looked for nor changed afterwards. So each transition that pages is a
notification of its own, edits are not sent, and after an unclear answer a page is rather doubled than lost.
Apprise says no more of a failure than that it was one, and in its log the HTTP status.
"""

from __future__ import annotations

import asyncio
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import apprise
from pydantic import SecretStr

from responders.channels.http_channel import ChannelError, classified
from responders.channels.terminal import plain
from responders.effects import Delivered, Outcome, Permanent, Retryable
from responders.pages.about import About
from responders.pages.page import Message
from responders.sender import Outgoing

ATTEMPTS: Final = 30
"""After so many failures that do not say why (some twelve minutes) another channel has to do."""
_STATUS: Final = re.compile(r"\berror=(\d{3})\b")

# Both log addresses, and those hold secrets. What Apprise warns of is read from its results.
logging.getLogger("apprise").propagate = False
logging.getLogger("apprise").setLevel(logging.WARNING)
logging.getLogger("urllib3").setLevel(logging.WARNING)


class AppriseChannel:
    """One Apprise URL. Its notifications run in threads of their own: a slow one holds up nobody else."""

    def __init__(self, name: str, url: SecretStr) -> None:
        """Raises ChannelError when it is not a URL that Apprise knows."""
        self.name = name
        self._service = apprise.Apprise()
        if not self._service.add(url.get_secret_value()):
            raise ChannelError(f"{name}: Apprise does not know this URL; write it as its documentation shows")
        self._threads = ThreadPoolExecutor(2, thread_name_prefix=name)

    async def send(self, page: Outgoing) -> Outcome:
        about = page.message.about
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(self._threads, self._notify, about, plain(page.message))
        if result:
            return Delivered(self.name, page.key[-256:])
        statuses = [_STATUS.search(entry.message) for entry in result.logs()]
        status = next((int(found[1]) for found in statuses if found), None)
        if status is not None:
            return classified(status, {})
        if page.attempts >= ATTEMPTS:
            return Permanent(f"Apprise could not notify in {page.attempts} attempts")
        return Retryable("Apprise could not notify", in_doubt=True)

    async def edit(self, conversation: str, message_id: str, message: Message) -> Outcome:
        return Delivered(conversation, message_id)

    async def check(self) -> str:
        """Apprise can only be tried by notifying."""
        return f"the URL is one; try it with: watchkeeper channels test {self.name}"

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _notify(self, about: About, body: str) -> apprise.AppriseResult:
        return self._service.notify(body, about.title, _kind(about), body_format=apprise.NotifyFormat.TEXT)


def _kind(about: About) -> apprise.NotifyType:
    if not about.open:
        return apprise.NotifyType.SUCCESS
    kinds = {"critical": apprise.NotifyType.FAILURE, "warning": apprise.NotifyType.WARNING}
    return kinds.get(about.severity, apprise.NotifyType.INFO)
