"""Carrying out what is in the outbox: claim, render, send, and settle the row together with what came of it.

A crash between sending and settling leaves the row claimed; whoever claims it next is told that it is in
doubt and makes sure before it sends again. What remains is a sender that is frozen in the middle of a
request.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, TypeVar

import structlog
from sqlalchemy import Connection, Update, insert, select, update

from responders.decide import PageOutcome
from responders.effects import (
    PACED,
    Delivered,
    Outcome,
    Page,
    Permanent,
    PublishIncidentEvents,
    Retryable,
    ShowPicture,
    UpdatePage,
)
from responders.handle import Responder
from responders.incident import Incident
from responders.metrics import EDITS, PAGES, PICTURES
from responders.pages.page import Message, render
from responders.picture.pictures import DrawsPictures, ShowsPictures
from responders.store import event_store, outbox, tables
from responders.store.outbox import LEASE_MS, RENEW_MS, Claimed
from schemas.base import epoch_ms
from schemas.incident import IncidentEvent

SEND_WITHIN_S: Final = 20.0
"""What a channel has for one page. The row stays ours meanwhile: its lease is renewed."""
FULL_AT: Final = 2
"""A destination with so many rows under way gets no more for now."""
STORE_AT_ONCE: Final = 4
"""Pages are many and their channels slow; what they ask of the store must not crowd out new detections."""
PACE_MS: Final = 60_000
PICTURE_ATTEMPTS: Final = 5
"""A picture is worth less than the trouble of trying for ever."""
T = TypeVar("T")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A page on its way. ``thread`` is the channel's ids of the page it continues.

    ``in_doubt``: an earlier attempt may have arrived; look for ``key`` before sending again.
    """

    key: str
    message: Message
    requested_at: datetime
    attempts: int
    in_doubt: bool
    thread: tuple[str, str] | None


class PageChannel(Protocol):
    """Where pages go. Failures that are to be expected are outcomes, not exceptions."""

    @property
    def name(self) -> str: ...

    async def send(self, page: Outgoing) -> Outcome:
        """Bring a new page; `Delivered` says under which ids the channel has it."""

    async def edit(self, conversation: str, message_id: str, message: Message) -> Outcome:
        """Make a delivered page say something else."""


class IncidentLog(Protocol):
    """Where the incident's events are published."""

    async def publish(self, events: Iterable[IncidentEvent]) -> Outcome: ...


class Sender:
    """Empties the outbox. Several may run on one store.

    Rows are under way at once, few of each destination (a channel, or the log): one that hangs keeps nobody
    else waiting.
    """

    def __init__(
        self,
        responder: Responder,
        channels: Mapping[str, PageChannel],
        log: IncidentLog,
        send_within_s: float = SEND_WITHIN_S,
        pictures: DrawsPictures | None = None,
    ) -> None:
        self._responder = responder
        self._channels = channels
        self._pictures = pictures
        self._incident_log = log
        self._send_within_s = send_within_s
        self._under_way: dict[asyncio.Task[None], Claimed] = {}
        self._renewed_ms = 0
        self._leases: dict[Claimed, int] = {}
        self._store_turns = asyncio.Semaphore(STORE_AT_ONCE)
        self._paged: dict[str, deque[int]] = {}

    async def start_due(self, ended: Callable[[], None], limit: int = 4) -> int:
        """Begin to carry out what is due; how many rows that was. ``ended`` is called as each one ends.

        Raises:
            StoreError: the store does not answer, or did not when the outcome of an earlier row was stored.
        """
        for task in [task for task in self._under_way if task.done()]:
            self._leases.pop(self._under_way.pop(task), None)
            task.result()
        claimed = await self._in_store(lambda: self._claim(list(self._under_way.values()), limit))
        for each in claimed:
            task = asyncio.ensure_future(self._carry_out(each))
            self._under_way[task] = each
            task.add_done_callback(lambda _: ended())
        return len(claimed)

    def _claim(self, held: Sequence[Claimed], limit: int) -> list[Claimed]:
        """More rows, and once in a while those we have for longer."""
        counts = Counter(outbox.destination_of(each.effect) for each in held)
        full = [destination for destination, count in counts.items() if count >= FULL_AT]
        now_ms = epoch_ms(self._responder.clock())
        renews = bool(held) and abs(now_ms - self._renewed_ms) >= RENEW_MS

        def work(connection: Connection) -> tuple[list[Claimed], list[Claimed]]:
            ours = outbox.renew(connection, held, now_ms) if renews else []
            return ours, outbox.claim(connection, now_ms, limit, without=full)

        ours, claimed = self._responder.store.transact(work)
        self._leases |= dict.fromkeys((*ours, *claimed), now_ms + LEASE_MS)
        if renews or not held:
            self._renewed_ms = now_ms
        return claimed

    async def finish(self) -> None:
        """Wait for everything under way. Raises what went wrong with it."""
        tasks, self._under_way = list(self._under_way), {}
        await asyncio.gather(*tasks)
        self._leases.clear()

    async def abandon(self) -> None:
        """Cut off what is under way: its claim runs out, and it is in doubt for whoever is next."""
        tasks, self._under_way = list(self._under_way), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def run_once(self, limit: int = 4) -> int:
        """Carry out what is due, to the end; how many rows that was."""
        count = await self.start_due(lambda: None, limit)
        await self.finish()
        return count

    async def _in_store(self, work: Callable[[], T]) -> T:
        async with self._store_turns:
            return await asyncio.to_thread(work)

    async def _carry_out(self, claimed: Claimed) -> None:
        match claimed.effect:
            case Page():
                await self._page(claimed, claimed.effect)
            case UpdatePage():
                await self._update(claimed, claimed.effect)
            case ShowPicture():
                await self._show(claimed, claimed.effect)
            case PublishIncidentEvents():
                await self._publish(claimed, claimed.effect)

    async def _page(self, claimed: Claimed, effect: Page) -> None:
        # Before anything that waits: of pages that come due together the oldest has the first turn.
        wait_ms = self._wait_ms(effect.channel)
        if wait_ms:
            paced = Retryable(PACED, wait_ms, claimed.in_doubt)
            _report(effect.channel, effect.incident_id, paced)
            await self._settle(claimed, paced)
            return
        incident, detections = await self._in_store(lambda: self._view(effect.incident_id))
        message = self._render(incident, effect.page, detections)
        status = incident.pages[effect.page, effect.channel]
        thread = _thread(incident, effect.channel)
        if epoch_ms(self._responder.clock()) >= self._leases[claimed]:
            return  # frozen since it was claimed: someone else has it by now
        outcome = await self._send(
            effect.channel,
            Outgoing(effect.key, message, status.requested_at, claimed.attempts, claimed.in_doubt, thread),
        )
        _report(effect.channel, effect.incident_id, outcome)
        # A page that was found, not sent, says what was true at an earlier attempt: nobody knows which.
        rendered, digest = (0, "") if claimed.in_doubt else (incident.version, message.digest)
        await self._in_store(lambda: self._settle_page(claimed, effect, outcome, rendered, digest))

    async def _send(self, name: str, page: Outgoing) -> Outcome:
        channel = self._channels.get(name)
        if channel is None:
            return Permanent(f"no channel {name} is set up")
        try:
            async with asyncio.timeout(self._send_within_s):
                return await channel.send(page)
        except TimeoutError:
            return Retryable(f"not done within {self._send_within_s:g} s", in_doubt=True)

    def _wait_ms(self, channel: str) -> int:
        """How long a page must wait by the policy's pacing; 0, and it is counted, when it need not."""
        at_most = self._responder.policy.pacing.get(channel)
        if at_most is None:
            return 0
        now_ms = epoch_ms(self._responder.clock())
        paged = self._paged.setdefault(channel, deque())
        while paged and not now_ms - PACE_MS < paged[0] <= now_ms:  # long ago, or the clock was set back
            paged.popleft()
        if len(paged) >= at_most:
            return paged[0] + PACE_MS - now_ms
        paged.append(now_ms)
        return 0

    def _settle_page(
        self, claimed: Claimed, effect: Page, outcome: Outcome, rendered: int, digest: str
    ) -> None:
        def work(connection: Connection) -> None:
            if not outbox.settle(connection, claimed, outcome, epoch_ms(self._responder.clock())):
                return
            if isinstance(outcome, Retryable):
                return
            if isinstance(outcome, Delivered):
                connection.execute(
                    insert(tables.messages).values(
                        incident_id=effect.incident_id,
                        page=effect.page,
                        channel=effect.channel,
                        conversation=outcome.conversation,
                        message=outcome.message,
                        digest=digest,
                    )
                )
            given = PageOutcome(effect.page, effect.channel, outcome, claimed.attempts, rendered)
            self._responder.decided(connection, given, effect.incident_id)

        self._responder.store.transact(work)

    async def _update(self, claimed: Claimed, effect: UpdatePage) -> None:
        incident, detections = await self._in_store(lambda: self._view(effect.incident_id))
        message = self._render(incident, effect.page, detections)
        where = await self._in_store(lambda: self._where(effect))
        channel = self._channels.get(effect.channel)
        outcome: Outcome = Delivered()
        # An edit that may have been made shows something else than the store knows.
        changed = where is not None and (claimed.in_doubt or where[2] != message.digest)
        if where is not None and channel is not None and changed:
            try:
                async with asyncio.timeout(self._send_within_s):
                    outcome = await channel.edit(where[0], where[1], message)
            except TimeoutError:
                outcome = Retryable(f"not done within {self._send_within_s:g} s", in_doubt=True)
            EDITS.labels(effect.channel, type(outcome).__name__.lower()).inc()
        await self._in_store(lambda: self._settle_update(claimed, effect, outcome, message))

    def _settle_update(
        self, claimed: Claimed, effect: UpdatePage, outcome: Outcome, message: Message
    ) -> None:
        def work(connection: Connection) -> None:
            ours = outbox.settle(connection, claimed, outcome, epoch_ms(self._responder.clock()))
            if ours and isinstance(outcome, Delivered):
                connection.execute(_message_of(effect).values(digest=message.digest))

        self._responder.store.transact(work)

    async def _show(self, claimed: Claimed, effect: ShowPicture) -> None:
        outcome = await self._shown(claimed, effect)
        PICTURES.labels(effect.channel, type(outcome).__name__.lower()).inc()
        if isinstance(outcome, Retryable) and claimed.attempts >= PICTURE_ATTEMPTS:
            outcome = Permanent(outcome.reason)
        if isinstance(outcome, Permanent):
            _log.warning(
                "no picture", channel=effect.channel, incident=effect.incident_id, reason=outcome.reason
            )
        await self._settle(claimed, outcome)

    async def _shown(self, claimed: Claimed, effect: ShowPicture) -> Outcome:
        """Nothing to draw, and a channel that shows none, are both as good as done."""
        channel = self._channels.get(effect.channel)
        if self._pictures is None or not isinstance(channel, ShowsPictures):
            return Delivered()
        incident, _ = await self._in_store(lambda: self._view(effect.incident_id))
        thread = _thread(incident, effect.channel)
        if thread is None:
            return Delivered()
        try:
            async with asyncio.timeout(self._send_within_s):
                picture = await self._pictures.of(incident, effect.key)
                if picture is None:
                    return Delivered()
                return await channel.show(*thread, picture, claimed.in_doubt)
        except TimeoutError:
            return Retryable(f"not done within {self._send_within_s:g} s", in_doubt=True)

    async def _publish(self, claimed: Claimed, effect: PublishIncidentEvents) -> None:
        def read() -> list[IncidentEvent]:
            with self._responder.store.reading() as connection:
                return event_store.events_between(connection, effect.incident_id, effect.first, effect.last)

        await self._settle(claimed, await self._incident_log.publish(await self._in_store(read)))

    async def _settle(self, claimed: Claimed, outcome: Outcome) -> None:
        now_ms = epoch_ms(self._responder.clock())
        await self._in_store(
            lambda: self._responder.store.transact(
                lambda connection: outbox.settle(connection, claimed, outcome, now_ms)
            )
        )

    def _render(self, incident: Incident, page: str, detections: int) -> Message:
        owner = self._responder.policy.owner_of(incident.tenant, incident.agent)
        return render(incident, page, detections, owner)

    def _view(self, incident_id: str) -> tuple[Incident, int]:
        with self._responder.store.reading() as connection:
            incident = event_store.current(connection, incident_id)
            assert incident is not None
            return incident, event_store.detections_of(connection, incident_id)

    def _where(self, effect: UpdatePage) -> tuple[str, str, str] | None:
        """The conversation, the message and the digest of what it says now."""
        its = tables.messages.c
        statement = select(its.conversation, its.message, its.digest).where(
            its.incident_id == effect.incident_id, its.page == effect.page, its.channel == effect.channel
        )
        with self._responder.store.reading() as connection:
            row = connection.execute(statement).first()
        return None if row is None else (row.conversation, row.message, row.digest)


def _thread(incident: Incident, channel: str) -> tuple[str, str] | None:
    """The conversation and the message that the incident began with in this channel."""
    return next(
        (
            (each.conversation, each.message)
            for each in incident.pages.values()
            if each.channel == channel and each.conversation and each.message
        ),
        None,
    )


def _message_of(effect: UpdatePage) -> Update:
    its = tables.messages.c
    return update(tables.messages).where(
        its.incident_id == effect.incident_id, its.page == effect.page, its.channel == effect.channel
    )


def _report(channel: str, incident_id: str, outcome: Outcome) -> None:
    PAGES.labels(channel, type(outcome).__name__.lower()).inc()
    if not isinstance(outcome, Delivered):
        _log.warning(
            "page not delivered",
            channel=channel,
            incident=incident_id,
            reason=outcome.reason,
            again=isinstance(outcome, Retryable),
        )
