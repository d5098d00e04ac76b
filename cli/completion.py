"""What the shell offers on TAB: incidents and agents of the store, detectors, drills.

Nothing is made, waited for or printed: a store that is not there, or not a file, offers nothing.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer

from config.errors import CorrectableError
from config.settings import load

_MOST: Final = 100
_WAIT_S: Final = 0.2
_SQLITE: Final = "sqlite:///"
_ALL: Final = "SELECT incident_id, headline FROM incidents ORDER BY opened_ms DESC LIMIT ?"
_OPEN: Final = (
    "SELECT incident_id, headline FROM incidents WHERE state != 'resolved' ORDER BY opened_ms DESC LIMIT ?"
)
_AGENTS: Final = (
    "SELECT tenant, agent, session FROM incidents UNION SELECT tenant, agent, session FROM targets"
)
_SILENCES: Final = "SELECT silence_id, agent FROM silences ORDER BY until_ms DESC LIMIT ?"
Offered = list[tuple[str, str]]
"""What can be typed, and a word about it where the shell shows one."""


def incidents(context: typer.Context, incomplete: str) -> Offered:
    """Every incident, newest first."""
    return _fitting(_rows(context, _ALL, _MOST), incomplete)


def open_incidents(context: typer.Context, incomplete: str) -> Offered:
    """Those that something can be done about."""
    return _fitting(_rows(context, _OPEN, _MOST), incomplete)


def targets(context: typer.Context, incomplete: str) -> Offered:
    """Agents with an incident or an order; the sessions of one once its name and a slash are typed."""
    found: dict[str, str] = {}
    for tenant, agent, session in _rows(context, _AGENTS):
        names = (f"{tenant}/{agent}", *((agent,) if tenant == "default" and agent != "*" else ()))
        for name in names:
            found.setdefault(name, "agent")
            if session is not None and incomplete.startswith(f"{name}/"):
                found.setdefault(f"{name}/{session}", "session")
    return _fitting(sorted(found.items()), incomplete)


def silenceable(context: typer.Context, incomplete: str) -> Offered:
    """What can be silenced: an open incident or an agent."""
    return open_incidents(context, incomplete) + targets(context, incomplete)


def silenced(context: typer.Context, incomplete: str) -> Offered:
    """What may be silent: a silence by its id, an open incident, an agent."""
    return _fitting(_rows(context, _SILENCES, _MOST), incomplete) + silenceable(context, incomplete)


def detectors(incomplete: str) -> Offered:
    """Every detector, with what it finds."""
    from responders.pages.wording import HAPPENINGS

    return _fitting(HAPPENINGS.items(), incomplete)


def runbooks(incomplete: str) -> Offered:
    """Every runbook."""
    from responders.pages.runbooks import sections

    return _fitting(((name, "") for name in sections()), incomplete)


def drills(incomplete: str) -> Offered:
    """Every drill, with what happened."""
    from drills.catalogue import DRILLS

    return _fitting(((each.name, each.story) for each in DRILLS), incomplete)


def rungs(incomplete: str) -> Offered:
    """What an agent can step down to."""
    words = {"rag": "retrieval only", "keyword": "keyword search", "static": "static answers"}
    return _fitting(words.items(), incomplete)


def _fitting(offered: Any, incomplete: str) -> Offered:
    return [(str(name), str(word)) for name, word in offered if str(name).startswith(incomplete)]


def _rows(context: typer.Context, statement: str, *parameters: Any) -> Iterator[tuple[Any, ...]]:
    with contextlib.suppress(sqlite3.Error, CorrectableError):
        file = _store(context)
        if file is not None and file.is_file():
            with contextlib.closing(sqlite3.connect(_read_only(file), uri=True, timeout=_WAIT_S)) as store:
                yield from store.execute(statement, parameters)


def _store(context: typer.Context) -> Path | None:
    """The store's file, by the options typed so far and the settings."""
    folder, config = context.params.get("data_dir"), context.params.get("config")
    settings = load(config, **({} if folder is None else {"data_dir": folder}))
    url = settings.database_url
    return Path(url.removeprefix(_SQLITE)) if url.startswith(_SQLITE) else None


def _read_only(file: Path) -> str:
    """To read a store that nobody has open without leaving files beside it."""
    in_use = file.with_name(f"{file.name}-wal").exists()
    return f"{file.absolute().as_uri()}?{'mode=ro' if in_use else 'immutable=1'}"
