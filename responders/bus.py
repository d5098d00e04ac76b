"""Kafka as the responder uses it: what to connect with, and delivering one record with an outcome."""

from __future__ import annotations

from typing import Any, Final, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
)
from aiokafka.helpers import create_ssl_context

from config.settings import KafkaSettings
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


def connection_arguments(kafka: KafkaSettings) -> dict[str, Any]:
    """What every client of this bus is made with."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap,
        "security_protocol": kafka.security_protocol,
    }
    if kafka.security_protocol in ("SSL", "SASL_SSL"):
        arguments["ssl_context"] = create_ssl_context(
            cafile=_path(kafka.ssl_cafile),
            certfile=_path(kafka.ssl_certfile),
            keyfile=_path(kafka.ssl_keyfile),
        )
    if kafka.sasl_mechanism is not None:
        password = kafka.sasl_password
        arguments |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": None if password is None else password.get_secret_value(),
        }
    return arguments


def _path(path: object) -> str | None:
    return None if path is None else str(path)
