"""Kafka as the responder uses it: delivering one record, with an outcome."""

from __future__ import annotations

from typing import Final, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
)

from responders.effects import Delivered, Outcome, Permanent, Retryable

_FOR_GOOD: Final = (MessageSizeTooLargeError, InvalidTopicError, TopicAuthorizationFailedError)


class Bus(Protocol):
    """Where records are delivered."""

    async def deliver(self, topic: str, key: bytes, value: bytes) -> Outcome:
        """`Delivered` once the broker has it."""


class KafkaBus:
    """Delivers through a started producer, one record at a time, each awaited."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer

    async def deliver(self, topic: str, key: bytes, value: bytes) -> Outcome:
        try:
            await self._producer.send_and_wait(topic, value=value, key=key)
        except _FOR_GOOD as error:
            return Permanent(f"{topic}: {type(error).__name__}")
        except KafkaError as error:
            return Retryable(f"{topic}: {type(error).__name__}")
        return Delivered()
