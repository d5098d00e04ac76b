"""What every command shares: the options for settings, and how results and errors are printed."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from pydantic import BaseModel
from rich.console import Console

from cli.errors import UserError
from config.settings import Settings, load

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="TOML settings; WATCHKEEPER_* variables override it."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", metavar="DIR", help="Where state, keys and the database live.  [.watchkeeper]"
    ),
]
Bootstrap = Annotated[
    str | None,
    typer.Option("--bootstrap", metavar="HOST:PORT", help="The Kafka broker to use.  [127.0.0.1:9092]"),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output and nothing else.")]

stderr = Console(stderr=True)
stdout = Console()


def settings_from(
    config: Path | None, data_dir: Path | None = None, bootstrap: str | None = None
) -> Settings:
    """The settings with what the command line says on top.

    Raises:
        SettingsError: a value is wrong.
    """
    overrides: dict[str, Any] = {}
    if data_dir is not None:
        overrides["data_dir"] = data_dir
    if bootstrap is not None:
        overrides["kafka"] = {"bootstrap": bootstrap}
    settings = load(config, **overrides)
    configure_logging(settings.log_level)
    return settings


def ensure_data_dir(settings: Settings) -> Path:
    """Makes the data directory, readable by its owner alone.

    Raises:
        UserError: it cannot be made or written to.
    """
    folder = settings.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = folder / ".write-test"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write to the data directory {folder} ({error.strerror}): give --data-dir one you own"
        ) from None
    return folder


def print_json(document: object) -> None:
    """One JSON document on standard output."""
    json.dump(document, sys.stdout, default=_plain, ensure_ascii=False)
    sys.stdout.write("\n")
    sys.stdout.flush()


def print_ready(**fields: object) -> None:
    """The line a program waits for: `READY {json}`."""
    sys.stdout.write(f"READY {json.dumps(fields)}\n")
    sys.stdout.flush()


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return str(value)


def say(line: str) -> None:
    """A line for the person at the terminal; standard output belongs to READY and JSON."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def configure_logging(level: str) -> None:
    """Structured lines on standard error; what the Kafka client says of itself only when debugging."""
    number = logging.getLevelNamesMapping()[level.upper()]
    libraries = number if number <= logging.DEBUG else max(number, logging.WARNING)
    logging.basicConfig(level=libraries, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    if number > logging.DEBUG:
        # It logs what its callers handle, and what they raise again.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
