"""store → agent.control: the wanted state of every target, signed, published until it is confirmed.

Keyed by target, so the compacted topic keeps the newest command of each. What is published again is the same
command, byte for byte: an enforcement point that has it already loses nothing. Only after a rotation of keys
is it signed with the new one, so that nothing on the topic needs the old one any more.
"""

from __future__ import annotations

import asyncio
from typing import Final

import orjson
import structlog

from responders import wanted
from responders.bus import Bus
from responders.effects import Delivered, Outcome, Retryable
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

_log = structlog.get_logger(__name__)


def signed(command: WantedCommand, keys: Keys) -> bytes:
    """The command as it goes onto the bus."""
    key = keys.for_role(command.role)
    return orjson.dumps(sign(command.fields(ISSUER), key.private_key, key.key_id))


class ControlPublisher:
    """Publishes what is wanted and due. Several may run on one store: they say the same."""

    def __init__(self, responder: Responder, bus: Bus, keys: Keys) -> None:
        self._responder = responder
        self._bus = bus
        self._keys = keys
        self._unusable = ""
        self._unannounced = False

    async def run_once(self) -> int:
        """Publish every command that is due; how many the broker took."""
        if await asyncio.to_thread(self._rotated) or self._unannounced:
            await self.announce()
        commands = await asyncio.to_thread(self._due)
        outcomes = await asyncio.gather(*(self._publish(command) for command in commands))
        repeated: list[tuple[WantedCommand, int]] = []
        delivered = 0
        for command, outcome in zip(commands, outcomes, strict=True):
            COMMANDS.labels(command.state.mode, type(outcome).__name__.lower()).inc()
            if not isinstance(outcome, Delivered):
                again = isinstance(outcome, Retryable)
                _log.error(
                    "command not published", target=command.target.key, reason=outcome.reason, again=again
                )
                continue
            delivered += 1
            again_after_ms = self._again_after_ms(command)
            if command.published:
                repeated.append((command, again_after_ms))
            else:
                await asyncio.to_thread(self._responder.published, command, again_after_ms)
        if repeated:
            # In one transaction: what nobody confirms must not keep a new command waiting.
            await asyncio.to_thread(self._responder.published_again, repeated)
        return delivered

    async def announce(self) -> int:
        """Publish what holds anybody back once more, since the broker may have lost what the store has not,
        and what was signed with a key that no longer signs: once that is retired it counts for nothing. What
        the broker does not take now is tried again at the next run.
        """
        commands = await asyncio.to_thread(self._worth_repeating)
        outcomes = await asyncio.gather(*(self._publish(command) for command in commands))
        self._unannounced = any(isinstance(outcome, Retryable) for outcome in outcomes)
        return sum(isinstance(outcome, Delivered) for outcome in outcomes)

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
        with self._responder.store.reading() as connection:
            return wanted.due(connection, epoch_ms(self._responder.clock()))

    async def _publish(self, command: WantedCommand) -> Outcome:
        value = signed(command, self._keys)
        return await self._bus.deliver(topics.CONTROL, command.target.key.encode(), value)

    def _again_after_ms(self, command: WantedCommand) -> int:
        policy = self._responder.policy.containment
        doubled = policy.republish_first_ms * 2 ** min(command.published, 16)
        return int(min(doubled, policy.republish_at_most_ms))
