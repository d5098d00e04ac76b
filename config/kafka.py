"""The options every Kafka client of the engine is made with: address, TLS, SASL."""

from __future__ import annotations

import ssl
from typing import Any

from aiokafka.helpers import create_ssl_context

from config.settings import KafkaSettings, SettingsError


def client_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Keyword arguments for any aiokafka consumer, producer or admin client.

    Raises:
        SettingsError: a certificate file cannot be read.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap,
        "security_protocol": kafka.security_protocol,
    }
    if kafka.security_protocol in ("SSL", "SASL_SSL"):
        options["ssl_context"] = _ssl_context(kafka)
    if kafka.sasl_mechanism is not None:
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.sasl_username
        options["sasl_plain_password"] = (
            kafka.sasl_password.get_secret_value() if kafka.sasl_password is not None else None
        )
    return options


def _ssl_context(kafka: KafkaSettings) -> ssl.SSLContext:
    def path(name: str) -> str | None:
        value = getattr(kafka, name)
        return None if value is None else str(value)

    try:
        context: ssl.SSLContext = create_ssl_context(
            cafile=path("ssl_cafile"), certfile=path("ssl_certfile"), keyfile=path("ssl_keyfile")
        )
    except OSError as error:
        raise SettingsError(f"kafka.ssl_*: {error}; give paths to PEM files this user can read") from None
    return context
