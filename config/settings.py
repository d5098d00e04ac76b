"""The settings of every Watchkeeper process.

Precedence: command line, ``WATCHKEEPER_*`` variables (``__`` between levels), the TOML file, defaults.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from config.environment import LEVEL, PREFIX, misnamed
from config.errors import CorrectableError
from config.policy_file import nearest_key
from schemas.detection import Severity


class SettingsError(CorrectableError):
    """The settings cannot be used; the message is one line that says what to do."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(_Section):
    """The bus. TLS and SASL options are handed to the Kafka client as they are."""

    bootstrap: str = "127.0.0.1:9092"
    partitions: int = Field(default=4, ge=1, le=1024)
    replication: int = Field(default=1, ge=1)
    group_prefix: str = "watchkeeper"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ssl_cafile: Path | None = None
    ssl_certfile: Path | None = None
    ssl_keyfile: Path | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    session_timeout_ms: int = Field(default=6_000, ge=1_000)
    rebalance_timeout_ms: int = Field(default=3_000, ge=1_000)
    idempotent_producer: bool = Field(
        default=True, description="Off for a broker without producer ids (the embedded one)."
    )


class StreamSettings(_Section):
    """The stream worker: checkpoints, state and event time."""

    checkpoint_ms: int = Field(default=2_000, ge=50)
    checkpoint_events: int = Field(default=20_000, ge=1)
    window_ms: int = Field(default=1_000, ge=100)
    lateness_ms: int = Field(default=2_000, ge=0)
    stall_ms: int = Field(default=60_000, ge=1_000)
    batch_records: int = Field(default=2_000, ge=1, description="Records taken at a time from a partition.")
    metrics_port: int | None = Field(
        default=None, ge=1, le=65535, description="Where a worker answers Prometheus, at http.host."
    )
    metrics_file: Path | None = Field(
        default=None,
        description="Where a worker writes its metrics, which a responder with the same setting shows too.",
    )
    idle_clock: Literal["broker", "events"] = Field(
        default="broker",
        description="What moves time on while a partition has nothing to read: the broker's clock, or "
        "nothing but events, as for a replay of recorded ones.",
    )


class DatabaseSettings(_Section):
    """The incident store. Default: SQLite in the data directory."""

    url: SecretStr | None = None


class HttpSettings(_Section):
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    token: SecretStr | None = Field(
        default=None,
        description="What state-changing requests must carry; default: made in the data directory.",
    )
    allow_fail_mode: Literal["open", "closed"] = Field(
        default="open",
        description="What /v1/allow answers while agent.control is not heard: what was last heard, or no.",
    )


class SlackSettings(_Section):
    bot_token: SecretStr | None = None
    app_token: SecretStr | None = None
    signing_secret: SecretStr | None = None
    channel: str = "#incidents"
    base_url: str = "https://slack.com/api/"


def _http_address(text: str) -> str:
    """Never quotes it: an address may hold a secret."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an address that starts with https:// or http://")
    return text


def _secret_http_address(secret: SecretStr) -> SecretStr:
    _http_address(secret.get_secret_value())
    return secret


HttpAddress = Annotated[str, AfterValidator(_http_address)]


class PagerDutySettings(_Section):
    """One service's integration of the Events API v2. ``severities`` are PagerDuty's for ours."""

    routing_key: SecretStr
    base_url: HttpAddress = "https://events.pagerduty.com"
    severities: Mapping[Severity, Literal["critical", "error", "warning", "info"]] = {}


class WebhookSettings(_Section):
    """A receiver of signed pages. ``secret``: ``whsec_`` and base64, or any text of 24 characters or more."""

    url: Annotated[SecretStr, AfterValidator(_secret_http_address)]
    secret: Annotated[SecretStr, Field(min_length=24)]


class AlertmanagerSettings(_Section):
    """Every member of the cluster by its URL; ``labels`` go onto every alert, to route it."""

    urls: tuple[HttpAddress, ...] = ()
    labels: Mapping[Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")], str] = {}
    authorization: SecretStr | None = Field(
        default=None, description="The Authorization header, as 'Bearer …' or 'Basic …'."
    )


class AppriseSettings(_Section):
    """One of Apprise's URLs: it says the service, and holds what that needs to know."""

    url: SecretStr


class Settings(BaseSettings):
    """Everything a process is told from outside."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=LEVEL,
        env_ignore_empty=True,  # what .env leaves empty is not set
        extra="forbid",
        frozen=True,
    )

    data_dir: Path = Path(".watchkeeper")
    policy: Path | None = None
    kafka: KafkaSettings = KafkaSettings()
    stream: StreamSettings = StreamSettings()
    database: DatabaseSettings = DatabaseSettings()
    http: HttpSettings = HttpSettings()
    slack: SlackSettings = SlackSettings()
    pagerduty: Mapping[str, PagerDutySettings] = {}
    webhook: Mapping[str, WebhookSettings] = {}
    alertmanager: AlertmanagerSettings = AlertmanagerSettings()
    apprise: Mapping[str, AppriseSettings] = {}
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL; may hold a password, so it is never logged."""
        if self.database.url is not None:
            return self.database.url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'watchkeeper.db'}"


def load(config: Path | None = None, **overrides: object) -> Settings:
    """Reads the settings; ``overrides`` (from the command line) win.

    Raises:
        SettingsError: the file is missing, or a value or a variable's name is wrong, with the key and what is
        expected.
    """
    wrong = misnamed(os.environ, Settings)
    if wrong is not None:
        raise SettingsError(wrong)
    if config is not None and not config.is_file():
        raise SettingsError(f"no settings file at {config}: give --config a TOML file that exists")

    class _FromFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            toml = (TomlConfigSettingsSource(settings_cls, config),) if config else ()
            return (init_settings, env_settings, *toml)

    try:
        return _FromFile(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        # A mistyped key is why another one is missing.
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            meant = nearest_key(Settings, first["loc"])
            hint = f"did you mean {meant}?" if meant else "correct it and start again"
            raise SettingsError(f"setting {key}: there is no such setting; {hint}") from None
        raise SettingsError(f"setting {key}: {first['msg'].lower()}; correct it and start again") from None
    except ValueError as error:  # a TOML file that does not parse
        raise SettingsError(f"{config} is not valid TOML: {error}") from None
