"""agent.control, agent.control.acks → which agents are halted, for the session detectors of this process.

A command counts when a gate would obey it: the same register that a gate keeps judges signature, epoch and
expiry. An acknowledgement counts when the agent's own gate applied the command; a point that enforces from
outside (`http:…`) does not say that the agent has stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pydantic import ValidationError

from detectors.control import Halts, Held
from schemas import topics
from schemas.base import epoch_ms
from schemas.control import CONTROL_ACK, OUTSIDE
from streams.stage import Record
from watchkeeper_client.control import Refused, TrustedKeys, parse
from watchkeeper_client.wanted import WantedState, claimed_target

TOPICS = (topics.CONTROL, topics.ACKS)


class ControlState:
    """Keeps `halts` up to date from the records of both topics.

    Args:
        keys: whose commands count.
        halts: what is kept up to date.
        now_ms: epoch milliseconds, for the expiry of commands.
    """

    def __init__(
        self, keys: TrustedKeys, halts: Halts, now_ms: Callable[[], float] = lambda: time.time() * 1000
    ) -> None:
        self._wanted = WantedState(keys, enforcement_point="stream")
        self._halts = halts
        self._now_ms = now_ms

    def take(self, record: Record) -> None:
        """Takes a record of either topic; one that is not genuine changes nothing."""
        if record.value is None:
            return
        if record.topic == topics.ACKS:
            self._take_ack(record.value)
        else:
            self._take_command(record.value)

    def _take_command(self, value: bytes) -> None:
        fields = parse(value)
        scope = None if isinstance(fields, Refused) else claimed_target(fields)
        if scope is None or self._wanted.apply(value, self._now_ms())["result"] != "applied":
            return
        present = self._wanted.present(*scope)
        if present is None or present.command.mode != "halt":
            self._halts.lift(scope)
            return
        command = present.command
        self._halts.put(scope, Held(command.command_id, command.issued_at_ms, present.until_ms))

    def _take_ack(self, value: bytes) -> None:
        try:
            ack = CONTROL_ACK.validate_json(value)
        except ValidationError:
            return
        if ack.result == "applied" and not ack.enforcement_point.startswith(OUTSIDE):
            self._halts.applied(ack.command_id, ack.tenant, ack.agent, epoch_ms(ack.time))
