"""store → agent.control: the wanted state of every target, signed, published until it is confirmed.

Keyed by target, so the compacted topic keeps the newest command of each. What is published again is the same
command, byte for byte: an enforcement point that has it already loses nothing. Only after a rotation of keys
is it signed with the new one, so that nothing on the topic needs the old one any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Final

import orjson
import structlog

from responders import wanted
from responders.bus import Bus
from responders.effects import Delivered, Outcome, Permanent, Retryable
from responders.handle import Responder
from responders.keys import KeyFileError, Keys
from responders.metrics import COMMANDS
from responders.wanted import WantedCommand
from schemas import topics
from schemas.base import epoch_ms
from watchkeeper_client.control import sign

ISSUER: Final = "watchkeeper"
ROTATION_MS: Final = 10_000
"""A command issued at most this much after a key was made may still have been signed with the one before."""
DELIVER_WITHIN_S: Final = 15.0
AT_ONCE: Final = 100
RETRY_FIRST_MS: Final = 200
RETRY_AT_MOST_MS: Final = 1_000
REFUSED_AT_MOST_MS: Final = 5_000
"""Somebody may mend what the broker refuses for: then the order must not wait long."""

_ANNOUNCING: Final = "announcing"
_log = structlog.get_logger(__name__)


def signed(command: WantedCommand, keys: Keys) -> bytes:
    """The command as it goes onto the bus."""
    key = keys.for_role(command.role)
    return orjson.dumps(sign(command.fields(ISSUER), key.private_key, key.key_id))


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A command the broker did not take: why, how often by now, and when it is tried again."""

    reason: str
    attempts: int
    not_before_ms: int


class ControlPublisher:
    """Publishes what is wanted and due. Several may run on one store: they say the same.

    Commands are under way at once: one that hangs keeps no other waiting, not even a newer one of its target.
    """

    def __init__(
        self, responder: Responder, bus: Bus, keys: Keys, deliver_within_s: float = DELIVER_WITHIN_S
    ) -> None:
        self._responder = responder
        self._bus = bus
        self._keys = keys
        self._deliver_within_s = deliver_within_s
        self._unusable = ""
        self._unannounced = False
        self._under_way: dict[asyncio.Task[None], str] = {}
        self._waiting: dict[str, _Waiting] = {}
        self._repeated: dict[str, tuple[WantedCommand, int]] = {}
        self._delivered = 0

    async def start_due(self, ended: Callable[[], None]) -> int:
        """Begin to publish every command that is due; how many those were. ``ended`` is called as each ends.

        Raises:
            StoreError: the store does not answer, or did not when the outcome of an earlier one was stored.
        """
        for task in [task for task in self._under_way if task.done()]:
            del self._under_way[task]
            task.result()
        await self._store_repeated()
        rotated = await asyncio.to_thread(self._rotated)
        if (rotated or self._unannounced) and _ANNOUNCING not in self._under_way.values():
            self._start(self._announce(), _ANNOUNCING, ended)
        commands = await asyncio.to_thread(self._due)
        for command in commands:
            self._start(self._carry_out(command), command.command_id, ended)
        return len(commands)

    async def finish(self) -> None:
        """Wait for everything under way. Raises what went wrong with it."""
        tasks, self._under_way = list(self._under_way), {}
        await asyncio.gather(*tasks)
        await self._store_repeated()

    async def abandon(self) -> None:
        """Cut off what is under way: it is due again for whoever is next."""
        tasks, self._under_way = list(self._under_way), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def run_once(self) -> int:
        """Publish every command that is due, to the end; how many the broker took."""
        before = self._delivered
        await self.start_due(lambda: None)
        await self.finish()
        return self._delivered - before

    async def announce(self) -> int:
        """Publish what holds anybody back once more, since the broker may have lost what the store has not,
        and what was signed with a key that no longer signs: once that is retired it counts for nothing. What
        the broker does not take now is tried again at the next run.
        """
        commands = await asyncio.to_thread(self._worth_repeating)
        outcomes = await asyncio.gather(*(self._publish(command) for command in commands))
        self._unannounced = any(isinstance(outcome, Retryable) for outcome in outcomes)
        return sum(isinstance(outcome, Delivered) for outcome in outcomes)

    async def _announce(self) -> None:
        await self.announce()

    def _start(self, work: Coroutine[None, None, None], what: str, ended: Callable[[], None]) -> None:
        task = asyncio.ensure_future(work)
        self._under_way[task] = what
        task.add_done_callback(lambda _: ended())

    async def _carry_out(self, command: WantedCommand) -> None:
        outcome = await self._publish(command)
        COMMANDS.labels(command.state.mode, type(outcome).__name__.lower()).inc()
        if not isinstance(outcome, Delivered):
            await self._not_taken(command, outcome)
            return
        self._delivered += 1
        self._waiting.pop(command.command_id, None)
        await self._put_in_order(command)
        again_after_ms = self._again_after_ms(command)
        if command.published:
            # Stored together with others: what nobody confirms must not keep a new command waiting.
            self._repeated[command.command_id] = (command, again_after_ms)
        else:
            await asyncio.to_thread(self._responder.published, command, again_after_ms)

    async def _put_in_order(self, command: WantedCommand) -> None:
        """A compacted topic keeps what came last: what took the command's place meanwhile must come after
        it, or an agent that starts anew obeys the older one.
        """
        newer = await asyncio.to_thread(self._newer_than, command)
        if newer is not None and not isinstance(await self._publish(newer), Delivered):
            self._unannounced = True

    def _newer_than(self, command: WantedCommand) -> WantedCommand | None:
        with self._responder.store.reading() as connection:
            return wanted.newer_than(connection, command)

    async def _not_taken(self, command: WantedCommand, outcome: Retryable | Permanent) -> None:
        """Tried again, ever more slowly; said, and for good stored and paged, whenever the reason changes."""
        before = self._waiting.get(command.command_id)
        attempts = 1 if before is None else before.attempts + 1
        longest_ms = REFUSED_AT_MOST_MS if isinstance(outcome, Permanent) else RETRY_AT_MOST_MS
        wait_ms = min(longest_ms, RETRY_FIRST_MS * 2 ** min(attempts - 1, 16))
        now_ms = epoch_ms(self._responder.clock())
        self._waiting[command.command_id] = _Waiting(outcome.reason, attempts, now_ms + wait_ms)
        if before is not None and before.reason == outcome.reason:
            return
        again = isinstance(outcome, Retryable)
        _log.error("command not published", target=command.target.key, reason=outcome.reason, again=again)
        if not again:
            await asyncio.to_thread(self._responder.undeliverable, command, outcome.reason)

    async def _store_repeated(self) -> None:
        repeated = dict(self._repeated)
        if repeated:
            await asyncio.to_thread(self._responder.published_again, list(repeated.values()))
        for command_id in repeated:
            del self._repeated[command_id]

    def _rotated(self) -> bool:
        """Whether another key signs from now on. One that cannot be used changes nothing, and is logged."""
        try:
            keys, self._unusable = self._keys.current(), ""
        except KeyFileError as error:
            if str(error) != self._unusable:
                _log.error("the keys stay as they were", reason=str(error))
            self._unusable = str(error)
            return False
        if keys is self._keys:
            return False
        self._keys = keys
        _log.info("keys rotated", engine=keys.engine.key_id, operator=keys.operator.key_id)
        return True

    def _worth_repeating(self) -> list[WantedCommand]:
        with self._responder.store.reading() as connection:
            return [
                command
                for command in wanted.newest(connection)
                if command.state.mode != "run"
                or command.issued_ms < self._keys.for_role(command.role).since_ms + ROTATION_MS
            ]

    def _due(self) -> list[WantedCommand]:
        """What is due and not under way, nor waiting after a failure."""
        now_ms = epoch_ms(self._responder.clock())
        busy = set(self._under_way.values())
        with self._responder.store.reading() as connection:
            # Those that cannot be started now must not fill the list before those that can.
            found = wanted.due(connection, now_ms, AT_ONCE + len(busy) + len(self._waiting))
        due = {command.command_id for command in found}
        self._waiting = {known: each for known, each in self._waiting.items() if known in due | busy}
        waits = {known for known, each in self._waiting.items() if each.not_before_ms > now_ms}
        return [command for command in found if command.command_id not in busy | waits]

    async def _publish(self, command: WantedCommand) -> Outcome:
        value = signed(command, self._keys)
        try:
            async with asyncio.timeout(self._deliver_within_s):
                return await self._bus.deliver(topics.CONTROL, command.target.key.encode(), value)
        except TimeoutError:
            return Retryable(f"agent.control: no answer within {self._deliver_within_s:g} s", in_doubt=True)

    def _again_after_ms(self, command: WantedCommand) -> int:
        policy = self._responder.policy.containment
        doubled = policy.republish_first_ms * 2 ** min(command.published, 16)
        return int(min(doubled, policy.republish_at_most_ms))
