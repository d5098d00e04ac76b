"""store → agent.control: the wanted state of every target, signed, published until it is confirmed.

Keyed by target, so the compacted topic keeps the newest command of each. What is published again is the same
command, byte for byte: an enforcement point that has it already loses nothing.
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
from responders.keys import Keys
from responders.metrics import COMMANDS
from responders.wanted import WantedCommand
from schemas import topics
from schemas.base import epoch_ms
from watchkeeper_client.control import sign

ISSUER: Final = "watchkeeper"
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

    async def run_once(self) -> int:
        """Publish every command that is due; how many the broker took."""
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
        """Publish what holds anybody back once more: the broker may have lost what the store has not."""
        commands = await asyncio.to_thread(self._holding)
        outcomes = await asyncio.gather(*(self._publish(command) for command in commands))
        return sum(isinstance(outcome, Delivered) for outcome in outcomes)

    def _holding(self) -> list[WantedCommand]:
        with self._responder.store.reading() as connection:
            return wanted.holding(connection)

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
